"""What entity_perception does with each message, without a node: the same parts in the same order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from object_centric_ros.errors import InputError
from object_centric_ros.msg import EntityArray, ExecutedAction
from object_centric_ros.nodes.cameras import is_rectified, pose_from_parameters, preparation_of, same_camera
from object_centric_ros.nodes.images import to_rgb
from object_centric_ros.nodes.intake import Intake, Processed
from object_centric_ros.nodes.messages import frame_to_message
from object_centric_ros.nodes.perception_settings import PerceptionSettings, TrackerFactory, make_tracker


@dataclass(frozen=True)
class Result(Processed):
    """One processed image and the message about it."""

    message: EntityArray


class Counts(Counter[str]):
    """Counters that are told as diagnostics are; reasons are for the live node's log."""

    def count(self, name: str) -> None:
        """Something happened."""
        self[name] += 1

    def reject(self, kind: str, reason: object) -> None:
        """Something was wrong."""
        self[kind] += 1


class OfflinePerception:
    """Takes messages in the order in which they came, and gives a result for each image.

    Args:
        settings: the node's parameters; those of its flow, pictures and state do not matter here.
        info: camera_info of the images; None: the camera that the model was trained with.
        topic: of the images; its name may say that they are rectified.
        factory: makes the tracker.

    Attributes:
        counts: what was taken, and what was refused and why, under the node's names.

    Raises:
        InputError: the model cannot be loaded, or the pose of the camera is said to be in tf.
    """

    def __init__(self, settings: PerceptionSettings, info: CameraInfo | None = None, topic: str = 'image',
                 factory: TrackerFactory = make_tracker) -> None:
        self.settings, self.counts = settings, Counts()
        if settings.camera_pose != 'parameters':
            raise InputError('camera_pose', 'parameters: tf of a bag is not read', settings.camera_pose)
        pose = pose_from_parameters(settings.camera_position, settings.camera_orientation)
        known = info is not None and pose is not None
        flat = is_rectified(settings.rectified, topic)
        self.tracker = factory(settings, preparation_of(settings, flat, info, pose, None).camera if known else None)
        self.preparation = preparation_of(settings, flat, info, pose, self.tracker.camera)
        if not same_camera(self.preparation.camera, self.tracker.camera):
            self.tracker = factory(settings, self.preparation.camera)
        self._intake = Intake(settings, self.counts)

    def joints(self, message: JointState, received: float) -> None:
        """Take joint states; `received` (s) stands in for a missing stamp."""
        self._intake.joints(message, received)

    def executed(self, message: ExecutedAction) -> None:
        """Take what the arm has done."""
        self._intake.executed(message)

    def image(self, message: Image | CompressedImage, received: float) -> Result | None:
        """Take an image that came at `received` (s); None where it is older than the one before.

        Raises:
            InputError: the image cannot be decoded, or has not the size of the camera.
        """
        self._intake.arrived(received, self.settings.image_timeout)
        done = self._intake.image(message, to_rgb(message), received, self.tracker, self.preparation)
        if done is None:
            return None
        self.counts.count('images_processed')
        return Result(**vars(done), message=frame_to_message(done.found, message.header, self.settings.work_frame, 1))
