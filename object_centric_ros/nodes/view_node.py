"""What the web page shows and asks for: a node that keeps the newest messages and passes goals and stops on."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import rclpy
from action_msgs.srv import CancelGoal
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Empty

from object_centric_ros.action import BuildGoal
from object_centric_ros.errors import InputError
from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes.clients import SafeActionClient
from object_centric_ros.nodes.images import to_rgb
from object_centric_ros.nodes.messages import seconds
from object_centric_ros.nodes.spinning import Spinner

MAX_ROWS = 256
LEVELS = ('ok', 'warn', 'error', 'stale')
STATUS = {4: 'reached', 5: 'cancelled', 6: 'given up'}


class Pictures:
    """The newest image of a topic as JPEG; made when somebody asks for it, once an image."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._message: Image | None = None
        self._jpeg = b''
        self._encoded = self.number = 0

    def put(self, message: Image) -> None:
        """Take an image."""
        with self._lock:
            self._message, self.number = message, self.number + 1

    def jpeg(self) -> bytes:
        """The newest image; empty while there is none that can be shown."""
        with self._lock:
            if self._message is not None and self._encoded != self.number:
                self._encoded = self.number
                try:
                    bgr = cv2.cvtColor(to_rgb(self._message), cv2.COLOR_RGB2BGR)
                    self._jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
                except InputError:
                    self._jpeg = b''
            return self._jpeg


