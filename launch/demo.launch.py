"""Simulated arm and camera, perception and planner: ros2 launch object_centric_ros demo.launch.py"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from object_centric_ros.resources import node_environment, share_file

NODES = ('tabletop_sim', 'entity_perception', 'pick_place_planner')


def generate_launch_description() -> LaunchDescription:
    """The three nodes as processes of their own; the goal is then sent to the action build_goal."""
    arguments = [
        DeclareLaunchArgument(
            f'{node}_params', default_value=str(share_file(f'config/{node}.yaml')), description=f'parameters of {node}'
        )
        for node in NODES
    ]
    arguments += [
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the nodes'),
        DeclareLaunchArgument(
            'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error'], description='least severity'
        ),
    ]
    nodes = [
        Node(
            package='object_centric_ros',
            executable=node,
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration(f'{node}_params')],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            output='screen',
        )
        for node in NODES
    ]
    environment = [SetEnvironmentVariable(name, value) for name, value in node_environment().items()]
    return LaunchDescription([*environment, *arguments, *nodes])
