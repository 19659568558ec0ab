"""Which tracker perception has, and the camera that it sees through: settled at the first image."""

from __future__ import annotations

import secrets
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, Preparation
from object_centric_ros.nodes.cameras import (
    Pose,
    Transforms,
    is_rectified,
    pose_from_parameters,
    preparation_of,
    same_camera,
)
from object_centric_ros.nodes.diagnostics import Diagnostics
from object_centric_ros.nodes.messages import seconds
from object_centric_ros.nodes.perception_memory import Memory
from object_centric_ros.nodes.perception_settings import PerceptionSettings, Tracker, TrackerFactory

AGAIN_AFTER = 5.0
"""Seconds until a model that could not be loaded is tried again."""


class Setup:
    """A tracker, made again where the camera is not the one it was made for; used by the tracker's thread.

    Args:
        settings: of the node.
        factory: makes the tracker.
        memory: what a new tracker goes on from.
        transforms: tf, where that tells the pose of the camera.
        diagnostics: told what is missing.
        log: for what went well.

    Attributes:
        tracker: None while it waits for the camera.
        preparation: what images go through first; None until the first image.
        session: of the tracker; its ids mean nothing to another one.

    Raises:
        InputError: the model cannot be loaded. One that has no camera of its own waits for camera_info instead.
    """

    def __init__(self, settings: PerceptionSettings, factory: TrackerFactory, memory: Memory,
                 transforms: Transforms | None, diagnostics: Diagnostics, log: Any) -> None:
        self._settings, self._factory, self._memory, self._transforms = settings, factory, memory, transforms
        self._diagnostics, self._log = diagnostics, log
        self._pose = pose_from_parameters(settings.camera_position, settings.camera_orientation)
        self._info: CameraInfo | None = None
        self._first_image, self._next_load = np.inf, -np.inf
        self.tracker: Tracker | None = None
        self.preparation: Preparation | None = None
        self.session = 0
        try:
            self._load(None)
        except InputError as error:
            if error.what != 'camera':
                raise

    def camera_info(self, message: CameraInfo) -> None:
        """Take a camera_info; after the first image another one is refused."""
        before = self._info
        if before is None or self.preparation is None:
            self._info = message
        elif (message.width, message.height, *message.k) != (before.width, before.height, *before.k):
            self._diagnostics.reject('camera_info_changed', InputError(
                'camera_info', f'{before.width}x{before.height}, fx {before.k[0]:.2f} as at the start (another camera: '
                'deactivate and activate the node)',
                f'{message.width}x{message.height}, fx {message.k[0]:.2f}'))

    def ready(self, header: Header, image: NDArray[np.uint8], topic: str) -> tuple[Tracker, Preparation] | None:
        """Tracker and preparation for an image [H, W, 3] that came on `topic`; None while something is missing.

        Raises:
            InputError: the image, or the camera of camera_info, cannot be used.
        """
        if self.tracker is not None and self.preparation is not None:
            check_size(image, self.preparation, 'as at the start (another camera: deactivate and activate the node)')
            return self.tracker, self.preparation
        now = time.monotonic()
        self._first_image = min(self._first_image, now)
        if self._pose is None and self._transforms is not None:
            self._pose = self._looked_up(self._transforms, header.frame_id)
            if self._pose is None:
                return None
        if self.tracker is None and not self._load_for(topic):
            self._diagnostics.count('images_without_model')
            return None
        assert self.tracker is not None
        if self._info is None and now - self._first_image < self._settings.camera_info_wait:
            self._diagnostics.count('images_waiting_for_camera_info')
            return None
        return self._settle(self.tracker, header, image, topic)

    def begin_session(self) -> None:
        """From here on ids stand for other things."""
        self.session = secrets.randbits(63) | 1

    def _looked_up(self, transforms: Transforms, camera_frame: str) -> Pose | None:
        """The pose of the camera by tf; None, and a complaint, while there is none."""
        try:
            pose = transforms.pose(self._settings.work_frame, camera_frame, 0.0)
        except InputError as error:
            self._diagnostics.count('images_waiting_for_transform')
            self._diagnostics.condition('transform', 'error', f'no pose of the camera: {error}')
            return None
        self._diagnostics.condition('transform')
        return pose

    def _settle(self, tracker: Tracker, header: Header, image: NDArray[np.uint8], topic: str
                ) -> tuple[Tracker, Preparation]:
        """Decide what the camera is."""
        own = tracker.camera
        if self._info is None:
            self._diagnostics.reject('camera_info_missing', InputError(
                'camera_info', f'a message within {self._settings.camera_info_wait:g} s', "none: using the model's"))
        preparation = self._preparation(topic, own)
        check_size(image, preparation, 'of the camera')
        if not same_camera(preparation.camera, own):
            tracker = self._load(preparation.camera)
        self.session = self._memory.resume(tracker, seconds(header.stamp), self._settings) or self.session
        self.preparation = preparation
        return tracker, preparation

    def _preparation(self, topic: str, own: PinholeCamera | None) -> Preparation:
        s = self._settings
        return preparation_of(s, is_rectified(s.rectified, topic), self._info, self._pose, own)

    def _load_for(self, topic: str) -> bool:
        """Try, every few seconds, to load a model that needs a camera."""
        if self._info is None or self._pose is None or time.monotonic() < self._next_load:
            return False
        self._next_load = time.monotonic() + AGAIN_AFTER
        try:
            self._load(self._preparation(topic, None).camera)
        except InputError as error:
            self._diagnostics.condition('model', 'error', f'no model: {error}')
            return False
        return True

    def _load(self, camera: PinholeCamera | None) -> Tracker:
        """A new tracker, whose ids mean nothing to another one."""
        try:
            tracker = self._factory(self._settings, camera)
        except InputError as error:
            self._diagnostics.reject('model_loads_failed', error)
            self._diagnostics.condition('model', 'error', f'no model: {error}')
            raise
        self.tracker = tracker
        self.begin_session()
        self._diagnostics.condition('model')
        self._diagnostics.fact('model_id', tracker.model_id)
        self._log.info(f'model {tracker.model_id} is ready')
        return tracker


def check_size(image: NDArray[np.uint8], preparation: Preparation, whose: str) -> None:
    """Refuse an image [H, W, 3] that is not of the camera's size."""
    source = preparation.source
    if image.shape[:2] != (source.height, source.width):
        raise InputError('image size', f'{source.width}x{source.height} {whose}', f'{image.shape[1]}x{image.shape[0]}')
