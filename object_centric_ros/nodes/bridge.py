"""cv_bridge where it works: tried out in a child process, because one that was built for another NumPy may crash."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from object_centric_ros.encodings import BYTES, to_rgb
from object_centric_ros.errors import InputError

MORE = {'bayer_rggb8': 1, 'bayer_bggr8': 1, 'bayer_gbrg8': 1, 'bayer_grbg8': 1, 'rgb16': 6, 'bgr16': 6, 'rgba16': 8,
        'bgra16': 8}
"""Encodings that are understood with cv_bridge only, and how many bytes a pixel takes."""
PATIENCE = 60.0


def sample(encoding: str) -> Image:
    """A small image of an encoding, to try converters on."""
    size = (BYTES | MORE)[encoding]
    data = np.random.default_rng(0).integers(0, 256, 16 * 8 * size, dtype=np.uint8).tobytes()
    return Image(height=8, width=16, encoding=encoding, step=16 * size, data=data)


def trial() -> list[str]:
    """Encodings that cv_bridge converts here, and where this package does it too, with the same result."""
    from cv_bridge import CvBridge
    bridge, good = CvBridge(), []
    for encoding in (*BYTES, *MORE):
        message = sample(encoding)
        try:
            there = np.asarray(bridge.imgmsg_to_cv2(message, 'rgb8'))
        except Exception:  # whatever it raises, it does not convert this one
            continue
        if there.shape == (8, 16, 3) and (encoding in MORE or np.array_equal(there, to_rgb(message))):
            good.append(encoding)
    return good


@functools.lru_cache(maxsize=1)
def usable() -> frozenset[str]:
    """Encodings that cv_bridge may convert: none where it is missing, crashes, or gives other pixels.

    A cv_bridge that was built for NumPy 1 ends the process under NumPy 2, so that it is imported by a child first.
    """
    if find_spec('cv_bridge') is None:
        return frozenset()
    code = 'import json; from object_centric_ros.nodes.bridge import trial; print("\\n" + json.dumps(trial()))'
    try:
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=PATIENCE,
                              stdin=subprocess.DEVNULL, check=True)
        return frozenset(json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError):
        return frozenset()


@functools.lru_cache(maxsize=1)
def _converter() -> Any:
    from cv_bridge import CvBridge
    return CvBridge()


def convert(message: Image) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] of a message of a `usable` encoding, whose size was checked.

    Raises:
        InputError: cv_bridge does not take it after all.
    """
    try:
        return np.asarray(_converter().imgmsg_to_cv2(message, 'rgb8'), np.uint8)
    except Exception as e:  # of several libraries, with types of their own
        raise InputError(f'image of encoding {message.encoding}', 'one that cv_bridge converts', e) from e
