"""Camera images in, entities out: the tracker as a ROS 2 node."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any, TypeAlias

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from object_centric_ros.errors import InputError
from object_centric_ros.msg import ExecutedAction
from object_centric_ros.nodes import transport
from object_centric_ros.nodes.cameras import Transforms, one_pose
from object_centric_ros.nodes.images import to_rgb
from object_centric_ros.nodes.intake import Intake
from object_centric_ros.nodes.managed import ManagedNode
from object_centric_ros.nodes.messages import nanoseconds
from object_centric_ros.nodes.perception_memory import Memory
from object_centric_ros.nodes.perception_output import Output
from object_centric_ros.nodes.perception_settings import PerceptionSettings, TrackerFactory, make_tracker
from object_centric_ros.nodes.perception_setup import Setup
from object_centric_ros.nodes.runner import run_node
from object_centric_ros.nodes.waiting import Newest

OTHER_CLOCK = 60.0
"""Images whose stamps are off by more than this (s) come from another clock: their age means nothing."""
HUNG = 120.0
"""Seconds that one image may take before the tracker's thread counts as hung; the first may mean compiling."""
ERRORS_IN_A_ROW = 10
"""Images that ended in an error nobody expected, one after the other, after which the model is loaded again."""


ImageMessage: TypeAlias = Image | CompressedImage


