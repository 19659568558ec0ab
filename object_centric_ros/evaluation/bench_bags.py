"""How fast bags become episodes: bags of a camera of 640x480 pixels at 30 Hz, written here and read back."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from object_centric_ros.datasets.bags import COMPRESSED, IMAGE, BagOptions, bag
from object_centric_ros.datasets.sources import View, save

RATE, SIZE = 30, (480, 640)
TARGET = 5 * RATE
"""Images per second that are wanted."""
KINDS = ('raw, sqlite3', 'raw, sqlite3 with zstd', 'raw, MCAP', 'raw, MCAP with zstd', 'JPEG, sqlite3', 'JPEG, MCAP')


@dataclass(frozen=True)
class BagRate:
    """What extracting a bag was measured to take.

    Attributes:
        images: in the bag.
        speed: images of the bag per second.
        per_cpu: images of the bag per second of processor time.
        real_time: seconds of recording per second.
    """

    images: int
    speed: float
    per_cpu: float
    real_time: float


def measure_bag(kind: str, seconds: float = 10.0, rate: float = 10.0) -> BagRate:
    """Write a bag and make episodes of 64x64 pixels from it.

    Args:
        kind: one of `KINDS`.
        seconds: length of the recording.
        rate: frames a second that the episodes have.
    """
    count = round(seconds * RATE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'bag'
        _write(path, kind, count)
        start, cpu = time.perf_counter(), time.process_time()
        save(bag(path, BagOptions(rate=rate, steps=5), View(size=64)), Path(folder) / 'episodes.h5')
        took, used = time.perf_counter() - start, time.process_time() - cpu
    return BagRate(count, count / took, count / used, seconds / took)


def _write(path: Path, kind: str, count: int) -> None:
    """A bag of noisy pictures of a moving slope."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = store.types
    plugin = StoragePlugin.SQLITE3 if 'sqlite3' in kind else StoragePlugin.MCAP
    writer = Writer(path, version=9, storage_plugin=plugin)
    if 'zstd' in kind:
        mode = CompressionMode.FILE if plugin == StoragePlugin.SQLITE3 else CompressionMode.STORAGE
        writer.set_compression(mode, CompressionFormat.ZSTD)
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1]))[..., None] // [8, 9, 10]
    noise = rng.integers(0, 6, (*SIZE, 3))
    with writer:
        name = COMPRESSED if 'JPEG' in kind else IMAGE
        topic = writer.add_connection('/image', name, typestore=store)
        for i in range(count):
            ns = round((1000 + i / RATE) * 1e9)
            stamp = types['builtin_interfaces/msg/Time'](sec=ns // 10 ** 9, nanosec=ns % 10 ** 9)
            header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')
            pixels = ((slope + 3 * i) % 250 + np.roll(noise, i, 1)).astype(np.uint8)
            if name == COMPRESSED:
                data = cv2.imencode('.jpg', pixels)[1].reshape(-1)
                message = types[COMPRESSED](header=header, format='jpeg', data=data)
            else:
                message = types[IMAGE](header=header, height=SIZE[0], width=SIZE[1], encoding='rgb8', is_bigendian=0,
                                       step=SIZE[1] * 3, data=pixels.reshape(-1))
            writer.write(topic, ns, bytes(store.serialize_cdr(message, name)))
