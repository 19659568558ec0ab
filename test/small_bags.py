"""Bags for tests, written without ROS: images whose colour tells the time, joints, actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from object_centric_ros.datasets import bags

ROOT = Path(__file__).resolve().parents[1]
STORE = get_typestore(Stores.ROS2_JAZZY)
STORE.register(get_types_from_msg((ROOT / 'msg' / 'ExecutedAction.msg').read_text(), bags.ACTION))
T = STORE.types
EPOCH = 1_700_000_000


def stamp(t: float) -> Any:
    ns = round((EPOCH + t) * 1e3) * 1_000_000
    return T['builtin_interfaces/msg/Time'](sec=ns // 10 ** 9, nanosec=ns % 10 ** 9)


def header(t: float, frame: str = 'camera') -> Any:
    return T['std_msgs/msg/Header'](stamp=stamp(t), frame_id=frame)


def picture(t: float) -> np.ndarray:
    """A 32x24 image whose colour tells the time (tenths of a second) and whose corner is marked."""
    image = np.full((24, 32, 3), (round(10 * t) % 200, 50, 220), np.uint8)
    image[:4, :4] = 255
    return image


def image(t: float, encoding: str = 'rgb8') -> Any:
    pixels = picture(t)
    if encoding in ('jpeg', 'png'):
        data = cv2.imencode(f'.{encoding}', pixels[..., ::-1])[1]
        return T[bags.COMPRESSED](header=header(t), format=encoding, data=data)
    pixels = {'rgb8': pixels, 'bgr8': pixels[..., ::-1], 'mono8': pixels[..., :1],
              'rgba8': np.concatenate([pixels, pixels[..., :1]], 2),
              'bgra8': np.concatenate([pixels[..., ::-1], pixels[..., :1]], 2)}.get(encoding, pixels)
    return T[bags.IMAGE](header=header(t), height=24, width=32, encoding=encoding, is_bigendian=0,
                         step=32 * pixels.shape[2], data=np.ascontiguousarray(pixels).reshape(-1))


def joints(t: float) -> Any:
    return T[bags.JOINTS](header=header(t), name=['a', 'b'], position=np.array([t, -2 * t]), velocity=np.zeros(2),
                          effort=np.zeros(2))


def action(started: float, finished: float, success: bool = True) -> Any:
    point = T['geometry_msgs/msg/Point']
    return T[bags.ACTION](header=header(finished, 'work_plane'), entity_id=1, pick=point(x=started, y=0.1, z=0.0),
                          place=point(x=finished, y=0.2, z=0.0), success=success, started=stamp(started),
                          finished=stamp(finished))


def camera_info(t: float) -> Any:
    return T[bags.INFO](header=header(t), height=24, width=32, distortion_model='plumb_bob', d=np.zeros(5),
                        k=np.array([40.0, 0, 16, 0, 41, 12, 0, 0, 1]), r=np.eye(3).reshape(-1),
                        p=np.zeros(12), binning_x=0, binning_y=0,
                        roi=T['sensor_msgs/msg/RegionOfInterest'](x_offset=0, y_offset=0, height=0, width=0,
                                                                  do_rectify=False))


def write(path: Path, messages: list[tuple[str, float, Any]], mcap: bool = True, compressed: bool = False) -> Path:
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    writer = Writer(path, version=9 if mcap else 8, storage_plugin=plugin)
    if compressed:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        known: dict[str, Any] = {}
        for topic, t, message in sorted(messages, key=lambda m: m[1]):
            if topic not in known:
                known[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(known[topic], round((EPOCH + t) * 1e9),
                         bytes(STORE.serialize_cdr(message, message.__msgtype__)))
    return path


def recording(until: float = 10.0, encoding: str = 'rgb8', actions: bool = True) -> list[tuple[str, float, Any]]:
    """Images at 10 Hz, joints at 50 Hz; actions at 1 to 2, 3 to 4.05, 5 to 6 ... s, the third fails."""
    messages: list[tuple[str, float, Any]] = [('/camera/camera_info', 0.0, camera_info(0.0))]
    messages += [('/camera/image', t / 10, image(t / 10, encoding)) for t in range(round(until * 10))]
    messages += [('/joint_states', t / 50, joints(t / 50)) for t in range(round(until * 50))]
    if actions:
        times = [(1.0, 2.0), (3.0, 4.05), (5.0, 6.0), (7.0, 8.0)]
        messages += [('/executed_actions', b, action(a, b, a != 5.0)) for a, b in times if b < until]
    return messages
