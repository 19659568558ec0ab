"""The camera's pose above the work plane, from points whose places on the table are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry.camera import PinholeCamera
from object_centric_ros.geometry.homography import Homography
from object_centric_ros.geometry.preparation import Lens

FOCAL_DOUBT = 0.03
"""A focal length whose standard deviation is a larger share than this is not taken from one view."""


@dataclass(frozen=True)
class Calibration:
    """A camera with its pose, and how well it explains the points.

    Attributes:
        camera: without distortion.
        lens: distortion of the images, None for none.
        pixels: [N, 2] of the points, without distortion.
        points: [N, 3] their places in work_plane, metres.
        estimated: the focal length was taken from the points too.
        position_std: standard deviation [3] (m) of the camera's position, from what the points are off by.
    """

    camera: PinholeCamera
    lens: Lens | None
    pixels: NDArray[np.float64]
    points: NDArray[np.float64]
    estimated: bool
    position_std: NDArray[np.float64]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Distance [N] (pixels) of each point from where the camera should see it."""
        return np.asarray(np.linalg.norm(self.camera.project(self.points) - self.pixels, axis=1))

    @property
    def rms(self) -> float:
        """Reprojection error (pixels): root of the mean square of `errors`."""
        return float(np.sqrt(np.mean(self.errors ** 2)))

    @property
    def quaternion(self) -> NDArray[np.float64]:
        """Orientation (x, y, z, w), optical frame -> work_plane."""
        return quaternion(self.camera.rotation)

    def homography(self) -> Homography:
        """Pixels without distortion -> the table."""
        return Homography.of_camera(self.camera)


def calibrate(pixels: ArrayLike, points: ArrayLike, size: tuple[int, int], intrinsics: PinholeCamera | None = None,
              lens: Lens | None = None) -> Calibration:
    """The pose that explains where points are seen.

    Args:
        pixels: [N, 2], N >= 4, as they are seen; centres at integer + 0.5.
        points: [N, 2] or [N, 3], metres in work_plane; not on one line.
        size: width and height of the images.
        intrinsics: a camera whose focal lengths and principal point count and whose pose does not. None: square pixels,
            the middle of the image as principal point, and the focal length that fits; wants an oblique view.
        lens: distortion of the images.

    Raises:
        InputError: too few points, on a line, outside of the image, or no pose or focal length that explains them.
    """
    uv = np.ascontiguousarray(np.asarray(pixels, float).reshape(-1, 2))
    xyz = np.ascontiguousarray(np.atleast_2d(np.asarray(points, float)))  # OpenCV takes no slices
    if xyz.shape[1] == 2:
        xyz = np.column_stack([xyz, np.zeros(len(xyz))])
    Homography.fit(uv, xyz[:, :2])  # says what is wrong with the points
    width, height = size
    if (uv < 0).any() or (uv > [width, height]).any():
        raise InputError('marked points', f'within the image, {width}x{height} pixels', uv.tolist())
    if intrinsics is not None and (intrinsics.width, intrinsics.height) != size:
        raise InputError('image size', f'{intrinsics.width}x{intrinsics.height} as camera_info says',
                         f'{width}x{height}')
    own = intrinsics or _with_focal_length(uv, xyz, size)
    if lens is not None:
        uv = lens.undistort(uv, own)
    k = np.array([[own.fx, 0, own.cx], [0, own.fy, own.cy], [0, 0, 1]])
    flat = not np.ptp(xyz[:, 2])
    _, turns, moves, _ = cv2.solvePnPGeneric(xyz, uv, k, None, flags=cv2.SOLVEPNP_IPPE if flat else cv2.SOLVEPNP_SQPNP)
    found = []
    for turn, move in zip(turns, moves, strict=True):
        turn, move = cv2.solvePnPRefineLM(xyz, uv, k, None, turn, move)
        rotation = np.asarray(cv2.Rodrigues(turn)[0], float).T
        camera = replace(own, rotation=rotation, position=np.asarray(-rotation @ move, float).reshape(3))
        seen = (xyz - camera.position) @ rotation
        if camera.position[2] > 0 and (seen[:, 2] > 0).all():
            found.append(Calibration(camera, lens, uv, xyz, intrinsics is None, _spread(xyz, uv, k, turn, move)))
    if not found:
        raise InputError('calibration', 'points that a camera above the table can see (x and y the right way round?)',
                         xyz[:, :2].tolist())
    return min(found, key=lambda c: c.rms)


