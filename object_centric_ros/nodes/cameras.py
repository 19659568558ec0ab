"""Where the camera is and what it sees: pose from parameters, intrinsics from CameraInfo."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera

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
        norm = float(np.linalg.norm(orientation))
        x, y, z, w = np.asarray(orientation, float) / (norm if abs(norm - 1) < 0.05 else np.nan)
        rotation = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                             [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                             [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise InputError('camera_orientation', 'a unit quaternion x, y, z, w or a rotation matrix', list(orientation))
    return rotation, np.asarray(position, float)


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
    return PinholeCamera(info.width, info.height, k[0], k[4], k[2], k[5], *pose)


def info_from_camera(camera: PinholeCamera, header: Header) -> CameraInfo:
    """The CameraInfo message of an undistorted pinhole camera."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return CameraInfo(header=header, width=camera.width, height=camera.height, distortion_model='plumb_bob',
                      d=[0.0] * 5, k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
                      r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
                      p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0])


def same_camera(a: PinholeCamera, b: PinholeCamera) -> bool:
    """Whether two cameras agree to a hundredth of a pixel and a tenth of a millimetre."""
    return ((a.width, a.height) == (b.width, b.height)
            and np.allclose([a.fx, a.fy, a.cx, a.cy], [b.fx, b.fy, b.cx, b.cy], atol=1e-2)
            and np.allclose(a.rotation, b.rotation, atol=1e-5) and np.allclose(a.position, b.position, atol=1e-4))
