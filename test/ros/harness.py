"""Real node processes and a probe that talks to them over DDS; every wait is for a condition and has an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from object_centric_ros.action import BuildGoal
from object_centric_ros.nodes.cameras import info_from_camera
from object_centric_ros.nodes.images import from_array
from object_centric_ros.nodes.messages import nanoseconds
from object_centric_ros.nodes.spinning import Spinner

SCRIPTED = Path(__file__).with_name('scripted.py')
STATUS = {2: 'executing', 4: 'succeeded', 5: 'canceled', 6: 'aborted'}


class Nodes:
    """Node processes of one test or module, ended with it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._all = folder, []
        self.running: dict[str, subprocess.Popen] = {}

    def start(self, name: str, scripted: bool = False, environment: dict[str, str] | None = None,
              remap: dict[str, str] | None = None, **parameters: object) -> subprocess.Popen:
        """Start a node, scripted.py's or the real one."""
        module = [str(SCRIPTED), name] if scripted else ['-m', f'object_centric_ros.nodes.{name}']
        words = [sys.executable, *module, '--ros-args']
        for key, value in parameters.items():
            words += ['-p', f'{key}:={value}']
        for key, value in (remap or {}).items():
            words += ['-r', f'{key}:={value}']
        with (self._folder / f'{len(self._all)}_{name}.log').open('wb') as log:
            process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT,
                                       env=os.environ | (environment or {}))
        self._all.append(process)
        self.running[name] = process
        return process

    def kill(self, name: str) -> None:
        """End a node without warning."""
        self.running[name].kill()
        self.running.pop(name).wait(60)

    def stop(self, name: str) -> None:
        """End a node as Ctrl-C does: the others hear of it, while one that is killed seems to be there for a while."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGINT)
        process.wait(60)

    def log(self) -> str:
        """What all of them printed."""
        return '\n'.join(f'--- {p.name}\n{p.read_text(errors="replace")}' for p in sorted(self._folder.glob('*.log')))

    def end(self) -> list[int]:
        """Interrupt what still runs; the exit statuses of these."""
        alive = [p for p in self._all if p.poll() is None]
        for p in alive:
            p.send_signal(signal.SIGINT)
        for p in alive:
            try:
                p.wait(60)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait(60)
        self.running.clear()
        return [p.returncode for p in alive]


class Probe:
    """A node in the test's process."""

    def __init__(self, domain: int | None = None) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node('probe', context=self._context)
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self.node)
        self._changed = threading.Condition()
        self.heard: defaultdict[str, list[Any]] = defaultdict(list)
        self.statuses: dict[str, DiagnosticStatus] = {}
        self.status_stamps: dict[str, int] = {}
        self.listen(DiagnosticArray, '/diagnostics')
        self._spinner = Spinner(executor)

    def listen(self, kind: type, topic: str, reliable: bool = True) -> None:
        """Collect the messages of a topic in `heard`."""
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=20, reliability=reliability)
        self.node.create_subscription(kind, topic, lambda m: self._hear(topic, m), qos)

    def _hear(self, topic: str, message: Any) -> None:
        with self._changed:
            if topic == '/diagnostics':
                self.statuses.update({s.name.partition(':')[0]: s for s in message.status})
                self.status_stamps.update({s.name.partition(':')[0]: nanoseconds(message.header.stamp)
                                           for s in message.status})
            else:
                self.heard[topic] = [*self.heard[topic][-200:], message]
            self._changed.notify_all()

    def wait(self, condition: Callable[[], Any], timeout: float, what: str) -> Any:
        """The first true value of `condition`, looked at whenever something is heard and every 50 ms.

        Time in which this process was halted does not count.
        """
        left, last = timeout, time.monotonic()
        with self._changed:
            while not (value := condition()):
                now = time.monotonic()
                left, last = left - min(1.0, now - last), now
                assert left > 0, f'no {what} within {timeout} s'
                self._changed.wait(0.05)
        return value

    def count(self, node: str, name: str) -> int:
        """The value of a counter on /diagnostics, 0 if there is none yet."""
        status = self.statuses.get(node)
        return int({v.key: v.value for v in status.values}.get(name, 0)) if status else 0

    def counted(self, node: str, name: str, at_least: int = 1, timeout: float = 60.0) -> None:
        """Wait until a counter on /diagnostics is large enough."""
        self.wait(lambda: self.count(node, name) >= at_least, timeout, f'{name} >= {at_least} of {node}')

    def again(self, action: Callable[[], Any], condition: Callable[[], Any], timeout: float, what: str) -> Any:
        """Do something now and once a second until a condition holds, as best-effort messages may get lost."""
        began, done = time.monotonic(), 0

        def holds() -> Any:
            nonlocal done
            if time.monotonic() - began >= done:
                done += 1
                action()
            return condition()

        return self.wait(holds, timeout, what)

    def ask(self, send: Callable[[], Future], ready: Callable[[], bool], what: str, timeout: float = 60.0,
            every: float = 2.0) -> Future:
        """The first request that is answered; a server that was killed seems ready for a while: one `every` s."""
        requests: list[Future] = []
        began = time.monotonic()

        def answered() -> Future | None:
            if time.monotonic() - began >= every * len(requests) and ready():
                requests.append(send())
            return next((r for r in requests if r.done()), None)

        return self.wait(answered, timeout, f'answer of {what}')

    def change_state(self, node: str, label: str) -> bool:
        """Ask a lifecycle node for a transition; asked a second time the answer would be another one."""
        client = self.node.create_client(ChangeState, f'/{node}/change_state')
        request = ChangeState.Request()
        request.transition.label = label
        answer = self.ask(lambda: client.call_async(request), client.service_is_ready, label, 120.0, 60.0).result()
        self.node.destroy_client(client)
        return bool(answer.success)

    def call(self, future: Future, timeout: float, what: str) -> Any:
        """The result of a future."""
        self.wait(future.done, timeout, what)
        return future.result()

    def close(self) -> None:
        """End the node."""
        self._spinner.end(5.0)
        self.node.destroy_node()
        self._context.try_shutdown()


