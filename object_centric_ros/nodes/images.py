"""sensor_msgs/Image <-> NumPy, without copies where that is possible; no cv_bridge."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from object_centric_ros.errors import InputError

CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}
TO_RGB = {'bgr8': cv2.COLOR_BGR2RGB, 'rgba8': cv2.COLOR_RGBA2RGB, 'bgra8': cv2.COLOR_BGRA2RGB,
          'mono8': cv2.COLOR_GRAY2RGB}
MAX_SIDE = 8192


def check_image(message: Image) -> None:
    """Refuse an image whose encoding, size, step and data do not fit together.

    Raises:
        InputError: with what was expected and what came.
    """
    if message.encoding not in CHANNELS:
        raise InputError('image encoding', f'one of {", ".join(CHANNELS)}', message.encoding or 'none')
    if not (0 < message.width <= MAX_SIDE and 0 < message.height <= MAX_SIDE):
        raise InputError('image size', f'1 to {MAX_SIDE} pixels a side', f'{message.width}x{message.height}')
    row, need = message.width * CHANNELS[message.encoding], message.step * message.height
    if message.step < row:
        raise InputError('image step', f'at least {row} bytes for {message.width} pixels {message.encoding}',
                         message.step)
    if len(message.data) < need:
        raise InputError('image data', f'{need} bytes ({message.height} rows of {message.step})',
                         f'{len(message.data)} bytes')


def to_rgb(message: Image) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] uint8; rgb8 is a read-only view of the message's data.

    Raises:
        InputError: see `check_image`.
    """
    check_image(message)
    channels = CHANNELS[message.encoding]
    pixels: NDArray[np.uint8] = np.ndarray((message.height, message.width, channels), np.uint8, message.data,
                                           strides=(message.step, channels, 1))
    if message.encoding == 'rgb8':
        pixels.flags.writeable = False
        return pixels
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), TO_RGB[message.encoding]), np.uint8)


def from_array(pixels: NDArray[np.uint8] | NDArray[np.uint16], header: Header, encoding: str) -> Image:
    """An image message of `pixels`: uint8 [H, W, 3] as rgb8 or bgr8, uint8 [H, W] as mono8, uint16 [H, W] as mono16."""
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = pixels.shape[1] * pixels.itemsize * (pixels.shape[2] if pixels.ndim == 3 else 1)
    message.data = array('B', pixels.tobytes())  # an ndarray would be iterated: 60 ms for 640x480
    return message


def labels_of(message: Image) -> NDArray[np.uint16]:
    """Label image [H, W] of a mono16 message.

    Raises:
        InputError: another encoding or too few bytes.
    """
    if message.encoding != 'mono16':
        raise InputError('label image encoding', 'mono16', message.encoding)
    if message.step < 2 * message.width or len(message.data) < message.step * message.height:
        raise InputError('label image data', f'{2 * message.width * message.height} bytes',
                         f'{len(message.data)} bytes')
    kind = np.dtype('>u2' if message.is_bigendian else '<u2')
    raw: NDArray[np.uint16] = np.ndarray((message.height, message.width), kind, message.data, strides=(message.step, 2))
    return raw.astype(np.uint16)
