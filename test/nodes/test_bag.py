"""Bags: definitions that others understand, hashes that ROS agrees with."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from object_centric_ros.action import BuildGoal
from object_centric_ros.errors import InputError
from object_centric_ros.msg import Entity, EntityArray, ExecutedAction
from object_centric_ros.nodes.bag import BagWriter, schema


def ros_hashes(folder: Path) -> dict[str, str]:
    """RIHS01 hashes as the generators wrote them."""
    found = {}
    for file in folder.rglob('*.json'):
        found.update({t['type_name']: t['hash_string'] for t in json.loads(file.read_text()).get('type_hashes', [])})
    return found


@pytest.mark.parametrize('message', [EntityArray, ExecutedAction, Image, MarkerArray])
def test_hashes_are_those_of_ros(message: type) -> None:

    hashes = ros_hashes(Path(sys.prefix) / 'share' / 'object_centric_ros')
    name, text, digest = schema(message)
    if name in hashes:
        assert digest == hashes[name]
    else:
        assert digest == get_typestore(Stores.ROS2_JAZZY).hash_rihs01(name)
    assert 'MSG: std_msgs/Header\n' in text and '/msg/' not in text


def test_what_is_written_can_be_read_without_our_package(tmp_path: Path) -> None:
    array = EntityArray(model_id='m', entities=[Entity(id=3, latent_mean=[1.0, 2.0])], inference_time=0.5)
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/entities', EntityArray)
        bag.add_topic('/demo/progress', String, latched=True)
        bag.write('/entities', time.time_ns(), serialize_message(array))
        bag.write('/demo/progress', time.time_ns(), serialize_message(String(data='act')))
    bag.write('/entities', 0, b'')  # after the end: dropped
    assert bag.counts == {'/entities': 1, '/demo/progress': 1}
    with AnyReader([tmp_path / 'bag']) as reader:
        read = {c.topic: reader.deserialize(data, c.msgtype) for c, _, data in reader.messages()}
    assert read['/entities'].entities[0].id == 3  # type: ignore[attr-defined]
    assert list(read['/entities'].entities[0].latent_mean) == [1.0, 2.0]  # type: ignore[attr-defined]
    assert read['/demo/progress'].data == 'act'  # type: ignore[attr-defined]


def test_parts_of_actions_are_refused() -> None:
    with pytest.raises(InputError, match='a message'):
        schema(BuildGoal.Feedback)


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='does not exist yet'):
        BagWriter(tmp_path)
