"""Records topics of a running system into a bag, whatever their types are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from object_centric_ros.nodes.bag import BagWriter
from object_centric_ros.nodes.diagnostics import Diagnostics


class Recorder:
    """Subscribes to each topic once it has a publisher, with the QoS that all its publishers offer.

    Args:
        node: on whose behalf.
        bag: takes the messages; topics are in it under the names that they have after remapping.
        topics: names, as in the node.
        heard: called with topic (as given), time of arrival (ns) and serialised message, after it was written; always
            by one thread at a time.
        diagnostics: complaints.
    """

    def __init__(self, node: Node, bag: BagWriter, topics: Sequence[str], heard: Callable[[str, int, bytes], None],
                 diagnostics: Diagnostics) -> None:
        self._node, self._bag, self._heard, self._diagnostics = node, bag, heard, diagnostics
        self._missing = list(dict.fromkeys(topics))
        self._found: set[str] = set()
        self._last = 0
        self._heard_topics: list[Subscription] = []
        self._group = MutuallyExclusiveCallbackGroup()
        self._timer = node.create_timer(0.2, self._look, callback_group=self._group)

    def has(self, topic: str) -> bool:
        """Whether a topic is being recorded."""
        return topic in self._found

    def close(self) -> None:
        """Hear nothing any more."""
        self._timer.cancel()
        self._node.destroy_timer(self._timer)
        while self._heard_topics:
            self._node.destroy_subscription(self._heard_topics.pop())

    def _look(self) -> None:
        """Subscribe to what has come."""
        for topic in list(self._missing):
            publishers = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
            if not publishers:
                continue
            self._missing.remove(topic)
            name = publishers[0].topic_type
            package, kind, simple = name.split('/')
            try:
                message = getattr(import_module(f'{package}.{kind}'), simple)
            except (ImportError, AttributeError):
                self._diagnostics.condition(f'topic {topic}', 'error', f'{topic}: message type {name} is not installed')
                continue
            offered = [p.qos_profile for p in publishers]
            reliable = all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered)
            latched = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
            profile = QoSProfile(
                depth=10, reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)
            self._bag.add_topic(self._node.resolve_topic_name(topic), message, reliable, latched)
            self._heard_topics.append(self._node.create_subscription(
                message, topic, partial(self._take, topic), profile, callback_group=self._group, raw=True))
            self._found.add(topic)
        if not self._missing:
            self._timer.cancel()

    def _take(self, topic: str, data: bytes) -> None:
        # Times of a bag never go back, even where the clock does: readers of bags without an index ask for it.
        self._last = now = max(self._node.get_clock().now().nanoseconds, self._last)
        self._bag.write(self._node.resolve_topic_name(topic), now, data)
        self._heard(topic, now, data)
