"""Signs of life between nodes: each active node gives them, and notices when those of another cease."""

from __future__ import annotations

import threading
import time

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

PERIOD = 0.2
"""Seconds between two signs of life."""


class Heartbeat:
    """Topic `heartbeat`: frame_id says which kind of node lives; an empty stamp is a farewell.

    Args:
        node: on whose behalf.
        role: what it is, whatever it was renamed to.
    """

    def __init__(self, node: Node, role: str) -> None:
        self._node, self._role = node, role
        self._lock, self._last = threading.Lock(), dict[str, float]()
        group = MutuallyExclusiveCallbackGroup()
        self._publisher = node.create_publisher(Header, 'heartbeat', QoSProfile(depth=10))
        self._subscription = node.create_subscription(Header, 'heartbeat', self._hear, QoSProfile(depth=10),
                                                      callback_group=group)

    def beat(self) -> None:
        """Give a sign of life."""
        self._publisher.publish(Header(stamp=self._node.get_clock().now().to_msg(), frame_id=self._role))

    def farewell(self) -> None:
        """Nobody need worry any more."""
        self._publisher.publish(Header(frame_id=self._role))

    def silent(self, role: str) -> float:
        """Seconds since the last sign of a node, 0 if it never gave one or said farewell."""
        with self._lock:
            return time.monotonic() - self._last[role] if role in self._last else 0.0

    def _hear(self, message: Header) -> None:
        with self._lock:
            if message.stamp.sec or message.stamp.nanosec:
                self._last[message.frame_id[:100]] = time.monotonic()
            else:
                self._last.pop(message.frame_id, None)
