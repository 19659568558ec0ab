"""The pinhole camera, the work plane, and the crop that the models see.

Frames: ``work_plane`` has its origin on the table surface, x to the right of the image, y away from the camera, z up
(metres). The optical frame follows ROS: x right, y down, z forward. Pixels are (u, v), u to the right, v down, with
pixel centres at integer + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError


@dataclass(frozen=True)
class PinholeCamera:
    """A pinhole camera with a known pose above the work plane.

    Attributes:
        width, height: image size in pixels.
        fx, fy, cx, cy: intrinsics in pixels.
        rotation: 3x3 matrix, optical frame -> work_plane.
        position: camera centre in work_plane, metres [3].
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    rotation: NDArray[np.float64]
    position: NDArray[np.float64]

    @classmethod
    def looking_at(cls, position: ArrayLike, target: ArrayLike, fovy_deg: float, width: int, height: int
                   ) -> PinholeCamera:
        """A camera at `position` that looks at `target` (both [3], metres), with the image's up along the world's."""
        eye, aim = np.asarray(position, float), np.asarray(target, float)
        forward = (aim - eye) / np.linalg.norm(aim - eye)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        f = height / (2 * np.tan(np.radians(fovy_deg) / 2))
        return cls(width, height, f, f, width / 2, height / 2, np.stack([right, down, forward], 1), eye)

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points [N, 3] in work_plane (m) -> pixels [N, 2]."""
        local = (np.asarray(points, float).reshape(-1, 3) - self.position) @ self.rotation
        return np.stack([self.fx * local[:, 0] / local[:, 2] + self.cx,
                         self.fy * local[:, 1] / local[:, 2] + self.cy], 1)

    def to_plane(self, pixels: ArrayLike, height: float = 0.0) -> NDArray[np.float64]:
        """Pixels [N, 2] -> points [N, 3] on the plane z = `height` of work_plane (m); NaN where the ray misses it."""
        uv = np.asarray(pixels, float).reshape(-1, 2)
        rays = np.stack([(uv[:, 0] - self.cx) / self.fx, (uv[:, 1] - self.cy) / self.fy, np.ones(len(uv))], 1)
        rays = rays @ self.rotation.T
        with np.errstate(divide='ignore', invalid='ignore'):
            scale = (height - self.position[2]) / rays[:, 2]
        points = self.position + scale[:, None] * rays
        points[~(scale > 0)] = np.nan
        return points

    def square(self, size: int) -> PinholeCamera:
        """The camera of the centre square crop, resized to `size` x `size`: what `model_image` returns."""
        side = min(self.width, self.height)
        k = size / side
        return PinholeCamera(size, size, self.fx * k, self.fy * k, (self.cx - (self.width - side) / 2) * k,
                             (self.cy - (self.height - side) / 2) * k, self.rotation, self.position)

    def to_dict(self) -> dict:
        """Plain numbers and lists, for YAML, JSON and HDF5 attributes."""
        return {'width': self.width, 'height': self.height, 'fx': self.fx, 'fy': self.fy, 'cx': self.cx, 'cy': self.cy,
                'rotation': np.asarray(self.rotation).tolist(), 'position': np.asarray(self.position).tolist()}

    @classmethod
    def from_dict(cls, d: dict) -> PinholeCamera:
        """The inverse of `to_dict`."""
        try:
            return cls(int(d['width']), int(d['height']),
                       float(d['fx']), float(d['fy']), float(d['cx']), float(d['cy']),
                       np.asarray(d['rotation'], float).reshape(3, 3), np.asarray(d['position'], float).reshape(3))
        except (KeyError, TypeError, ValueError) as e:
            raise InputError('camera', 'width, height, fx, fy, cx, cy, rotation 3x3, position 3', d) from e


def model_image(image: NDArray[np.uint8], size: int = 64) -> NDArray[np.uint8]:
    """Centre square crop of an RGB image [H, W, 3], area-resized to [size, size, 3].

    Every frame that a model sees, in training as on the robot, goes through this one function.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError('image', 'uint8 [H, W, 3] RGB', f'{image.dtype} {list(image.shape)}')
    h, w = image.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    crop = image[top:top + side, left:left + side]
    if side == size:
        return np.ascontiguousarray(crop)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=interpolation), np.uint8)


def normalised(pixels: ArrayLike, size: int) -> NDArray[np.float64]:
    """Pixels [N, 2] of the square model image -> image coordinates in [-1, 1] (u right, v down)."""
    return 2 * np.asarray(pixels, float) / size - 1


def table_to_model(camera: PinholeCamera, xy: ArrayLike, height: float) -> NDArray[np.float64]:
    """Work-plane positions [N, 2] (m), taken at z = `height`, -> normalised coordinates [N, 2] of the model image."""
    flat = np.asarray(xy, float).reshape(-1, 2)
    square = camera.square(64)
    return normalised(square.project(np.column_stack([flat, np.full(len(flat), height)])), 64)


def model_to_table(camera: PinholeCamera, uv: ArrayLike, height: float) -> NDArray[np.float64]:
    """Normalised coordinates [N, 2] of the model image -> work-plane positions [N, 2] (m) on z = `height`."""
    pixels = (np.asarray(uv, float).reshape(-1, 2) + 1) * 32
    return camera.square(64).to_plane(pixels, height)[:, :2]
