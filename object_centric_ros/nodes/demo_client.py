"""The demo's ears and mouth: hears every topic (into a bag if wished), resets the simulator, sends goals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header, String
from visualization_msgs.msg import MarkerArray

from object_centric_ros.action import BuildGoal
from object_centric_ros.action import PickPlace as PickPlaceAction
from object_centric_ros.msg import EntityArray, ExecutedAction
from object_centric_ros.nodes.bag import BagWriter
from object_centric_ros.nodes.clients import SafeActionClient
from object_centric_ros.nodes.images import from_array
from object_centric_ros.nodes.messages import nanoseconds, seconds
from object_centric_ros.nodes.processes import NodeFailed
from object_centric_ros.nodes.spinning import Spinner
from object_centric_ros.srv import ResetWorld

PROGRESS = '/demo/progress'
"""Where a bag holds the feedback of build_goal, as JSON: bags hold messages, not parts of actions."""


@dataclass
class Heard:
    """A topic: its type, how often it is put into the bag at most (Hz), and the newest message, still serialised."""

    kind: Any
    bag_hz: float
    best_effort: bool = False
    data: bytes | None = None
    at_ns: int = 0
    count: int = 0
    next_bag_ns: int = 0


def topics() -> dict[str, Heard]:
    """What the demo listens to."""
    often = 1e9
    return {'image': Heard(Image, 4.0, True), 'camera_info': Heard(CameraInfo, 4.0, True),
            'joint_states': Heard(JointState, 15.0), 'executed_actions': Heard(ExecutedAction, often),
            'entities': Heard(EntityArray, 15.0), 'label_image': Heard(Image, 5.0), 'overlay': Heard(Image, 2.0),
            'markers': Heard(MarkerArray, 5.0), 'plan': Heard(Image, often),
            '/diagnostics': Heard(DiagnosticArray, often),
            'ground_truth/blocks': Heard(PoseArray, 5.0)}


def absolute(name: str) -> str:
    """A topic's name from the root."""
    return name if name.startswith('/') else f'/{name}'


def feedback_mapping(feedback: BuildGoal.Feedback) -> dict[str, Any]:
    """Feedback of build_goal as plain data; positions [3] in m."""
    def xyz(p: Any) -> list[float]:
        return [p.x, p.y, p.z]

    cost = float(feedback.cost)
    return {'step': int(feedback.step), 'stage': feedback.stage, 'cost': cost if np.isfinite(cost) else None,
            'entity_id': int(feedback.entity_id), 'pick': xyz(feedback.pick), 'place': xyz(feedback.place),
            'remark': feedback.remark}


@dataclass
class Build:
    """A goal under way: when it was sent (monotonic s), progress as it comes, and the end."""

    sent: float
    feedback: list[tuple[float, BuildGoal.Feedback]] = field(default_factory=list)
    plans: list[tuple[float, dict[str, bytes]]] = field(default_factory=list)
    latency: list[tuple[float, float, float]] = field(default_factory=list)
    handle: Any = None
    refused: bool = False
    result: BuildGoal.Result | None = None
    ended: float = float('nan')


