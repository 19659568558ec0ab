"""What happens to a camera image before a model sees it: undistortion, a crop, bars instead of cut edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry.camera import PinholeCamera

COEFFICIENTS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,), 'fisheye': (4,)}
"""Distortion models of sensor_msgs/CameraInfo and how many numbers each takes; the last two are the same one."""


def named_rectified(topic: str) -> bool:
    """Whether a topic's name says that its images are rectified, as image_proc names them (image_rect, ...)."""
    return any(word.startswith('rect') for part in topic.split('/')[-2:] for word in part.split('_'))


@dataclass(frozen=True)
class Lens:
    """How a lens distorts, as OpenCV and sensor_msgs/CameraInfo describe it.

    Attributes:
        model: one of COEFFICIENTS.
        coefficients: no unit.
    """

    model: str
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in COEFFICIENTS:
            raise InputError('distortion model', f'one of {", ".join(COEFFICIENTS)}', self.model or 'none')
        if len(self.coefficients) not in COEFFICIENTS[self.model] or not np.isfinite(self.coefficients).all():
            raise InputError(f'distortion coefficients of {self.model}',
                             f'{" or ".join(map(str, COEFFICIENTS[self.model]))} finite numbers',
                             list(self.coefficients))

    @property
    def fisheye(self) -> bool:
        """Whether angles are distorted, rather than tangents."""
        return self.model in ('equidistant', 'fisheye')

    def maps(self, camera: PinholeCamera) -> tuple[NDArray, NDArray]:
        """For `cv2.remap`: where each pixel of the image without distortion is in the distorted one."""
        k, d, size = _matrix(camera), np.array(self.coefficients), (camera.width, camera.height)
        make = cv2.fisheye.initUndistortRectifyMap if self.fisheye else cv2.initUndistortRectifyMap
        first, second = make(k, d, np.eye(3), k, size, cv2.CV_16SC2)
        return np.asarray(first), np.asarray(second)

    def undistort(self, pixels: ArrayLike, camera: PinholeCamera) -> NDArray[np.float64]:
        """Pixels [N, 2] of the distorted image -> of the one without."""
        uv = np.asarray(pixels, float).reshape(-1, 1, 2) - 0.5
        if not len(uv):
            return uv.reshape(-1, 2)
        k, d = _matrix(camera), np.array(self.coefficients)
        undo = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        return np.asarray(undo(uv, k, d, R=np.eye(3), P=k), float).reshape(-1, 2) + 0.5

    def distort(self, pixels: ArrayLike, camera: PinholeCamera) -> NDArray[np.float64]:
        """Pixels [N, 2] of the image without distortion -> of the distorted one."""
        uv = np.asarray(pixels, float).reshape(-1, 2)
        if not len(uv):
            return uv
        rays = np.column_stack([(uv - [camera.cx, camera.cy]) / [camera.fx, camera.fy], np.ones(len(uv))])
        k, d, zero = _matrix(camera), np.array(self.coefficients), np.zeros(3)
        if self.fisheye:
            out, _ = cv2.fisheye.projectPoints(rays[:, None], zero, zero, k, d)
        else:
            out, _ = cv2.projectPoints(rays, zero, zero, k, d)
        return np.asarray(out, float).reshape(-1, 2) + 0.5


def _matrix(camera: PinholeCamera) -> NDArray[np.float64]:
    """OpenCV's camera matrix: it counts pixel centres as integers."""
    return np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]])


class Preparation:
    """Images of a camera -> images as the tracker takes them; made once, as it computes maps.

    Args:
        camera: of the images that come.
        lens: its distortion, None for rectified images.
        crop: left, top, width, height (pixels) of the part that counts, after undistortion; None for all of it.
        letterbox: what is cropped gets black bars, above and below or left and right, until it is square. Otherwise the
            tracker cuts the longer side down to the middle square.

    Attributes:
        camera: without distortion, of the images that come out.
        source: the camera of the images that come.
    """

    def __init__(self, camera: PinholeCamera, lens: Lens | None = None,
                 crop: tuple[int, int, int, int] | None = None, letterbox: bool = False) -> None:
        left, top, width, height = crop or (0, 0, camera.width, camera.height)
        if min(left, top) < 0 or min(width, height) < 1 or left + width > camera.width or top + height > camera.height:
            raise InputError('crop', f'left, top, width, height within {camera.width}x{camera.height} pixels', crop)
        self.source, self.lens = camera, lens
        self._maps = lens.maps(camera) if lens is not None else None
        self._back: tuple[NDArray, NDArray] | None = None
        self._cut = (slice(top, top + height), slice(left, left + width))
        side = max(width, height) if letterbox else 0
        self._bars = (max(0, side - height) // 2, max(0, side - width) // 2)
        self._size = (max(height, side), max(width, side))
        self._shift = np.array([left - self._bars[1], top - self._bars[0]], float)
        self.camera = replace(camera, width=self._size[1], height=self._size[0], cx=camera.cx - self._shift[0],
                              cy=camera.cy - self._shift[1])
        self.changes = lens is not None or self._size != (camera.height, camera.width) or bool(self._shift.any())

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image [H, W, 3] of the camera, prepared; the same array where there is nothing to do.

        Raises:
            InputError: the image is not of the camera's size.
        """
        if image.shape[:2] != (self.source.height, self.source.width):
            raise InputError('image size', f'{self.source.width}x{self.source.height} of the camera',
                             f'{image.shape[1]}x{image.shape[0]}')
        if not self.changes:
            return image
        if self._maps is not None:
            image = np.asarray(cv2.remap(image, *self._maps, cv2.INTER_LINEAR), np.uint8)
        cut = image[self._cut]
        if cut.shape[:2] == self._size:
            return np.ascontiguousarray(cut)
        out = np.zeros((*self._size, 3), np.uint8)
        top, left = self._bars
        out[top:top + cut.shape[0], left:left + cut.shape[1]] = cut
        return out

    def to_source(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Pixels [N, 2] of a prepared image -> of the image as it came; NaN stays NaN."""
        uv = np.asarray(pixels, float).reshape(-1, 2) + self._shift
        if self.lens is not None:
            known = np.isfinite(uv).all(1)
            uv[known] = self.lens.distort(uv[known], self.source)
        return uv

    def labels_to_source(self, labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Labels [H, W] of a prepared image -> of the image as it came; 0 where the prepared one shows none of it."""
        if not self.changes:
            return labels
        if self._back is None:
            v, u = np.indices((self.source.height, self.source.width)) + 0.5
            uv = np.column_stack([u.ravel(), v.ravel()])
            if self.lens is not None:
                uv = self.lens.undistort(uv, self.source)
            uv = (uv - self._shift - 0.5).astype(np.float32).reshape(self.source.height, self.source.width, 2)
            self._back = uv[..., 0], uv[..., 1]
        return np.asarray(cv2.remap(labels, *self._back, cv2.INTER_NEAREST), np.uint16)

    def box_to_source(self, box: ArrayLike) -> NDArray[np.float64]:
        """The box [4] (u0, v0, u1, v1) around what a box of a prepared image shows in the image as it came."""
        u0, v0, u1, v1 = np.asarray(box, float)
        edges = np.array([[u, v] for u in (u0, (u0 + u1) / 2, u1) for v in (v0, (v0 + v1) / 2, v1)])
        there = self.to_source(edges)
        return np.concatenate([there.min(0), there.max(0)])
