"""sensor_msgs Image and CompressedImage as RGB arrays; needs no ROS, whoever has read the message (rclpy, rosbags)."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

BYTES = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, 'mono16': 2,
         'yuv422': 2, 'uyvy': 2, 'yuv422_yuy2': 2, 'yuyv': 2}
"""Encodings that are understood, and how many bytes a pixel takes."""
TO_RGB = {'bgr8': cv2.COLOR_BGR2RGB, 'rgba8': cv2.COLOR_RGBA2RGB, 'bgra8': cv2.COLOR_BGRA2RGB,
          'mono8': cv2.COLOR_GRAY2RGB, 'mono16': cv2.COLOR_GRAY2RGB,
          'yuv422': cv2.COLOR_YUV2RGB_UYVY, 'uyvy': cv2.COLOR_YUV2RGB_UYVY,
          'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2, 'yuyv': cv2.COLOR_YUV2RGB_YUY2}
DEPTH = ('16UC1', '16SC1', '32FC1', '64FC1')
MAX_SIDE = 8192
MAX_PIXELS = 50_000_000
MAX_COMPRESSED = 64 * 2 ** 20


def check_depth(encoding: str) -> None:
    """Refuse depth images with the reason that helps."""
    if encoding.split(';')[0].strip() in DEPTH or 'compressedDepth' in encoding:
        raise InputError('image encoding', 'a colour or gray image; this is a depth image, which the models do not '
                         'take: remap `image` to the topic of the colour camera', encoding)


def check_size(width: int, height: int) -> None:
    """Refuse what is empty, or too large to be a camera's image."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise InputError('image size', f'1 to {MAX_SIDE} pixels a side, {MAX_PIXELS} together', f'{width}x{height}')


def check_image(message: Any) -> None:
    """Refuse an Image whose encoding, size, step and data do not fit together.

    Raises:
        InputError: with what was expected and what came.
    """
    encoding, width, height, step = message.encoding, int(message.width), int(message.height), int(message.step)
    check_depth(encoding)
    if encoding not in BYTES:
        raise InputError('image encoding', f'one of {", ".join(BYTES)}', encoding or 'none')
    check_layout(message, BYTES[encoding])
    if TO_RGB.get(encoding) in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUY2) and width % 2:
        raise InputError(f'image width of {encoding}', 'an even number: two pixels share a colour', width)
    if encoding == 'mono16' and step % 2 and height > 1:
        raise InputError('image step of mono16', 'an even number of bytes', step)


def check_layout(message: Any, pixel: int) -> None:
    """Refuse an Image whose size, step and data do not fit together, at least `pixel` bytes a pixel."""
    width, height, step = int(message.width), int(message.height), int(message.step)
    check_size(width, height)
    row, need = width * pixel, step * height
    if step < row:
        raise InputError('image step', f'at least {row} bytes for {width} pixels {message.encoding}', step)
    if len(message.data) < need:
        raise InputError('image data', f'{need} bytes ({height} rows of {step})', f'{len(message.data)} bytes')


def to_rgb(message: Any) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] uint8 of an Image or CompressedImage; rgb8 is a read-only view of the message's data.

    mono16 is scaled by 255 / 65535 and YUV is ITU-R BT.601 with limited range, as in cv_bridge.

    Raises:
        InputError: see `check_image` and `decompress`.
    """
    if hasattr(message, 'format'):
        return decompress(message)
    check_image(message)
    encoding, step = message.encoding, int(message.step)
    shape, size = (int(message.height), int(message.width)), BYTES[encoding]
    data = np.frombuffer(message.data, np.uint8)
    if encoding == 'mono16':
        kind = np.dtype('>u2' if message.is_bigendian else '<u2')
        wide: NDArray[np.uint16] = np.ndarray(shape, kind, data, strides=(step, 2))
        pixels = ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
    else:
        pixels = np.ndarray((*shape, size), np.uint8, data, strides=(step, size, 1))
    if encoding == 'rgb8':
        pixels.flags.writeable = False
        return pixels
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), TO_RGB[encoding]), np.uint8)


def decompress(message: Any) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] of a CompressedImage, JPEG or PNG; its size is read and checked before it is decoded.

    Raises:
        InputError: a depth image, another format, too large, or damaged.
    """
    check_depth(message.format)
    return decode_picture(bytes(message.data), message.format or 'no format')


def decode_picture(data: bytes, name: str) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] of a JPEG or PNG file, as it was stored (EXIF turns nothing).

    Args:
        data: the file.
        name: of what it is, for errors.

    Raises:
        InputError: another format, too large, or damaged.
    """
    if len(data) > MAX_COMPRESSED:
        raise InputError('compressed image', f'at most {MAX_COMPRESSED} bytes', len(data))
    size = stored_size(data)
    if size is None:
        raise InputError('compressed image', 'JPEG or PNG', f'{name}, {len(data)} bytes of something else')
    check_size(*size)
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as e:
        raise InputError('compressed image', 'JPEG or PNG that can be decoded', e) from e
    if decoded is None:
        raise InputError('compressed image', 'JPEG or PNG that is whole', f'{name}, {len(data)} bytes')
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def stored_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a JPEG or PNG file says it has; None for anything else."""
    if data[:8] == b'\x89PNG\r\n\x1a\n' and data[12:16] == b'IHDR' and len(data) >= 24:
        width, height = struct.unpack('>II', data[16:24])
        return width, height
    if data[:2] != b'\xff\xd8':
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xff:  # segments: marker, length, contents
        marker = data[at + 1]
        if marker == 0xff or marker == 0x01 or 0xd0 <= marker <= 0xd7:  # filling and marks without contents
            at += 1 if marker == 0xff else 2
        elif 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):  # a frame header
            height, width = struct.unpack('>HH', data[at + 5:at + 9])
            return width, height
        else:
            at += 2 + struct.unpack('>H', data[at + 2:at + 4])[0]
    return None
