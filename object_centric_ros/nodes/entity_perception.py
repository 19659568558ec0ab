"""Camera images in, entities out: the tracker as a ROS 2 node."""

from __future__ import annotations

import secrets
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from visualization_msgs.msg import MarkerArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, Preparation, named_rectified
from object_centric_ros.msg import EntityArray, ExecutedAction
from object_centric_ros.nodes import transport
from object_centric_ros.nodes.cameras import (
    Pose,
    in_source_pixels,
    pose_from_parameters,
    preparation_from_info,
    same_camera,
)
from object_centric_ros.nodes.drawing import draw_labels, draw_overlay
from object_centric_ros.nodes.images import from_array, to_rgb
from object_centric_ros.nodes.managed import ManagedNode
from object_centric_ros.nodes.messages import frame_to_message, markers, nanoseconds, seconds
from object_centric_ros.nodes.perception_memory import Memory
from object_centric_ros.nodes.perception_settings import PerceptionSettings, Tracker, TrackerFactory, make_tracker
from object_centric_ros.nodes.robot import RobotWatch
from object_centric_ros.nodes.runner import run_node
from object_centric_ros.nodes.waiting import Newest
from object_centric_ros.tracking.entities import PickPlace, TrackedFrame

CLOCK_BACK, CLOCK_AHEAD = 1_000_000_000, 10_000_000_000
"""Stamps that went back, or ahead of the time that has passed, by more than this (ns): the clock was set."""
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
        self._tracker: Tracker | None = None
        self._session = 0  # of the tracker: its ids mean nothing to another one
        self._memory = Memory(self.diagnostics)
        self._images: Newest[tuple[ImageMessage, float]] = Newest()  # with the time of arrival, monotonic seconds
        self._worker: threading.Thread | None = None
        self._topic = self.resolve_topic_name('image')
        self._entities = self.publish_on(EntityArray, 'entities', QoSProfile(depth=5))
        self._labels = self.publish_on(Image, 'label_image', QoSProfile(depth=2))
        self._overlay = self.publish_on(Image, 'overlay', QoSProfile(depth=2))
        self._markers = self.publish_on(MarkerArray, 'markers', QoSProfile(depth=2))
        self._watch = self.create_timer(0.5, self._watch_camera)

    # ---- lifecycle ---------------------------------------------------------------------------------------------------

    def check(self, settings: PerceptionSettings) -> None:
        """The pose of the camera is complete, or not given."""
        pose_from_parameters(settings.camera_position, settings.camera_orientation)

    def load(self) -> None:
        """Load the model; one without a camera of its own is loaded when camera_info has come."""
        s = self.settings
        self._pose = pose_from_parameters(s.camera_position, s.camera_orientation)
        self._info: CameraInfo | None = None
        self._camera_known = False
        self._preparation: Preparation
        self._next_load = -np.inf
        try:
            self._load_tracker()
        except InputError as error:
            if error.what != 'camera':
                raise

    def start(self) -> None:
        """Subscribe, and work in a thread."""
        s = self.settings
        self._first_image = self._next_drawing = -np.inf
        self._last_image, self._last_stamp = time.monotonic(), (0, 0.0)
        self._interrupted, self._last_turn = False, time.monotonic()
        self._next_saving = time.monotonic() + s.state_interval
        self._robot = RobotWatch(s.motion_threshold, s.motion_settle_time)
        self._images = Newest()
        self._worker = threading.Thread(target=self._work, name='tracker', daemon=True)
        self._worker.start()
        self.listen(CameraInfo, 'camera_info', self._on_camera_info, newest())
        self.listen(JointState, 'joint_states', self._on_joints,
                    QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
        self.listen(ExecutedAction, 'executed_actions', self._on_action, QoSProfile(depth=10))
        if s.image_transport == 'compressed':
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
            if self._tracker is not None and self._camera_known:
                self._memory.keep(self._tracker, self._session, self.settings.state_file)
        self._memory.drop_attempt()
        self.diagnostics.condition('camera')

    def unload(self) -> None:
        """Let go of the tracker and of the device with it."""
        self._tracker = None
        self.diagnostics.condition('model')

    # ---- what comes in (executor's thread: never blocks) -------------------------------------------------------------

    def _on_image(self, message: ImageMessage) -> None:
        now = time.monotonic()
        if now - self._last_image > self.settings.image_timeout and self._last_stamp[0]:
            self.diagnostics.reject('camera_outages', f'images again after {now - self._last_image:.1f} s without')
            self._interrupted = True
        self._last_image = now
        self.diagnostics.count('images_received')
        lost = self._images.put((message, now))
        self.diagnostics.share('drop_rate', lost)
        if lost:
            self.diagnostics.count('images_replaced_by_newer')

    def _on_camera_info(self, message: CameraInfo) -> None:
        before = self._info
        if before is None or not self._camera_known:
            self._info = message
        elif (message.width, message.height, *message.k) != (before.width, before.height, *before.k):
            self.diagnostics.reject('camera_info_changed', InputError(
                'camera_info', f'{before.width}x{before.height}, fx {before.k[0]:.2f} as at the start (another camera: '
                'deactivate and activate the node)',
                f'{message.width}x{message.height}, fx {message.k[0]:.2f}'))

    def _on_joints(self, message: JointState) -> None:
        stamp = seconds(message.header.stamp) or self.get_clock().now().nanoseconds * 1e-9
        try:
            bad = self._robot.joints(message.name, message.position, message.velocity, stamp)
        except InputError as error:
            self.diagnostics.reject('joint_states_rejected', error)
            return
        if bad:
            self.diagnostics.reject('joint_states_not_finite', InputError(
                'joint_states', 'finite positions and velocities', f'{bad} others, ignored'))

    def _on_action(self, message: ExecutedAction) -> None:
        try:
            if message.header.frame_id != self.settings.work_frame:
                raise InputError('executed_actions: frame', self.settings.work_frame, message.header.frame_id or 'none')
            action = PickPlace((message.pick.x, message.pick.y), (message.place.x, message.place.y))
        except InputError as error:
            self.diagnostics.reject('executed_actions_rejected', error)
            return
        self.diagnostics.count('executed_actions')
        if self._robot.executed(action if message.success else None, seconds(message.finished)):
            self.diagnostics.count('executed_actions_late')

    def _watch_camera(self) -> None:
        if not self.active:
            return
        s = self.settings
        self.diagnostics.limit('latency', s.latency_warn, s.latency_error)
        self.diagnostics.limit('drop_rate', s.drop_warn, s.drop_error)
        silent = time.monotonic() - self._last_image
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
        image = to_rgb(message)
        tracker = self._tracker_for(message, image)
        if tracker is None or self._too_old(message) or not self._in_order(message, arrived, tracker):
            return
        stamp, source = seconds(message.header.stamp), self._preparation.source
        if image.shape[:2] != (source.height, source.width):
            raise InputError('image size', f'{source.width}x{source.height} as at the start (another camera: '
                             'deactivate and activate the node)', f'{image.shape[1]}x{image.shape[0]}')
        image = self._preparation(image)
        if self._interrupted:
            self._interrupted = False
            tracker.reconsider()
        actions, moving = self._robot.at_image(stamp)
        if len(actions) > 1:
            self.diagnostics.reject('executed_actions_skipped', InputError(
                'executed_actions', 'an image between two actions', f'{len(actions)} without: the last is used'))
        frame = tracker.step(image, actions[-1] if actions else None, stamp, moving)
        recognised = self._memory.recognised(tracker)
        if recognised is False:
            self._session = new_session()
        if not recognised:
            return  # until it is settled what the ids stand for, nothing is said about entities
        found = in_source_pixels(frame, self._preparation)
        self._entities.publish(frame_to_message(found, message.header, self.settings.work_frame, self._session))
        self._publish_labels(frame, message)
        self.diagnostics.took('node_overhead', time.perf_counter() - began - frame.seconds)
        self.diagnostics.took('model', frame.seconds)
        self.diagnostics.count('images_processed')
        age = self._age(message)
        if 0 <= age < OTHER_CLOCK:
            self.diagnostics.took('latency', age)
        self._draw(image, frame, message)
        if self.settings.state_file and not moving and time.monotonic() >= self._next_saving:
            self._next_saving = time.monotonic() + self.settings.state_interval
            self._memory.keep(tracker, self._session, self.settings.state_file)

    # ---- the model ---------------------------------------------------------------------------------------------------

    def _load_tracker(self, camera: PinholeCamera | None = None) -> Tracker:
        """A new tracker, whose ids mean nothing to another one."""
        try:
            tracker = self._factory(self.settings, camera)
        except InputError as error:
            self.diagnostics.reject('model_loads_failed', error)
            self.diagnostics.condition('model', 'error', f'no model: {error}')
            raise
        self._tracker, self._session = tracker, new_session()
        self.diagnostics.condition('model')
        self.diagnostics.fact('model_id', tracker.model_id)
        self.get_logger().info(f'model {tracker.model_id} is ready')
        return tracker

    def _ready(self) -> Tracker | None:
        """The tracker; one that needs a camera is made when camera_info has come, tried every few seconds."""
        if self._tracker is None and time.monotonic() >= self._next_load:
            self._next_load = time.monotonic() + (5.0 if self._info is not None else 0.0)
            if self._info is not None and self._pose is not None:
                try:
                    self._load_tracker(self._prepared(self._info, self._pose).camera)
                except InputError as error:
                    self.diagnostics.condition('model', 'error', f'no model: {error}')
        return self._tracker

    def _prepared(self, info: CameraInfo, pose: Pose) -> Preparation:
        """What images of this camera go through first."""
        choice = self.settings.rectified
        rectified = named_rectified(self._topic) if choice == 'auto' else choice == 'yes'
        return preparation_from_info(info, pose, rectified)

    def _tracker_for(self, message: ImageMessage, image: NDArray[np.uint8]) -> Tracker | None:
        """The tracker once the camera is known, which is settled at the first image until the node is deactivated."""
        tracker = self._ready()
        if tracker is None:
            self.diagnostics.count('images_without_model')
            return None
        if self._camera_known:
            return tracker
        if self._first_image == -np.inf:
            self._first_image = time.monotonic()
        info = self._info
        if info is None and time.monotonic() - self._first_image < self.settings.camera_info_wait:
            self.diagnostics.count('images_waiting_for_camera_info')
            return None
        pose = self._pose or (tracker.camera.rotation, tracker.camera.position)
        own = tracker.camera
        if info is not None:
            self._preparation = self._prepared(info, pose)
        else:
            self.diagnostics.reject('camera_info_missing', InputError(
                'camera_info', f'a message within {self.settings.camera_info_wait:g} s', 'none: using the model\'s'))
            camera = PinholeCamera(own.width, own.height, own.fx, own.fy, own.cx, own.cy, *pose)
            self._preparation = Preparation(camera)
        camera, source = self._preparation.camera, self._preparation.source
        if image.shape[:2] != (source.height, source.width):
            raise InputError('image size', f'{source.width}x{source.height} of the camera',
                             f'{image.shape[1]}x{image.shape[0]}')
        if not same_camera(camera, own):
            tracker = self._load_tracker(camera)
        self._session = self._memory.resume(tracker, seconds(message.header.stamp), self.settings) or self._session
        self._camera_known = True
        return tracker

    def _in_order(self, message: ImageMessage, arrived: float, tracker: Tracker) -> bool:
        """Whether the image is newer than the last one; images without stamps always are."""
        stamp, (last, last_arrived) = nanoseconds(message.header.stamp), self._last_stamp
        ahead = stamp - last
        if stamp and -CLOCK_BACK < ahead <= 0:
            self.diagnostics.count('images_out_of_order' if ahead else 'images_repeated')
            return False
        if stamp and last and (ahead < 0 or ahead - 1e9 * (arrived - last_arrived) > CLOCK_AHEAD):
            self.diagnostics.reject('clock_jumps', f'stamps went {"on" if ahead > 0 else "back"} by '
                                    f'{1e-9 * abs(ahead):.1f} s from one image to the next')
            self._robot.clear()
            tracker.shift_clock(1e-9 * ahead)
        self._last_stamp = stamp, arrived
        return True

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

    # ---- pictures ---------------------------------------------------------------------------------------------------

    def _publish_labels(self, frame: TrackedFrame, message: ImageMessage) -> None:
        labels = frame.label_image
        if self.settings.label_image_size == 'input':
            camera = self._preparation.camera
            labels = draw_labels(frame, camera.width, camera.height)
        self._labels.publish(from_array(labels, message.header, 'mono16'))

    def _draw(self, image: NDArray[np.uint8], frame: TrackedFrame, message: ImageMessage) -> None:
        """Overlay and markers, at their own rate and only for subscribers."""
        now = time.monotonic()
        if not self.settings.publish_overlay or now < self._next_drawing:
            return
        self._next_drawing = now + 1 / self.settings.overlay_rate
        if self._overlay.get_subscription_count():
            picture = draw_overlay(image, frame, self.settings.overlay_width)
            self._overlay.publish(from_array(picture, message.header, 'rgb8'))
        if self._markers.get_subscription_count():
            self._markers.publish(markers(frame, message.header.stamp, self.settings.work_frame))


def new_session() -> int:
    """A number that tells ids apart from those of any other session."""
    return secrets.randbits(63) | 1


def newest() -> QoSProfile:
    """QoS of a stream of which only the newest message counts."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def main(argv: Sequence[str] | None = None, factory: TrackerFactory = make_tracker) -> int:
    """Run the node."""
    transport.prepare()
    return run_node(lambda: EntityPerception(factory), 'entity_perception', argv=argv)


if __name__ == '__main__':
    raise SystemExit(main())
