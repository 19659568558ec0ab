"""Pixels -> work plane as a homography, and what pixel noise makes of positions."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry.camera import PinholeCamera


@dataclass(frozen=True)
class Homography:
    """A plane seen by a camera without distortion: (x, y, 1) ~ matrix (u, v, 1).

    Attributes:
        matrix: 3x3, pixels (centres at integer + 0.5) -> metres on the plane.
    """

    matrix: NDArray[np.float64]

    @classmethod
    def fit(cls, pixels: ArrayLike, points: ArrayLike) -> Homography:
        """Least squares over four or more pairs of pixels [N, 2] and places [N, 2] (m).

        Raises:
            InputError: too few pairs, numbers that are not finite, or points on one line.
        """
        uv, xy = np.asarray(pixels, float).reshape(-1, 2), np.asarray(points, float).reshape(-1, 2)
        if len(uv) != len(xy) or len(uv) < 4:
            raise InputError('homography', 'four or more pairs of pixel and place', f'{len(uv)} and {len(xy)}')
        if not (np.isfinite(uv).all() and np.isfinite(xy).all()):
            raise InputError('homography', 'finite pixels and places', 'others')
        for what, values in (('pixels', uv), ('places', xy)):
            spread = np.linalg.svd(values - values.mean(0), compute_uv=False)
            if spread[1] < 1e-3 * max(spread[0], 1e-12):
                raise InputError(f'homography: {what}', 'points that are not on one line', values.tolist())
        matrix, _ = cv2.findHomography(uv, xy, 0)
        if matrix is None or not np.isfinite(matrix).all():
            raise InputError('homography', 'points of which no three are on one line', 'others')
        return cls(np.asarray(matrix, float))

    @classmethod
    def of_camera(cls, camera: PinholeCamera, height: float = 0.0) -> Homography:
        """The plane z = `height` (m) of work_plane as a camera sees it."""
        intrinsics = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
        to_camera = camera.rotation.T
        plane = np.column_stack([to_camera[:, 0], to_camera[:, 1],
                                 to_camera @ (np.array([0, 0, height]) - camera.position)])
        return cls(np.asarray(np.linalg.inv(intrinsics @ plane), float))

    def to_plane(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Pixels [N, 2] -> places [N, 2], metres."""
        uv = np.asarray(pixels, float).reshape(-1, 2)
        xyw = np.column_stack([uv, np.ones(len(uv))]) @ self.matrix.T
        return np.asarray(xyw[:, :2] / xyw[:, 2:])

    def to_pixels(self, places: ArrayLike) -> NDArray[np.float64]:
        """Places [N, 2] (m) -> pixels [N, 2]."""
        return Homography(np.asarray(np.linalg.inv(self.matrix), float)).to_plane(places)

    def jacobian(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """d(x, y)/d(u, v) at pixels [N, 2], [N, 2, 2] in metres a pixel."""
        uv = np.asarray(pixels, float).reshape(-1, 2)
        w = np.column_stack([uv, np.ones(len(uv))]) @ self.matrix[2]
        return np.asarray((self.matrix[:2, :2] - self.to_plane(uv)[:, :, None] * self.matrix[2, :2]) / w[:, None, None])

    def covariance(self, pixels: ArrayLike, noise: ArrayLike) -> NDArray[np.float64]:
        """Covariance [N, 2, 2] (m^2) of the places of pixels [N, 2], to first order: J noise J^T.

        Args:
            pixels: [N, 2].
            noise: of the pixels: standard deviation, or covariance [2, 2] or [N, 2, 2] (pixels^2).
        """
        given = np.asarray(noise, float)
        spread = given ** 2 * np.eye(2) if given.ndim == 0 else given
        j = self.jacobian(pixels)
        return np.asarray(j @ spread @ j.transpose(0, 2, 1))


def position_covariance(camera: PinholeCamera, pixels: ArrayLike, height: float, noise: ArrayLike,
                        height_noise: float = 0.0) -> NDArray[np.float64]:
    """Covariance [N, 3, 3] (m^2) of the points that pixels [N, 2] show on the plane z = `height` (m).

    Args:
        camera: without distortion.
        pixels: [N, 2].
        height: of the plane, metres.
        noise: of the pixels, as in `Homography.covariance`.
        height_noise: standard deviation of the height (m); what is higher than thought is also nearer to the camera.
    """
    uv = np.asarray(pixels, float).reshape(-1, 2)
    out = np.zeros((len(uv), 3, 3))
    out[:, :2, :2] = Homography.of_camera(camera, height).covariance(uv, noise)
    points = camera.to_plane(uv, height)
    along = (points - camera.position) / (height - camera.position[2])  # d(x, y, z)/dz along each ray
    return np.asarray(out + height_noise ** 2 * along[:, :, None] * along[:, None, :])