class FakeCamera:
    """Publishes images and camera_info as a driver would.

    Args:
        probe: on whose behalf.
        camera: PinholeCamera of camera_info, None for none.
        reliable: QoS of the images.
    """

    def __init__(self, probe: Probe, camera: Any, reliable: bool = False) -> None:
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=2, reliability=reliability)
        self._probe, self._camera = probe, camera
        self._images = probe.node.create_publisher(Image, 'image', qos)
        self._infos = probe.node.create_publisher(CameraInfo, 'camera_info', qos)

    def ready(self, timeout: float = 60.0) -> None:
        """Wait for a subscriber."""
        for publisher in (self._images, self._infos):
            self._probe.wait(publisher.get_subscription_count, timeout, 'subscriber of the camera')

    def info_only(self) -> Header:
        """Publish camera_info, stamped now; returns its header."""
        header = Header(stamp=self._probe.node.get_clock().now().to_msg(), frame_id='lens')
        if self._camera is not None:
            self._infos.publish(info_from_camera(self._camera, header))
        return header

    def send(self, pixels: np.ndarray, spoil: Callable[[Image], None] = lambda m: None) -> Header:
        """Publish an image, stamped now; returns its header."""
        header = self.info_only()
        message = from_array(pixels, header, 'rgb8')
        spoil(message)
        self._images.publish(message)
        return header


class Goals:
    """Client of build_goal."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._client = ActionClient(probe.node, BuildGoal, 'build_goal')
        self.feedback: list[BuildGoal.Feedback] = []

    def send(self, goal: BuildGoal.Goal) -> Any:
        """Send a goal; the handle of the accepted goal."""
        self.feedback = []
        future = self._probe.ask(lambda: self._client.send_goal_async(goal, lambda m: self.feedback.append(m.feedback)),
                                 self._client.server_is_ready, 'build_goal')
        assert future.result().accepted
        return future.result()

    def end(self, handle: Any, timeout: float = 120.0) -> tuple[str, BuildGoal.Result]:
        """(status, result) of a goal."""
        answer = self._probe.call(handle.get_result_async(), timeout, 'result of build_goal')
        return STATUS[answer.status], answer.result

    def run(self, goal: BuildGoal.Goal, timeout: float = 120.0) -> tuple[str, BuildGoal.Result]:
        """Send a goal and wait for its end."""
        return self.end(self.send(goal), timeout)
