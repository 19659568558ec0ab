"""What entity_perception does with each message, without a node: the same parts in the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from object_centric_ros.config import from_mapping
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, Preparation
from object_centric_ros.msg import EntityArray, ExecutedAction
from object_centric_ros.nodes.cameras import (
    in_source_pixels,
    pose_from_parameters,
    preparation_from_info,
    same_camera,
)
from object_centric_ros.nodes.images import to_rgb
from object_centric_ros.nodes.messages import frame_to_message, nanoseconds, seconds
from object_centric_ros.nodes.robot import RobotWatch
from object_centric_ros.nodes.transport import threads_for
from object_centric_ros.tracking.entities import PickPlace, TrackedFrame

CLOCK_JUMP = 1_000_000_000
"""An image older than the last one by more than this (ns) means that the clock was set back."""


@dataclass(frozen=True)
class OfflineSettings:
    """Those parameters of entity_perception, under the same names, that change what comes out."""

    checkpoint: str = ''
    device: str = 'auto'
    threads: int = 0
    precision: str = 'float32'
    seed: int = 0
    work_frame: str = 'work_plane'
    camera_position: tuple[float, ...] = ()
    camera_orientation: tuple[float, ...] = ()
    retire_after: float = 10.0
    object_height: float = 0.03
    motion_threshold: float = 0.02
    motion_settle_time: float = 0.5
    overlay_width: int = 320

    @classmethod
    def from_file(cls, path: Path, **given: Any) -> OfflineSettings:
        """From a parameter file of the node, whose other parameters do not matter here; `given` counts before it.

        Raises:
            InputError: no such file, not a parameter file, or values of the wrong type.
        """
        try:
            content = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as e:
            raise InputError(f'{path}', 'a parameter file (YAML)', e) from e
        names, found = {f.name for f in fields(cls)}, {}
        for node in ('/**', 'entity_perception', '/entity_perception'):
            section = content.get(node) if isinstance(content, dict) else None
            values = section.get('ros__parameters') if isinstance(section, dict) else None
            found.update({k: v for k, v in (values or {}).items() if k in names})
        if not isinstance(content, dict):
            raise InputError(f'{path}', 'a parameter file: a mapping of nodes', type(content).__name__)
        return from_mapping(cls, found | given, str(path))


@dataclass(frozen=True)
class Intake:
    """How images are prepared; see `geometry.Preparation`."""

    rectified: bool = False
    crop: tuple[int, int, int, int] | None = None
    letterbox: bool = False


@dataclass(frozen=True)
class Result:
    """One processed image: the prepared picture [H, W, 3], what was found in it, and the message about it."""

    image: NDArray[np.uint8]
    frame: TrackedFrame
    message: EntityArray


TrackerMaker = Callable[[OfflineSettings, PinholeCamera | None], Any]


def make_tracker(settings: OfflineSettings, camera: PinholeCamera | None) -> Any:
    """The learned tracker, as the node makes it; imports torch."""
    from object_centric_ros.tracking.settings import TrackerConfig
    from object_centric_ros.tracking.tracker import EntityTracker
    config = TrackerConfig(retire_after=settings.retire_after, object_height=settings.object_height)
    return EntityTracker.load(settings.checkpoint or None, camera=camera, config=config, device=settings.device,
                              threads=threads_for(settings.threads), seed=settings.seed, precision=settings.precision)


class OfflinePerception:
    """Takes messages in the order in which they came, and gives a result for each image.

    Args:
        settings: as the node's parameters.
        info: camera_info of the images; None: the camera that the model was trained with.
        intake: what happens to images first.
        factory: makes the tracker.

    Attributes:
        counts: what was taken, and what refused and why, under the node's names.
    """

    def __init__(self, settings: OfflineSettings, info: CameraInfo | None = None, intake: Intake | None = None,
                 factory: TrackerMaker = make_tracker) -> None:
        self.settings, self.counts, intake = settings, Counter[str](), intake or Intake()
        pose = pose_from_parameters(settings.camera_position, settings.camera_orientation)

        def prepared(pose: Any, own: PinholeCamera | None = None) -> Preparation:
            if info is not None:
                return preparation_from_info(info, pose, intake.rectified, intake.crop, intake.letterbox)
            assert own is not None
            camera = PinholeCamera(own.width, own.height, own.fx, own.fy, own.cx, own.cy, *pose)
            return Preparation(camera, None, intake.crop, intake.letterbox)

        self.tracker = factory(settings, prepared(pose).camera if info is not None and pose is not None else None)
        own = self.tracker.camera
        self.preparation = prepared(pose or (own.rotation, own.position), own)
        if not same_camera(self.preparation.camera, own):
            self.tracker = factory(settings, self.preparation.camera)
        self._robot = RobotWatch(settings.motion_threshold, settings.motion_settle_time)
        self._last_stamp = 0

    def joints(self, message: JointState, received: float) -> None:
        """Take joint states; `received` (s) stands in for a missing stamp."""
        try:
            bad = self._robot.joints(message.name, message.position, message.velocity,
                                     seconds(message.header.stamp) or received)
        except InputError:
            self.counts['joint_states_rejected'] += 1
            return
        self.counts['joint_states_not_finite'] += bool(bad)

    def executed(self, message: ExecutedAction) -> None:
        """Take what the arm has done."""
        try:
            if message.header.frame_id != self.settings.work_frame:
                raise InputError('executed_actions: frame', self.settings.work_frame, message.header.frame_id or 'none')
            action = PickPlace((message.pick.x, message.pick.y), (message.place.x, message.place.y))
        except InputError:
            self.counts['executed_actions_rejected'] += 1
            return
        self.counts['executed_actions'] += 1
        if self._robot.executed(action if message.success else None, seconds(message.finished)):
            self.counts['executed_actions_late'] += 1

    def image(self, message: Image | CompressedImage) -> Result | None:
        """Take an image; None where it is older than the one before.

        Raises:
            InputError: the image cannot be decoded, or has not the size of the camera.
        """
        prepared = self.preparation(to_rgb(message))
        if not self._in_order(nanoseconds(message.header.stamp)):
            return None
        stamp = seconds(message.header.stamp)
        actions, moving = self._robot.at_image(stamp)
        self.counts['executed_actions_skipped'] += len(actions) > 1
        frame = self.tracker.step(prepared, actions[-1] if actions else None, stamp, moving)
        frame = in_source_pixels(frame, self.preparation)
        self.counts['images_processed'] += 1
        return Result(prepared, frame, frame_to_message(frame, message.header, self.settings.work_frame, 1))

    def _in_order(self, stamp: int) -> bool:
        """Whether an image is newer than the last one; images without stamps always are."""
        if stamp and stamp <= self._last_stamp:
            if self._last_stamp - stamp < CLOCK_JUMP:
                self.counts['images_out_of_order'] += 1
                return False
            self.counts['clock_jumps'] += 1
            self._robot.clear()
            self.tracker.shift_clock(1e-9 * (stamp - self._last_stamp))  # as the live node does
        self._last_stamp = stamp
        return True
