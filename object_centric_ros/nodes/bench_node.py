"""Feeds the perception node with camera images and times its answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from object_centric_ros.evaluation.speed import stream
from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes.cameras import info_from_camera
from object_centric_ros.nodes.images import from_array
from object_centric_ros.nodes.messages import nanoseconds
from object_centric_ros.nodes.processes import NodeFailed
from object_centric_ros.nodes.spinning import Spinner
from object_centric_ros.simulation.tabletop_scene import TabletopConfig

WARM_UP = 60
"""Answers that are not counted."""


@dataclass
class NodeTimes:
    """Times of answers.

    Attributes:
        sent: images sent after the warm-up.
        arrival: image stamp to arrival of its entities, seconds [N].
        model: time in the model that they report, seconds [N].
        diagnostics: the node's own last account, key -> value.
    """

    sent: int
    arrival: NDArray[np.float64]
    model: NDArray[np.float64]
    diagnostics: dict[str, str] = field(default_factory=dict)


class Feeder:
    """A camera for the node and an ear for its answers."""

    def __init__(self, seed: int) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node('bench_camera', context=self._context)
        self._images = self.node.create_publisher(Image, 'image', QoSProfile(depth=2))
        self._infos = self.node.create_publisher(CameraInfo, 'camera_info', QoSProfile(depth=2))
        newest = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.node.create_subscription(EntityArray, 'entities', self._answer, newest)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, QoSProfile(depth=10))
        self.camera = TabletopConfig().camera()
        self.pictures = [image for image, _, _ in islice(stream(seed, still=30), 30)]
        self.answers: list[tuple[float, float]] = []
        self.diagnostics: dict[str, str] = {}
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self.node)
        self._spinner = Spinner(executor)

    def _answer(self, message: EntityArray) -> None:
        age = 1e-9 * (time.time_ns() - nanoseconds(message.header.stamp))
        self.answers.append((age, float(message.inference_time)))

    def _diagnose(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith('entity_perception'):
                self.diagnostics = {v.key: v.value for v in status.values}

    def send(self, number: int) -> None:
        """Publish one image and its camera info, stamped now."""
        picture = self.pictures[number % len(self.pictures)]
        message = from_array(picture, Header(frame_id='camera_optical_frame'), 'rgb8')
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._infos.publish(info_from_camera(self.camera, message.header))
        self._images.publish(message)

    def close(self) -> None:
        """End the node."""
        self._spinner.end()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)


def measure_node(check: Callable[[], None], frames: int, rate: float, seed: int = 0,
                 patience: float = 60.0) -> NodeTimes:
    """Send images at `rate` (Hz), `frames` of them after a warm-up, to the entity_perception that runs by now.

    Raises:
        NodeFailed: it does not answer within `patience` seconds, or `check` raises.
    """
    feeder = Feeder(seed)
    pause = threading.Event()
    try:
        began = due = time.monotonic()
        number, first = 0, None
        while first is None or number - first < frames:
            if first is None and len(feeder.answers) >= WARM_UP:
                first = number
                feeder.answers.clear()
            if first is None and time.monotonic() - began > patience:
                raise NodeFailed(f'entity_perception gave {len(feeder.answers)} answers in {patience:.0f} s')
            check()
            feeder.send(number)
            number += 1
            due = max(due + 1 / rate, time.monotonic() - 1 / rate)
            pause.wait(max(0.0, due - time.monotonic()))
        pause.wait(1.5)  # the last answers, and a last account of the node
        answers = np.array(feeder.answers[:frames], float).reshape(-1, 2)
        return NodeTimes(number - first, answers[:, 0], answers[:, 1], dict(feeder.diagnostics))
    finally:
        feeder.close()