class EntityPerception(ManagedNode[PerceptionSettings]):
    """Runs a tracker on the newest image, in a thread of its own, while it is active.

    Args:
        factory: makes the tracker; tests pass their own.
        arguments: for the node.
    """

    watches = ('pick_place_planner',)

    def __init__(self, factory: TrackerFactory = make_tracker, **arguments: Any) -> None:
        super().__init__('entity_perception', PerceptionSettings, 'image', **arguments)
        self._factory = factory
        self._setup: Setup | None = None
        self._transforms: Transforms | None = None
        self._memory = Memory(self.diagnostics)
        self._images: Newest[tuple[ImageMessage, float]] = Newest()  # with the time of arrival, monotonic seconds
        self._worker: threading.Thread | None = None
        self._topic = self.resolve_topic_name('image')
        self._output = Output(self)
        self._watch = self.create_timer(0.5, self._watch_camera)

    # ---- lifecycle ---------------------------------------------------------------------------------------------------

    def check(self, settings: PerceptionSettings) -> None:
        """The pose of the camera is complete, or not given, or that of tf."""
        one_pose(settings.camera_position, settings.camera_orientation, settings.camera_pose)

    def load(self) -> None:
        """Load the model; one without a camera of its own is loaded when camera_info has come."""
        self.unload()  # of a load that failed
        s = self.settings
        self._transforms = Transforms(self) if s.camera_pose == 'tf' else None
        self._setup = Setup(s, self._factory, self._memory, self._transforms, self.diagnostics, self.get_logger())
        self._output.offer_detections(s.publish_detections)

    def start(self) -> None:
        """Subscribe, and work in a thread."""
        now = time.monotonic()
        self._last_turn, self._next_saving = now, now + self.settings.state_interval
        self._intake = Intake(self.settings, self.diagnostics, now)
        self._images = Newest()
        self._worker = threading.Thread(target=self._work, name='tracker', daemon=True)
        self._worker.start()
        self.listen(CameraInfo, 'camera_info', self._on_camera_info, newest())
        self.listen(JointState, 'joint_states', self._on_joints,
                    QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
        self.listen(ExecutedAction, 'executed_actions', self._intake.executed, QoSProfile(depth=10))
        if self.settings.image_transport == 'compressed':
            self._topic = self.resolve_topic_name('image') + '/compressed'
            self.listen(CompressedImage, self._topic, self._on_image, newest())
        else:
            self._topic = self.resolve_topic_name('image')
            self.listen(Image, 'image', self._on_image, newest())

    def alive(self) -> bool:
        """Whether the tracker's thread goes on: no image takes it minutes."""
        return self._worker is not None and self._worker.is_alive() and time.monotonic() - self._last_turn < HUNG

    def halt(self) -> None:
        """End the tracker's thread."""
        self._images.close()
        if self._worker is not None:
            self._worker.join()
            self._worker = None
            setup = self._setup
            if setup is not None and setup.tracker is not None and setup.preparation is not None:
                self._memory.keep(setup.tracker, setup.session, self.settings.state_file)
        self._memory.drop_attempt()
        self.diagnostics.condition('camera')

    def unload(self) -> None:
        """Let go of the tracker and of the device with it."""
        self._setup = None
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None
        for name in ('model', 'transform'):
            self.diagnostics.condition(name)

    # ---- what comes in (executor's thread: never blocks) -------------------------------------------------------------

    def _on_image(self, message: ImageMessage) -> None:
        now = time.monotonic()
        self._intake.arrived(now, self.settings.image_timeout)
        self.diagnostics.count('images_received')
        lost = self._images.put((message, now))
        self.diagnostics.share('drop_rate', lost)
        if lost:
            self.diagnostics.count('images_replaced_by_newer')

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._setup is not None:
            self._setup.camera_info(message)

    def _on_joints(self, message: JointState) -> None:
        self._intake.joints(message, self.get_clock().now().nanoseconds * 1e-9)

    def _watch_camera(self) -> None:
        if not self.active:
            return
        s = self.settings
        self.diagnostics.limit('latency', s.latency_warn, s.latency_error)
        self.diagnostics.limit('drop_rate', s.drop_warn, s.drop_error)
        silent = time.monotonic() - self._intake.last_arrival
        if silent > s.image_timeout:
            self.diagnostics.condition('camera', 'error', f'no image on {self._topic} for {silent:.0f} s')
        else:
            self.diagnostics.condition('camera')

    # ---- the tracker's thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        errors = 0
        while not self._images.closed:
            pause = 1 / self.settings.max_rate if self.settings.max_rate else 0.0
            began = time.monotonic()
            self._last_turn = time.monotonic()
            item = self._images.take(0.5)
            if item is None:
                continue
            try:
                self.diagnostics.took('queue_age', time.monotonic() - item[1])
                self._process(*item)
                errors = 0
            except InputError as error:
                self.diagnostics.reject(f'images_rejected ({error.what})', error)
            except Exception as error:  # one bad frame must not end the node
                if not rclpy.ok(context=self.context):
                    return
                self.diagnostics.reject('errors', f'{error!r}\n{traceback.format_exc()}')
                errors += 1
                if errors == ERRORS_IN_A_ROW:
                    self.ask_for_recovery()
            self._images.wait_for(lambda _: False, pause - (time.monotonic() - began))

    def _process(self, message: ImageMessage, arrived: float) -> None:
        began = time.perf_counter()
        pixels, setup = to_rgb(message), self._setup
        ready = setup.ready(message.header, pixels, self._topic) if setup is not None else None
        if setup is None or ready is None or self._too_old(message):
            return
        tracker, preparation = ready
        done = self._intake.image(message, pixels, arrived, tracker, preparation, self._output.wants_prediction)
        if done is None:
            return
        recognised = self._memory.recognised(tracker)
        if recognised is False:
            setup.begin_session()
        if not recognised:
            return  # until it is settled what the ids stand for, nothing is said about entities
        self._output.results(done, message.header, setup.session, preparation)
        self.diagnostics.took('node_overhead', time.perf_counter() - began - done.frame.seconds)
        self.diagnostics.took('model', done.frame.seconds)
        self.diagnostics.count('images_processed')
        age = self._age(message)
        if 0 <= age < OTHER_CLOCK:
            self.diagnostics.took('latency', age)
        self._output.pictures(done, message.header, preparation)
        if self.settings.state_file and not done.moving and time.monotonic() >= self._next_saving:
            self._next_saving = time.monotonic() + self.settings.state_interval
            self._memory.keep(tracker, setup.session, self.settings.state_file)

    def _age(self, message: ImageMessage) -> float:
        """Seconds since the image was taken, by this node's clock."""
        return 1e-9 * (self.get_clock().now().nanoseconds - nanoseconds(message.header.stamp))

    def _too_old(self, message: ImageMessage) -> bool:
        """Whether the image shows what is over; counted."""
        age, limit = self._age(message), self.settings.max_image_age
        if message.header.stamp.sec and abs(age) > OTHER_CLOCK:
            self.diagnostics.condition('clock', 'warn', f'stamps of images are off by {age:.0f} s: another clock '
                                       '(use_sim_time?); nothing will be done with what is seen')
            return False
        self.diagnostics.condition('clock')
        if not limit < age <= OTHER_CLOCK or limit == 0:
            return False
        self.diagnostics.reject('images_too_old', InputError('image age', f'at most {limit:g} s', f'{age:.2f} s'))
        return True


def newest() -> QoSProfile:
    """QoS of a stream of which only the newest message counts."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def main(argv: Sequence[str] | None = None, factory: TrackerFactory = make_tracker) -> int:
    """Run the node."""
    transport.prepare()
    return run_node(lambda: EntityPerception(factory), 'entity_perception', argv=argv)


if __name__ == '__main__':
    raise SystemExit(main())
