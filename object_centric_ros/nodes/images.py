"""sensor_msgs/Image <-> NumPy, without copies where that is possible."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from object_centric_ros import encodings
from object_centric_ros.errors import InputError
from object_centric_ros.nodes import bridge


def to_rgb(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] uint8; rgb8 is a read-only view of the message's data.

    Encodings other than rgb8 go through cv_bridge where there is one that works, which also knows more of them
    (`bridge.MORE`); the result is the same.

    Raises:
        InputError: what does not fit together, is too large, a depth image, or of an encoding that is not understood.
    """
    if isinstance(message, CompressedImage) or message.encoding == 'rgb8':
        return encodings.to_rgb(message)
    if message.encoding in bridge.MORE and message.encoding in bridge.usable():
        encodings.check_layout(message, bridge.MORE[message.encoding])
        return bridge.convert(message)
    encodings.check_image(message)
    return bridge.convert(message) if message.encoding in bridge.usable() else encodings.to_rgb(message)


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


def masks_message(masks: NDArray[np.float32], header: Header) -> Image:
    """Mixing weights [K, S, S] as one mono8 image [K * S, S]: slot 0 above, then slot 1 and so on, 255 for all of it.

    `Entity.slot` says which of them is an entity's.
    """
    return from_array(np.round(255 * masks).astype(np.uint8).reshape(-1, masks.shape[-1]), header, 'mono8')


def masks_of(message: Image) -> NDArray[np.float32]:
    """The inverse of `masks_message`, weights [K, S, S] to 1/255.

    Raises:
        InputError: not such an image.
    """
    width, height = int(message.width), int(message.height)
    if (message.encoding != 'mono8' or message.step != width or not width or height % width
            or len(message.data) != width * height):
        raise InputError('soft masks', 'mono8, square masks one below the other',
                         f'{message.encoding}, {width}x{height}, {len(message.data)} bytes')
    raw = np.frombuffer(message.data, np.uint8).reshape(-1, width, width)
    return np.asarray(raw / np.float32(255), np.float32)
