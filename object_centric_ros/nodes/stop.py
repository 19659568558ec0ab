"""A stop that everyone can pull: a service of each node that moves an arm, and one topic for all of them."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Empty
from std_srvs.srv import Trigger


class StopSwitch:
    """Service `~/stop` and topic `stop`, in every state of the node.

    Args:
        node: whose they are; its executor needs a thread that is free for them.
        stop: called with who asks; ends what is under way without waiting for it, and says what that is, '' if nothing.
    """

    def __init__(self, node: Node, stop: Callable[[str], str]) -> None:
        self._node, self._stop = node, stop
        group = ReentrantCallbackGroup()
        self._service = node.create_service(Trigger, '~/stop', self._asked, callback_group=group)
        self._topic = node.create_subscription(Empty, 'stop', self._told, QoSProfile(depth=10), callback_group=group)

    def _asked(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, self._pull('the service stop')
        return response

    def _told(self, message: Empty) -> None:
        self._pull('the topic stop')

    def _pull(self, source: str) -> str:
        stopped = self._stop(f'stopped by {source}')
        said = f'{stopped} is stopped' if stopped else 'nothing was under way'
        self._node.get_logger().warning(f'{source}: {said}')
        return said