class DemoClient:
    """A ROS node in a thread; a context manager.

    Args:
        check: called while waiting; raises if it is no use waiting any longer.
        bag: takes the messages.
    """

    def __init__(self, check: Callable[[], None] = lambda: None, bag: BagWriter | None = None) -> None:
        self._check, self.bag = check, bag
        self.changed = threading.Condition()
        self.heard = topics()
        self.build: Build | None = None
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node('demo', context=self._context)
        for name, topic in self.heard.items():
            reliability = ReliabilityPolicy.BEST_EFFORT if topic.best_effort else ReliabilityPolicy.RELIABLE
            profile = QoSProfile(depth=2 if topic.best_effort else 10, reliability=reliability)
            self.node.create_subscription(topic.kind, name, partial(self._take, name), profile, raw=True)
            if bag is not None:
                bag.add_topic(absolute(name), topic.kind, not topic.best_effort)
        if bag is not None:
            bag.add_topic(PROGRESS, String)
        self.goals = SafeActionClient(self.node, BuildGoal, 'build_goal')
        self.arm = SafeActionClient(self.node, PickPlaceAction, 'pick_place')
        self.resets = self.node.create_client(ResetWorld, 'reset')
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self.node)
        self._spinner = Spinner(executor)

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _take(self, name: str, data: bytes) -> None:
        now, topic = time.time_ns(), self.heard[name]
        if self.bag is not None and now >= topic.next_bag_ns:
            topic.next_bag_ns = now + int(0.9e9 / topic.bag_hz)
            self.bag.write(absolute(name), now, data)
        with self.changed:
            topic.data, topic.at_ns, topic.count = data, now, topic.count + 1
            build = self.build
            if build is not None and build.result is None:
                since = time.monotonic() - build.sent
                if name == 'entities':
                    message = deserialize_message(data, EntityArray)
                    age = 1e-9 * (now - nanoseconds(message.header.stamp))
                    build.latency.append((since, age, float(message.inference_time)))
                elif name == 'plan' and (not build.plans or build.plans[-1][1]['plan'] != data):
                    build.plans.append((since, self.picture()))
            self.changed.notify_all()

    def picture(self) -> dict[str, bytes]:
        """The newest message of each topic, serialised."""
        return {name: topic.data for name, topic in self.heard.items() if topic.data is not None}

    def newest(self, name: str) -> Any:
        """The newest message of a topic, or None."""
        topic = self.heard[name]
        return None if topic.data is None else deserialize_message(topic.data, topic.kind)

    def read(self, picture: dict[str, bytes], name: str) -> Any:
        """A topic's message in a `picture`, or None."""
        return deserialize_message(picture[name], self.heard[name].kind) if name in picture else None

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def wait(self, until: Callable[[], bool], timeout: float, what: str,
             meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait for a condition; `meanwhile` is called over and over, in the caller's thread.

        Raises:
            NodeFailed: a node has ended, or `timeout` seconds passed; names `what` was waited for.
        """
        end = time.monotonic() + timeout
        while True:
            with self.changed:
                if not until():
                    self.changed.wait(0.05)
                if until():
                    return
            if (failure := self._spinner.failure) is not None:
                raise NodeFailed(f'the demo\'s own node failed: {failure!r}') from failure
            self._check()
            meanwhile()
            if time.monotonic() > end:
                raise NodeFailed(f'{what} did not come within {timeout:.0f} s')

    def news(self, names: tuple[str, ...], since_ns: int) -> bool:
        """Whether each of the topics, all with headers, brought a message that is stamped after that time."""
        for name in names:
            topic = self.heard[name]
            if topic.at_ns <= since_ns or topic.data is None:
                return False
            sec, nanosec = np.frombuffer(topic.data[4:12], '<i4')  # after the CDR header
            if int(sec) * 10**9 + int(nanosec) <= since_ns:
                return False
        return True

    # ---- requests ---------------------------------------------------------------------------------------------------

    def reset(self, seed: int, n_blocks: int, timeout: float = 30.0) -> None:
        """Start a new scene in the simulator; it refuses while the arm moves, and is then asked again."""
        end = time.monotonic() + timeout
        while True:
            future = self.resets.call_async(ResetWorld.Request(seed=seed, n_blocks=n_blocks))
            self.wait(future.done, timeout, 'the answer of the simulator to reset')
            answer = future.result()
            if answer.success:
                return
            if time.monotonic() > end:
                raise NodeFailed(f'the simulator refused to reset: {answer.message}')
            asked = self.heard['joint_states'].count
            self.wait(lambda n=asked + 10: self.heard['joint_states'].count >= n, timeout, 'joint states')  # type: ignore[misc]

    def send_goal(self, image: NDArray[np.uint8], max_plans: int = 0) -> Build:
        """Ask the planner to build what an image [H, W, 3] shows; returns at once."""
        goal = BuildGoal.Goal(image=from_array(image, Header(stamp=self.node.get_clock().now().to_msg()), 'rgb8'),
                              max_plans=max_plans)
        build = Build(time.monotonic())
        with self.changed:
            self.build = build

        def feedback(message: Any) -> None:
            if self.bag is not None:
                text = String(data=json.dumps(feedback_mapping(message.feedback)))
                self.bag.write(PROGRESS, time.time_ns(), serialize_message(text))
            with self.changed:
                build.feedback.append((time.monotonic() - build.sent, message.feedback))
                self.changed.notify_all()

        def ended(future: Any) -> None:
            with self.changed:
                build.result, build.ended = future.result().result, time.monotonic() - build.sent
                self.changed.notify_all()

        def answered(future: Any) -> None:
            handle = future.result()
            with self.changed:
                build.handle, build.refused = handle, not handle.accepted
                self.changed.notify_all()
            if handle.accepted:
                handle.get_result_async().add_done_callback(ended)

        self.goals.send_goal_async(goal, feedback_callback=feedback).add_done_callback(answered)
        return build

    def cancel(self, build: Build) -> None:
        """Ask the planner to stop."""
        if build.handle is not None and build.handle.accepted and build.result is None:
            build.handle.cancel_goal_async()

    def block_positions(self) -> NDArray[np.float64]:
        """True block centres [N, 3] (m), for judging alone."""
        poses = self.newest('ground_truth/blocks').poses
        return np.array([[p.position.x, p.position.y, p.position.z] for p in poses]).reshape(-1, 3)

    def stamp(self, name: str) -> float:
        """Stamp (s) of a topic's newest message."""
        return seconds(self.newest(name).header.stamp)

    def close(self) -> None:
        """End the node."""
        self._spinner.end()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def __enter__(self) -> DemoClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
