"""Perception on one's own camera: ros2 launch object_centric_ros perception.launch.py image:=/camera/image_raw ..."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare('object_centric_ros'), 'config'])
AUTOSTART = {'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool)}
TOPICS = {
    'image': 'colour images of the table (sensor_msgs/Image)',
    'camera_info': 'calibration of that camera (sensor_msgs/CameraInfo)',
    'joint_states': 'joints of the arm (sensor_msgs/JointState)',
    'executed_actions': 'what the arm has done (object_centric_ros/ExecutedAction)',
}


def generate_launch_description() -> LaunchDescription:
    """entity_perception alone, its input topics given as arguments."""
    arguments = [DeclareLaunchArgument(name, default_value=name, description=text) for name, text in TOPICS.items()]
    arguments += [
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the node'),
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution([CONFIG, 'entity_perception.yaml']),
            description='parameter file',
        ),
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
    node = Node(
        package='object_centric_ros',
        executable='entity_perception',
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('params_file'), AUTOSTART],
        remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    return LaunchDescription([*arguments, node])
