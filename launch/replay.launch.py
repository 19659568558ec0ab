"""A bag as if it were live, with perception on it: ros2 launch object_centric_ros replay.launch.py bag:=my_bag"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare('object_centric_ros'), 'config'])
TOPICS = {
    'image': 'colour images of the bag (sensor_msgs/Image)',
    'camera_info': 'calibration of that camera (sensor_msgs/CameraInfo)',
    'joint_states': 'joints of the arm (sensor_msgs/JointState)',
    'executed_actions': 'what the arm has done (object_centric_ros/ExecutedAction)',
}


def start(context: LaunchContext) -> list:
    """`ros2 bag play` with the bag's clock, perception, and a recorder if asked for; the end of the bag ends all."""
    bag, rate, loop, record = (LaunchConfiguration(n).perform(context) for n in ('bag', 'rate', 'loop', 'record'))
    topics = [LaunchConfiguration(topic).perform(context) for topic in TOPICS]
    # Only perception's input is played: what the bag says of entities would mix with what perception says now.
    play = ExecuteProcess(
        cmd=['ros2', 'bag', 'play', bag, '--clock', '--rate', rate, '--topics', *(f'/{t.lstrip("/")}' for t in topics)]
        + ['--loop'] * (loop == 'true'),
        output='screen',
    )
    perception = Node(
        package='object_centric_ros',
        executable='entity_perception',
        parameters=[LaunchConfiguration('params_file'), {'use_sim_time': True}],
        remappings=[(topic, f'/{name.lstrip("/")}') for topic, name in zip(TOPICS, topics, strict=True)],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    ended = RegisterEventHandler(
        OnProcessExit(target_action=play, on_exit=[EmitEvent(event=Shutdown(reason='the bag has ended'))])
    )
    recorder = ExecuteProcess(
        cmd=['ros2', 'bag', 'record', '-s', 'mcap', '-o', record, 'entities', 'label_image', 'overlay'], output='screen'
    )
    return [perception, *([recorder] if record else []), play, ended]


def generate_launch_description() -> LaunchDescription:
    """Live replay of a bag; `object-centric replay BAG` does the same offline, as fast as it can."""
    arguments = [DeclareLaunchArgument(name, default_value=name, description=text) for name, text in TOPICS.items()]
    arguments += [
        DeclareLaunchArgument('bag', description='folder or file of the bag'),
        DeclareLaunchArgument('rate', default_value='1.0', description='speed of the bag; 1.0: as it was recorded'),
        DeclareLaunchArgument(
            'loop', default_value='false', choices=['true', 'false'], description='play it again and again'
        ),
        DeclareLaunchArgument(
            'record', default_value='', description='folder of a new bag for what perception says; empty: none'
        ),
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution([CONFIG, 'entity_perception.yaml']),
            description='parameter file of entity_perception',
        ),
        DeclareLaunchArgument(
            'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error'], description='least severity'
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
