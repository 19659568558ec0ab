"""Simulated arm and camera, perception and planner: ros2 launch object_centric_ros demo.launch.py"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare('object_centric_ros'), 'config'])
AUTOSTART = {'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool)}
NODES = ('tabletop_sim', 'entity_perception', 'pick_place_planner')


def generate_launch_description() -> LaunchDescription:
    """The three nodes as processes of their own; the goal is then sent to the action build_goal."""
    arguments = [
        DeclareLaunchArgument(
            f'{node}_params',
            default_value=PathJoinSubstitution([CONFIG, f'{node}.yaml']),
            description=f'parameter file of {node}',
        )
        for node in NODES
    ]
    arguments += [
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the nodes'),
        DeclareLaunchArgument(
            'autostart',
            default_value='true',
            choices=['true', 'false'],
            description='lifecycle nodes become active by themselves',
        ),
        DeclareLaunchArgument(
            'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error'], description='least severity'
        ),
    ]
    nodes = [
        Node(
            package='object_centric_ros',
            executable=node,
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration(f'{node}_params')] + [AUTOSTART] * (node != 'tabletop_sim'),
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            output='screen',
        )
        for node in NODES
    ]
    return LaunchDescription([*arguments, *nodes])
