"""Small pictures for reports: PNG data, masks in colour, film strips."""

from __future__ import annotations

import base64
import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

Image = NDArray[np.uint8]


def entity_colour(entity_id: int) -> tuple[int, int, int]:
    """The bright RGB colour that stands for an entity; ids that follow each other differ clearly."""
    r, g, b = colorsys.hsv_to_rgb(entity_id * 0.618034 % 1.0, 0.75, 1.0)
    return int(255 * r), int(255 * g), int(255 * b)


def png(image: Image) -> bytes:
    """An RGB image [H, W, 3] as PNG."""
    ok, data = cv2.imencode('.png', np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not ok:
        raise InputError('image', 'uint8 [H, W, 3] RGB', f'{image.dtype} {list(image.shape)}')
    return bytes(data)


def data_url(image: Image) -> str:
    """An RGB image as a data: URL."""
    return 'data:image/png;base64,' + base64.b64encode(png(image)).decode()


def resize(image: Image, width: int, height: int) -> Image:
    """The image [height, width, 3]; small ones are enlarged with sharp pixels."""
    enlarge = width >= 2 * image.shape[1]
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST if enlarge else cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def label_picture(labels: NDArray[np.uint16]) -> Image:
    """Entity ids [S, S] as colours, the rest dark."""
    out = np.full((*labels.shape, 3), 38, np.uint8)
    for i in np.unique(labels):
        if i:
            out[labels == i] = entity_colour(int(i))
    return out


def entity_picture(image: Image, labels: NDArray[np.uint16], entity_id: int) -> Image:
    """What one entity explains: its pixels of the model image, everything else faded to white."""
    keep = (labels == entity_id)[..., None]
    return np.where(keep, image, (0.12 * image.astype(float) + 0.88 * 255)).astype(np.uint8)


def strip(images: Sequence[Image], gap: int = 4) -> Image:
    """Images of one height side by side on white."""
    if not images:
        raise InputError('images', 'at least one', 'none')
    spacer = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    return np.concatenate([part for i, image in enumerate(images) for part in ((spacer, image) if i else (image,))], 1)


def write_text(canvas: Image, text: str, at: tuple[int, int], scale: float = 0.5,
               colour: tuple[int, int, int] = (235, 235, 235)) -> None:
    """Write into `canvas`, baseline starting at `at` (u, v); only ASCII can be drawn."""
    plain = text.encode('ascii', 'replace').decode()
    cv2.putText(canvas, plain, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
