"""Where the camera is and what it sees: pose from parameters or tf2, intrinsics and distortion from CameraInfo.

CameraInfo counts pixel centres as integers, as OpenCV does; `PinholeCamera` has them at integer + 0.5.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Protocol

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Lens, PinholeCamera, Preparation, named_rectified
from object_centric_ros.tracking.entities import TrackedFrame

Pose = tuple[np.ndarray, np.ndarray]


def pose_from_parameters(position: tuple[float, ...], orientation: tuple[float, ...]) -> Pose | None:
    """(rotation 3x3 optical frame -> work_plane, position [3] m), or None if both are empty.

    Args:
        position: camera centre (x, y, z), metres, or empty.
        orientation: quaternion (x, y, z, w) or 3x3 matrix by rows, or empty.

    Raises:
        InputError: only one of the two is given, or the orientation is no rotation.
    """
    if not position and not orientation:
        return None
    if not position or not orientation:
        raise InputError('camera pose', 'camera_position and camera_orientation, or neither',
                         f'{list(position)} and {list(orientation)}')
    if len(orientation) == 9:
        rotation = np.reshape(orientation, (3, 3)).astype(float)
    else:
        rotation = quaternion_matrix(orientation)
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise InputError('camera_orientation', 'a unit quaternion x, y, z, w or a rotation matrix', list(orientation))
    return rotation, np.asarray(position, float)


def quaternion_matrix(orientation: tuple[float, ...]) -> np.ndarray:
    """Rotation matrix 3x3 of a quaternion (x, y, z, w); NaN where its length is not 1."""
    norm = float(np.linalg.norm(orientation))
    x, y, z, w = np.asarray(orientation, float) / (norm if abs(norm - 1) < 0.05 else np.nan)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


def one_pose(position: tuple[float, ...], orientation: tuple[float, ...], source: str) -> Pose | None:
    """The pose that parameters give; None if they give none, or `source` is tf.

    Raises:
        InputError: as of `pose_from_parameters`, or there are two.
    """
    pose = pose_from_parameters(position, orientation)
    if pose is not None and source == 'tf':
        raise InputError('camera_pose', 'tf, or camera_position and camera_orientation', 'both')
    return pose


class Transforms:
    """The camera's pose from tf2, where tf2 is installed (it is not on PyPI).

    Args:
        node: listens to /tf and /tf_static on its behalf; an executor must be spinning it.
    """

    def __init__(self, node: Node) -> None:
        try:
            import tf2_ros
        except ImportError as e:
            raise InputError('tf2', 'tf2_ros, or camera_position and camera_orientation', e) from e
        self._errors: tuple[type[Exception], ...] = (tf2_ros.TransformException,)
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def pose(self, work_frame: str, camera_frame: str, patience: float) -> Pose:
        """(rotation 3x3 optical frame -> work_frame, position [3] m), as soon as it is known.

        Args:
            work_frame: the table's frame.
            camera_frame: optical frame, `frame_id` of the images.
            patience: seconds to wait for it; 0: it is known by now, or not.

        Raises:
            InputError: it did not come.
        """
        end = time.monotonic() + patience
        while True:
            try:
                found = self._buffer.lookup_transform(work_frame, camera_frame, Time())
                break
            except self._errors as e:
                if time.monotonic() >= end:
                    raise InputError('tf2', f'a transform from {camera_frame or "no frame"} to {work_frame}',
                                     e) from e
            time.sleep(0.05)
        return pose_of_transform(found.transform)

    def close(self) -> None:
        """Listen no longer."""
        self._listener.unregister()


def pose_of_transform(transform: Any) -> Pose:
    """The pose that a geometry_msgs/Transform (camera in work frame) stands for.

    Raises:
        InputError: its rotation is no unit quaternion.
    """
    t, q = transform.translation, transform.rotation
    pose = pose_from_parameters((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
    assert pose is not None
    return pose


def preparation_from_info(info: CameraInfo, pose: Pose, rectified: bool = False,
                          crop: tuple[int, int, int, int] | None = None, letterbox: bool = False) -> Preparation:
    """What an image of this camera has to go through before the tracker, and the camera that it then has.

    Args:
        info: describes both the raw and the rectified image: K and D the one, P the other.
        pose: of the camera.
        rectified: the images are rectified already (`image_rect`).
        crop, letterbox: as of Preparation.

    Raises:
        InputError: as of `camera_from_info`; a distortion model or number of coefficients that is not known.
    """
    if rectified:
        return Preparation(camera_from_info(rectified_info(info), pose), None, crop, letterbox)
    d = tuple(map(float, info.d))
    lens = Lens(info.distortion_model, d) if any(d) else None
    return Preparation(camera_from_info(info, pose), lens, crop, letterbox)


class Part(Protocol):
    """The parameters that say which part of the images counts."""

    @property
    def crop(self) -> tuple[int, ...]:
        """left, top, width, height, or empty."""

    @property
    def letterbox(self) -> bool:
        """Whether bars make it square."""


def preparation_of(part: Part, rectified: bool, info: CameraInfo | None, pose: Pose | None,
                   own: PinholeCamera | None) -> Preparation:
    """What images go through, the same for perception, replay and planner.

    Args:
        part: of the images that counts.
        rectified: the images are free of distortion already.
        info: of the camera; None: it is the model's own.
        pose: of the camera; None: that of the model's own.
        own: the camera that the model was trained with; None where info and pose are given.

    Raises:
        InputError: as of `preparation_from_info`, or a crop that is not within the image.
    """
    crop = (part.crop[0], part.crop[1], part.crop[2], part.crop[3]) if part.crop else None
    if pose is None:
        assert own is not None
        pose = own.rotation, own.position
    if info is None:
        assert own is not None
        camera = PinholeCamera(own.width, own.height, own.fx, own.fy, own.cx, own.cy, *pose)
        return Preparation(camera, None, crop, part.letterbox)
    return preparation_from_info(info, pose, rectified, crop, part.letterbox)


def is_rectified(choice: str, topic: str) -> bool:
    """What the parameter `rectified` (yes, no, auto) says of the images on a topic; auto goes by its name."""
    return named_rectified(topic) if choice == 'auto' else choice == 'yes'


def rectified_info(info: CameraInfo) -> CameraInfo:
    """The CameraInfo whose K is what P says of the rectified image; as it is where P is empty."""
    p = [float(x) for x in info.p]
    if not p[0] > 0:
        return info
    return CameraInfo(header=info.header, width=info.width, height=info.height, binning_x=info.binning_x,
                      binning_y=info.binning_y, roi=info.roi, k=[*p[0:3], *p[4:7], *p[8:11]])


def camera_from_info(info: CameraInfo, pose: Pose) -> PinholeCamera:
    """The camera that a CameraInfo message describes, at `pose`; binning and region of interest are refused.

    Raises:
        InputError: no size, no focal length, numbers that are not finite, or a cropped or binned image.
    """
    k = np.asarray(info.k, float)
    if info.width < 1 or info.height < 1 or not np.isfinite(k).all() or k[0] <= 0 or k[4] <= 0:
        raise InputError('camera_info', 'width, height and focal lengths above 0',
                         f'{info.width}x{info.height}, fx {k[0]:g}, fy {k[4]:g}')
    if info.binning_x > 1 or info.binning_y > 1 or info.roi.width or info.roi.height:
        raise InputError('camera_info', 'a full image without binning', 'binning or a region of interest')
    return PinholeCamera(info.width, info.height, k[0], k[4], k[2] + 0.5, k[5] + 0.5, *pose)


def in_source_pixels(frame: TrackedFrame, preparation: Preparation) -> TrackedFrame:
    """A frame whose centroids and boxes are pixels of the image as it came, not of the prepared one."""
    if not preparation.changes:
        return frame
    entities = []
    for e in frame.entities:
        (u, v), box = preparation.to_source([e.centroid])[0], preparation.box_to_source(e.box)
        entities.append(dataclasses.replace(e, centroid=(float(u), float(v)),
                                            box=(float(box[0]), float(box[1]), float(box[2]), float(box[3]))))
    return dataclasses.replace(frame, entities=tuple(entities))


def info_from_camera(camera: PinholeCamera, header: Header) -> CameraInfo:
    """The CameraInfo message of an undistorted pinhole camera."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5
    return CameraInfo(header=header, width=camera.width, height=camera.height, distortion_model='plumb_bob',
                      d=[0.0] * 5, k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
                      r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
                      p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0])


def same_camera(a: PinholeCamera, b: PinholeCamera) -> bool:
    """Whether two cameras agree to a hundredth of a pixel and a tenth of a millimetre."""
    return ((a.width, a.height) == (b.width, b.height)
            and np.allclose([a.fx, a.fy, a.cx, a.cy], [b.fx, b.fy, b.cx, b.cy], atol=1e-2)
            and np.allclose(a.rotation, b.rotation, atol=1e-5) and np.allclose(a.position, b.position, atol=1e-4))
