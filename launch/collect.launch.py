"""Random interactions of an arm into bags: ros2 launch object_centric_ros collect.launch.py folder:=play actions:=9"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare('object_centric_ros'), 'config'])
AUTOSTART = {'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool)}
NODES = ('tabletop_sim', 'entity_perception', 'interaction_collector')
TOPICS = {
    'image': 'colour images of the table (sensor_msgs/Image)',
    'camera_info': 'calibration of that camera (sensor_msgs/CameraInfo)',
    'joint_states': 'joints of the arm (sensor_msgs/JointState)',
    'executed_actions': 'what the arm has done (object_centric_ros/ExecutedAction)',
}
NEEDED = {
    'tabletop_sim': IfCondition(LaunchConfiguration('sim')),
    'entity_perception': IfCondition(PythonExpression(["'", LaunchConfiguration('targets'), "' == 'entities'"])),
    'interaction_collector': None,
}


def generate_launch_description() -> LaunchDescription:
    """interaction_collector, perception unless positions are enough, and on request the simulated arm.

    All end when the collection does; started again with the same folder, it goes on. The arguments folder, actions
    and targets count before what the parameter file says.
    """
    arguments = [DeclareLaunchArgument(name, default_value=name, description=text) for name, text in TOPICS.items()]
    arguments += [
        DeclareLaunchArgument('folder', default_value='collected', description='folder of the bags'),
        DeclareLaunchArgument('actions', default_value='100', description='actions that it shall hold in the end'),
        DeclareLaunchArgument(
            'targets', default_value='entities', choices=['entities', 'positions'], description='what is moved'
        ),
        DeclareLaunchArgument(
            'sim', default_value='false', choices=['true', 'false'], description='start tabletop_sim as the robot'
        ),
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
    arguments += [
        DeclareLaunchArgument(
            f'{node}_params',
            default_value=PathJoinSubstitution([CONFIG, f'{node}.yaml']),
            description=f'parameter file of {node}',
        )
        for node in NODES
    ]
    chosen = {
        'folder': ParameterValue(LaunchConfiguration('folder'), value_type=str),
        'actions': ParameterValue(LaunchConfiguration('actions'), value_type=int),
        'targets': ParameterValue(LaunchConfiguration('targets'), value_type=str),
    }
    nodes = [
        Node(
            package='object_centric_ros',
            executable=node,
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration(f'{node}_params')]
            + [AUTOSTART] * (node != 'tabletop_sim')
            + [chosen] * (node == 'interaction_collector'),
            remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            condition=NEEDED[node],
            on_exit=Shutdown(reason='the collection has ended') if node == 'interaction_collector' else None,
            output='screen',
        )
        for node in NODES
    ]
    return LaunchDescription([*arguments, *nodes])
