"""Painting for the flat worlds: small patches set into many images at once.

Pixel (column u, row v) has its centre at (u + 0.5, v + 0.5); x points right, y down, both in pixels. A patch is
a square of pixels that holds all of an object that falls into the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OVERLAP = 255
"""Label of a pixel that more than one object covers."""


class Canvas:
    """Images of one kind.

    Args:
        images: how many, N.
        size: side of an image (pixels).
        side: side of the patches (pixels); the attribute is at most `size` where there is no margin.
        shape: of one pixel, e.g. (3,) for colours.
        dtype: of a value.
        margin: pixels to the right of the images and below them that patches may reach into.
    """

    def __init__(self, images: int, size: int, side: int, shape: tuple[int, ...] = (), dtype: type = np.uint8,
                 margin: int = 0) -> None:
        self.size, self.width = size, size + margin
        self.side = min(side, self.width)
        self.pixels: NDArray = np.zeros((images, self.width, self.width, *shape), dtype)
        self.flat = self.pixels.reshape(-1, *shape)

    def corners(self, centres: NDArray[np.float64]) -> NDArray[np.int64]:
        """First column and row [N, 2] of the patches around these centres [N, 2], moved into the image."""
        corner = np.floor(centres).astype(np.int64) - self.side // 2
        return np.clip(corner, 0, self.size - self.side)

    def places(self, corners: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices [N, side, side] into `flat` of the patches at `corners` [N, 2] of the images `rows` [N]."""
        start = (rows * self.width + corners[:, 1]) * self.width + corners[:, 0]
        offset = np.arange(self.side)
        return start[:, None, None] + (offset[:, None] * self.width + offset)

    def images(self) -> NDArray:
        """The images [N, size, size, ...] without the margin."""
        return np.ascontiguousarray(self.pixels[:, :self.size, :self.size])


def offsets(corners: NDArray[np.int64], centres: NDArray[np.float64], side: int) -> tuple[NDArray, NDArray]:
    """How far the pixel centres of patches lie from `centres` [N, 2]: x [N, 1, side] and y [N, side, 1]."""
    away = corners + 0.5 - centres
    steps = np.arange(side)
    return away[:, 0, None, None] + steps, away[:, 1, None, None] + steps[:, None]


def paint_discs(centres: NDArray[np.floating], radii: NDArray[np.floating], present: NDArray[np.bool_], size: int,
                marked: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Labels of discs, and the pixels of some of them.

    A pixel belongs to a disc when its centre lies within the radius.

    Args:
        centres: [N, K, 2] (pixels).
        radii: [N, K] (pixels).
        present: [N, K], which discs there are.
        size: side of an image (pixels).
        marked: [N, K], the discs whose pixels are asked for.

    Returns:
        Labels [N, size, size]: 0 background, k + 1 for disc k, `OVERLAP` where discs overlap; pixels of marked discs
        [N, size, size].
    """
    side = 2 * int(np.ceil(np.where(present, radii, 0).max(initial=0))) + 2
    labels, marks = Canvas(len(centres), size, side), Canvas(len(centres), size, side, dtype=np.bool_)
    for k in range(centres.shape[1]):
        rows = np.flatnonzero(present[:, k])
        centre = centres[rows, k].astype(np.float64)
        corners = labels.corners(centre)
        x, y = offsets(corners, centre, labels.side)
        inside = x * x + y * y <= radii[rows, k, None, None].astype(np.float64) ** 2
        places = labels.places(corners, rows)
        before = labels.flat[places]
        labels.flat[places] = np.where(inside, np.where(before == 0, k + 1, OVERLAP), before)
        chosen = marked[rows, k]
        marks.flat[places[chosen]] |= inside[chosen]
    return labels.images(), marks.images()


def colour(labels: NDArray[np.uint8], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB [N, S, S, 3] of labels [N, S, S] and objects' colours [N, K, 3], on black; overlaps are white."""
    table = np.zeros((len(colours), 256, 4), np.uint8)
    table[:, 1:1 + colours.shape[1], :3] = colours
    table[:, OVERLAP] = 255
    entries = labels.reshape(len(labels), -1) + 256 * np.arange(len(labels))[:, None]
    pixels = table.view(np.uint32).ravel()[entries].view(np.uint8).reshape(*labels.shape, 4)
    out = np.empty((*labels.shape, 3), np.uint8)
    for channel in range(3):  # whole planes: much faster than pixels of three bytes
        out[..., channel] = pixels[..., channel]
    return out


def hsv_to_rgb(hsv: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGB [..., 3] in [0, 1] of hue, saturation and value [..., 3] in [0, 1]."""
    h, s, v = hsv[..., :1], hsv[..., 1:2], hsv[..., 2:]
    k = (np.array([5.0, 3.0, 1.0]) + 6 * h) % 6
    return v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)
