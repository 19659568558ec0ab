"""ROS 2 bags (sqlite3 or MCAP) as they are read: opened, their topics found, their messages decoded; without ROS."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from object_centric_ros.config import PACKAGE
from object_centric_ros.encodings import to_rgb
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Lens

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
JOINTS, INFO = 'sensor_msgs/msg/JointState', 'sensor_msgs/msg/CameraInfo'
ACTION = 'object_centric_ros/msg/ExecutedAction'


@contextlib.contextmanager
def open_bag(folder: Path) -> Iterator[AnyReader]:
    """The open bag, or an InputError that names it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for text in (PACKAGE.parent / 'msg', *(p / 'share/object_centric_ros/msg' for p in PACKAGE.parents)):
        if (text / 'ExecutedAction.msg').is_file():  # for bags of before messages' definitions were kept in them
            store.register(get_types_from_msg((text / 'ExecutedAction.msg').read_text(), ACTION))
            break
    with contextlib.ExitStack() as stack:
        with readable(folder):
            reader = stack.enter_context(AnyReader([folder], default_typestore=store))
        yield reader


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Whatever goes wrong in here while a bag is read becomes an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as e:  # rosbags lets through what its parsers and decompressors raise
        raise InputError(f'{folder}', 'a bag: a folder with metadata.yaml, or an .mcap or .db3 file', e) from e


def find_topic(reader: AnyReader, name: str, types: tuple[str, ...], folder: Path, needed: bool = False
           ) -> Connection | None:
    """The connection of a topic by its name, or the only one of these types."""
    fitting = [c for c in reader.connections if c.msgtype in types]
    if name:
        fitting = [c for c in fitting if c.topic.strip('/') == name.strip('/')]
    elif len(fitting) > 1 and IMAGE in types:
        fitting = [c for c in fitting if c.topic.split('/')[-1] == 'image'] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting or name or needed:
        there = {c.topic: c.msgtype for c in reader.connections}
        raise InputError(f'{folder}: topics', f'{name or "one topic"} of {" or ".join(types)}', there)
    return None


def header_stamp(data: bytes, recorded: int) -> int:
    """Stamp (ns) of a serialised message that begins with a header, or when it was recorded."""
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds) or recorded


def read_message(reader: AnyReader, data: bytes, kind: str) -> Any:
    """A message; what `rclpy.serialization` writes may have some bytes too many at its end."""
    try:
        return reader.deserialize(data, kind)
    except AnyReaderError:
        for surplus in range(4, 65, 4):
            with contextlib.suppress(AnyReaderError):
                return reader.deserialize(data[:-surplus], kind)
        raise


def camera_info(message: Any, rectified: bool) -> tuple[dict[str, Any], Lens | None]:
    """What a CameraInfo says of the images: K and distortion of raw ones, P of rectified ones."""
    k, p, d = np.asarray(message.k), np.asarray(message.p).reshape(3, 4), tuple(float(x) for x in message.d)
    if rectified and p[0, 0] > 0:
        k = p[:, :3].reshape(-1)
    lens = Lens(message.distortion_model, d) if any(d) and not rectified else None
    return {'width': message.width, 'height': message.height, 'k': k.tolist()}, lens


def decode_image(message: Any) -> NDArray[np.uint8]:
    """RGB or gray image [H, W, 3 or 1] of a sensor_msgs Image or CompressedImage, with the values that nodes see."""
    rgb = to_rgb(message)
    return rgb[..., :1] if getattr(message, 'encoding', '').startswith('mono') else rgb