def _with_focal_length(uv: NDArray[np.float64], xyz: NDArray[np.float64], size: tuple[int, int]) -> PinholeCamera:
    """A camera with the focal length that explains one view best."""
    guess = np.array([[max(size), 0, size[0] / 2], [0, max(size), size[1] / 2], [0, 0, 1.0]])
    flags = (cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_FIX_PRINCIPAL_POINT | cv2.CALIB_FIX_ASPECT_RATIO
             | cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3)
    try:
        _, k, _, _, _, doubt, *_ = cv2.calibrateCameraExtended(
            [xyz.astype(np.float32)], [uv.astype(np.float32)[:, None]], size, guess, np.zeros(5), flags=flags)
    except cv2.error as e:
        raise InputError('calibration', 'points that a pinhole camera explains', e) from e
    f, share = float(k[0, 0]), float(np.ravel(doubt)[0]) / max(float(k[0, 0]), 1e-9)
    if not (0.2 < f / max(size) < 50 and share < FOCAL_DOUBT):
        raise InputError('focal length', 'camera_info, or an oblique view with points far apart, from which it can be '
                         'told', f'{f:.0f} pixels, uncertain by {100 * share:.0f} %')
    return PinholeCamera(*size, f, f, size[0] / 2, size[1] / 2, np.eye(3), np.zeros(3))


def _spread(xyz: NDArray[np.float64], uv: NDArray[np.float64], k: NDArray[np.float64], turn: NDArray, move: NDArray
            ) -> NDArray[np.float64]:
    """Standard deviation [3] (m) of the camera's position, from the residuals (Gauss-Newton covariance)."""
    seen, jacobian = cv2.projectPoints(xyz, turn, move, k, np.zeros(5))
    free = 2 * len(uv) - 6
    variance = float(((seen.reshape(-1, 2) - uv) ** 2).sum()) / max(free, 1)
    covariance = variance * np.linalg.pinv(jacobian[:, :6].T @ jacobian[:, :6])
    rotation = np.asarray(cv2.Rodrigues(turn)[0], float)
    steps = np.eye(3) * 1e-6  # position = -R^T t, by turn (numerically) and move
    by_turn = [(-cv2.Rodrigues(turn.reshape(3) + s)[0].T @ move + rotation.T @ move).reshape(3) / 1e-6 for s in steps]
    j = np.column_stack([*by_turn, *(-rotation.T).T])
    return np.asarray(np.sqrt(np.clip(np.diag(j @ covariance @ j.T), 0, None)))


def quaternion(rotation: ArrayLike) -> NDArray[np.float64]:
    """Quaternion (x, y, z, w), w >= 0, of a rotation matrix 3x3."""
    axis = cv2.Rodrigues(np.asarray(rotation, float))[0].reshape(3)
    angle = float(np.linalg.norm(axis))
    unit = axis / angle if angle > 1e-12 else np.zeros(3)
    return np.append(np.sin(angle / 2) * unit, np.cos(angle / 2))


def rotation_of(orientation: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrix 3x3 of a quaternion [4] (x, y, z, w) or of a matrix by rows [9]; the inverse of `quaternion`."""
    given = np.asarray(orientation, float)
    if given.size == 9:
        return given.reshape(3, 3)
    unit = given.reshape(4) / np.linalg.norm(given)
    sine = float(np.linalg.norm(unit[:3]))
    axis = unit[:3] / sine if sine > 1e-12 else np.zeros(3)
    return np.asarray(cv2.Rodrigues(2 * np.arctan2(sine, unit[3]) * axis)[0], float)
