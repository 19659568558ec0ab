"""Perception and planner for one's own robot: ros2 launch object_centric_ros pick_place.launch.py image:=... ..."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare('object_centric_ros'), 'config'])
TOPICS = {
    'image': 'colour images of the table (sensor_msgs/Image)',
    'camera_info': 'calibration of that camera (sensor_msgs/CameraInfo)',
    'joint_states': 'joints of the arm (sensor_msgs/JointState)',
    'executed_actions': 'what the arm has done (object_centric_ros/ExecutedAction)',
    'pick_place': "action of the arm's own server (object_centric_ros/PickPlace)",
}
PARTS = [f'/_action/{part}' for part in ('send_goal', 'get_result', 'cancel_goal', 'feedback', 'status')]
NODES = {
    'entity_perception': ('image', 'camera_info', 'joint_states', 'executed_actions'),
    'pick_place_planner': ('camera_info', 'pick_place'),
}


def renamed(name: str, new: str) -> list[tuple[str, str]]:
    """Remappings of a topic, or of all parts of an action, which Jazzy does not remap by its name."""
    return [(f'{name}{part}', f'{new}{part}') for part in (PARTS if name == 'pick_place' else [''])]


def start(context: LaunchContext) -> list[Node]:
    """The nodes; an argument that is empty leaves to the parameter files what they say."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ('checkpoint', 'device', 'camera_file')}
    parameters = [{'autostart': LaunchConfiguration('autostart').perform(context) == 'true'}]
    parameters += [{name: given[name]} for name in ('checkpoint', 'device') if given[name]]
    parameters += [given['camera_file']] if given['camera_file'] else []
    return [
        Node(
            package='object_centric_ros',
            executable=node,
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration(f'{node}_params'), *parameters],
            remappings=[pair for name in names for pair in renamed(name, LaunchConfiguration(name).perform(context))],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            output='screen',
        )
        for node, names in NODES.items()
    ]


def generate_launch_description() -> LaunchDescription:
    """entity_perception and pick_place_planner with one model; camera and arm are the robot's own, as arguments."""
    arguments = [DeclareLaunchArgument(name, default_value=name, description=text) for name, text in TOPICS.items()]
    arguments += [
        DeclareLaunchArgument(
            f'{node}_params',
            default_value=PathJoinSubstitution([CONFIG, f'{node}.yaml']),
            description=f'parameter file of {node}',
        )
        for node in NODES
    ]
    arguments += [
        DeclareLaunchArgument(
            'checkpoint', default_value='', description='model file of both nodes; empty: the weights of the package'
        ),
        DeclareLaunchArgument(
            'device',
            default_value='',
            description='auto, cpu, cuda or cuda:N, for both nodes; empty: as their files say',
        ),
        DeclareLaunchArgument(
            'camera_file',
            default_value='',
            description='parameter file with the pose of the camera, as `object-centric calibrate` writes it; '
            'counts before the parameter files of the nodes. Empty: what these say',
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
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
