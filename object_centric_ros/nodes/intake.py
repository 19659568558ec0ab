"""What perception takes: images, joint states and executed actions, in the order in which they come.

The live node and `object-centric replay` both go through it, so that what is done with a message cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, JointState

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Preparation
from object_centric_ros.msg import ExecutedAction
from object_centric_ros.nodes.cameras import in_source_pixels
from object_centric_ros.nodes.messages import nanoseconds, seconds
from object_centric_ros.nodes.perception_settings import PerceptionSettings, Tracker
from object_centric_ros.nodes.robot import RobotWatch
from object_centric_ros.nodes.stamps import Stamps
from object_centric_ros.tracking.entities import PickPlace, TrackedFrame


class Report(Protocol):
    """Who is told what was taken and what was refused: Diagnostics, or counters."""

    def count(self, name: str) -> object:
        """Something happened."""

    def reject(self, kind: str, reason: object) -> object:
        """Something was wrong, counted as `kind`."""


@dataclass(frozen=True)
class Processed:
    """One image that was used.

    Attributes:
        image: as the tracker took it, RGB [H, W, 3].
        frame: what it found, in pixels of that image.
        found: the same in pixels of the image as it came.
        moving: whether the robot moves.
        predicted: what the tracker expected before it saw the image, RGB [S, S, 3]; None where nobody asked for it, and
            for a first image.
    """

    image: NDArray[np.uint8]
    frame: TrackedFrame
    found: TrackedFrame
    moving: bool
    predicted: NDArray[np.uint8] | None


class Intake:
    """Brings messages together by their stamps and takes the tracker through them.

    Args:
        settings: the node's parameters.
        report: told what becomes of messages.
        now: seconds of the clock by which images arrive, one that nobody sets: the process's own, or a recording's.

    Attributes:
        last_arrival: of an image, seconds.
    """

    def __init__(self, settings: PerceptionSettings, report: Report, now: float = 0.0) -> None:
        self._work_frame, self._report, self.last_arrival = settings.work_frame, report, now
        self._robot = RobotWatch(settings.motion_threshold, settings.motion_settle_time)
        self._stamps = Stamps()
        self._used = self._interrupted = False

    def joints(self, message: JointState, received: float) -> None:
        """Take joint states; `received` (s) stands in for a missing stamp."""
        try:
            bad = self._robot.joints(message.name, message.position, message.velocity,
                                     seconds(message.header.stamp) or received)
        except InputError as error:
            self._report.reject('joint_states_rejected', error)
            return
        if bad:
            self._report.reject('joint_states_not_finite', InputError(
                'joint_states', 'finite positions and velocities', f'{bad} others, ignored'))

    def executed(self, message: ExecutedAction) -> None:
        """Take what the arm has done."""
        try:
            if message.header.frame_id != self._work_frame:
                raise InputError('executed_actions: frame', self._work_frame, message.header.frame_id or 'none')
            action = PickPlace((message.pick.x, message.pick.y), (message.place.x, message.place.y))
        except InputError as error:
            self._report.reject('executed_actions_rejected', error)
            return
        self._report.count('executed_actions')
        if self._robot.executed(action if message.success else None, seconds(message.finished)):
            self._report.count('executed_actions_late')

    def arrived(self, now: float, timeout: float) -> None:
        """Note that an image came at `now` (s), used or not; after `timeout` s without the scene may be another one."""
        silent, self.last_arrival = now - self.last_arrival, now
        if silent > timeout and self._used:
            self._report.reject('camera_outages', f'images again after {silent:.1f} s without')
            self._interrupted = True

    def image(self, message: Image | CompressedImage, pixels: NDArray[np.uint8], arrived: float, tracker: Tracker,
              preparation: Preparation, predict: bool = False) -> Processed | None:
        """Take an image through the tracker; None where it is older than the one before.

        Args:
            message: its stamp counts.
            pixels: of the message, RGB [H, W, 3].
            arrived: when it came, seconds.
            tracker, preparation: of the camera.
            predict: whether the tracker is to say first what it expects.

        Raises:
            InputError: the image has not the size of the camera.
        """
        order = self._stamps.order(nanoseconds(message.header.stamp), arrived)
        if order.refused:
            self._report.count(order.refused)
            return None
        if order.shift:
            self._report.reject('clock_jumps', f'stamps went {"on" if order.shift > 0 else "back"} by '
                                f'{abs(order.shift):.1f} s from one image to the next')
            self._robot.clear()
            tracker.shift_clock(order.shift)
        stamp, prepared = seconds(message.header.stamp), preparation(pixels)
        if self._interrupted:
            self._interrupted = False
            tracker.reconsider()
        actions, moving = self._robot.at_image(stamp)
        if len(actions) > 1:
            self._report.reject('executed_actions_skipped', InputError(
                'executed_actions', 'an image between two actions', f'{len(actions)} without: the last is used'))
        action = actions[-1] if actions else None
        predicted = tracker.predicted(action) if predict else None
        frame = tracker.step(prepared, action, stamp, moving)
        self._used = True
        return Processed(prepared, frame, in_source_pixels(frame, preparation), moving, predicted)