class ViewNode(Node):
    """Subscribes to what the nodes publish; every method may be called from any thread.

    Args:
        namespace: of the nodes.
        context: of rclpy.
    """

    def __init__(self, namespace: str = '', **arguments: Any) -> None:
        super().__init__('view', namespace=namespace, **arguments)
        self.overlay, self.plan = Pictures(), Pictures()
        self._lock = threading.Lock()
        self._entities: dict[str, Any] = {'rows': [], 'age': None}
        self._heard = -math.inf
        self._nodes: dict[str, dict[str, Any]] = {}
        self._build: dict[str, Any] = {'state': 'none', 'message': ''}
        self._stopped = 0
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(EntityArray, 'entities', self._on_entities, newest)
        self.create_subscription(Image, 'overlay', self.overlay.put, newest)
        self.create_subscription(Image, 'plan', self.plan.put, QoSProfile(depth=1))
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 20)
        self._client = SafeActionClient(self, BuildGoal, 'build_goal')
        self._cancels = {name: self.create_client(CancelGoal, f'{name}/_action/cancel_goal')
                         for name in ('build_goal', 'pick_place')}
        self._stop = self.create_publisher(Empty, 'stop', 10)

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _on_entities(self, message: EntityArray) -> None:
        rows = [{'id': int(e.id), 'visible': bool(e.visible), 'confidence': number(e.confidence),
                 'position': [number(x) for x in (e.position.x, e.position.y, e.position.z)],
                 'colour': [number(c) for c in (e.colour.r, e.colour.g, e.colour.b)]}
                for e in message.entities[:MAX_ROWS]]
        now = 1e-9 * self.get_clock().now().nanoseconds
        with self._lock:
            self._heard = time.monotonic()
            self._entities = {'rows': rows, 'frame': message.work_frame, 'model': message.model_id[:200],
                              'latency_ms': number(1e3 * (now - seconds(message.header.stamp))),
                              'model_ms': number(1e3 * message.inference_time)}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = self.get_namespace().strip('/')
        for status in message.status[:100]:
            name, what, _ = status.name.partition(': state')
            space, _, simple = name.strip('/').rpartition('/')
            if not what or space != own:
                continue
            values = {v.key: v.value for v in status.values}
            latency = {k: values[k] for k in ('latency_p50_ms', 'latency_p95_ms', 'latency_p99_ms', 'model_p50_ms',
                                              'model_p95_ms') if k in values}
            level = int.from_bytes(status.level, 'little') if isinstance(status.level, bytes) else int(status.level)
            with self._lock:
                self._nodes[simple[:100]] = {'level': LEVELS[min(level, 3)], 'message': status.message[:500],
                                             'latency': latency, 'at': time.monotonic()}
                if len(self._nodes) > 50:
                    self._nodes.pop(next(iter(self._nodes)))

    def state(self) -> dict[str, Any]:
        """All but the pictures, as plain numbers and strings; ages in seconds."""
        now = time.monotonic()
        with self._lock:
            heard = None if self._heard == -math.inf else round(now - self._heard, 2)
            nodes = {name: {k: v for k, v in node.items() if k != 'at'} | {'age': round(now - node['at'], 1)}
                     for name, node in sorted(self._nodes.items())}
            return {'entities': self._entities | {'age': heard}, 'nodes': nodes, 'build': dict(self._build),
                    'stops': self._stopped, 'planner': self._client.server_is_ready(),
                    'pictures': {'overlay': self.overlay.number, 'plan': self.plan.number}}

    def camera_image(self, patience: float) -> NDArray[np.uint8] | None:
        """The next camera image [H, W, 3]; None if none came in time. The camera is listened to for so long only."""
        there, images = threading.Event(), []

        def take(message: Image) -> None:
            images.append(message)
            there.set()

        subscription = self.create_subscription(Image, 'image', take,
                                                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        try:
            there.wait(patience)
        finally:
            self.destroy_subscription(subscription)
        return to_rgb(images[0]).copy() if images else None

    # ---- what goes out ----------------------------------------------------------------------------------------------

    def build(self, goal: BuildGoal.Goal) -> None:
        """Send a goal; how it goes is in `state`.

        Raises:
            InputError: one is under way, or there is no planner.
        """
        with self._lock:
            if self._build['state'] in ('sent', 'building'):
                raise InputError('goal', 'one at a time; stop the one that is being built', 'another one')
            if not self._client.server_is_ready():
                raise InputError('action build_goal', 'a running planner (pick_place_planner)', 'none')
            self._build = {'state': 'sent', 'message': ''}
        self._client.send_goal_async(goal, self._on_feedback).add_done_callback(self._on_answer)

    def _on_answer(self, future: Any) -> None:
        handle = future.result()
        if handle is None or not handle.accepted:
            self._ended('refused', 'the planner did not take it')
            return
        with self._lock:
            self._build['state'] = 'building'
        handle.get_result_async().add_done_callback(self._on_result)

    def _on_feedback(self, message: Any) -> None:
        f = message.feedback
        with self._lock:
            self._build |= {'step': int(f.step), 'cost': number(f.cost), 'stage': f.stage[:50],
                            'entity': int(f.entity_id), 'place': [number(f.place.x), number(f.place.y)],
                            'remark': f.remark[:500]}

    def _on_result(self, future: Any) -> None:
        answer = future.result()
        if answer is None:
            self._ended('lost', 'the planner has gone')
            return
        self._ended(STATUS.get(answer.status, 'ended'), answer.result.message[:1000], steps=int(answer.result.steps))

    def _ended(self, state: str, message: str, **more: Any) -> None:
        with self._lock:
            self._build |= {'state': state, 'message': message, **more}

    def stop(self) -> list[str]:
        """Cancel whatever build_goal and pick_place are doing, whoever asked for it; which of them were there.

        Nodes that listen to the topic `stop` are told too.
        """
        self._stop.publish(Empty())
        asked = []
        for name, client in self._cancels.items():
            if client.service_is_ready():
                _send(client)
                asked.append(name)
        with self._lock:
            self._stopped += 1
        return asked


def _send(client: Client) -> None:
    client.call_async(CancelGoal.Request())  # no id and no time: all goals


def number(value: float) -> float | None:
    """A number as JSON may hold it."""
    return round(float(value), 5) if math.isfinite(value) else None


@contextlib.contextmanager
def spinning_view(namespace: str) -> Iterator[ViewNode]:
    """A ViewNode that a thread of its own spins for as long as the context lasts."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node, executor = ViewNode(namespace), SingleThreadedExecutor()
    executor.add_node(node)
    spinner = Spinner(executor)
    try:
        yield node
    finally:
        spinner.end()
        node.destroy_node()
        rclpy.try_shutdown()
