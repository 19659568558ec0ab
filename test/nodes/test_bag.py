"""Bags: definitions that others understand, hashes that ROS agrees with."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image

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


@pytest.mark.parametrize('message', [EntityArray, ExecutedAction, BuildGoal.Impl.FeedbackMessage, Image])
def test_hashes_are_those_of_ros(message: type) -> None:

    hashes = ros_hashes(Path(sys.prefix) / 'share' / 'object_centric_ros')
    name, text, digest = schema(message)
    if name in hashes:
        assert digest == hashes[name]
    assert 'MSG: std_msgs/Header' in text or 'Feedback' in name


def test_what_is_written_can_be_read_without_our_package(tmp_path: Path) -> None:
    array = EntityArray(model_id='m', entities=[Entity(id=3, latent_mean=[1.0, 2.0])], inference_time=0.5)
    feedback = BuildGoal.Impl.FeedbackMessage()
    feedback.feedback.stage = 'act'
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/entities', EntityArray)
        bag.add_topic('/build_goal/_action/feedback', BuildGoal.Impl.FeedbackMessage)
        bag.write('/entities', time.time_ns(), serialize_message(array))
        bag.write('/build_goal/_action/feedback', time.time_ns(), serialize_message(feedback))
    bag.write('/entities', 0, b'')  # after the end: dropped
    assert bag.counts == {'/entities': 1, '/build_goal/_action/feedback': 1}
    with AnyReader([tmp_path / 'bag']) as reader:
        read = {c.topic: reader.deserialize(data, c.msgtype) for c, _, data in reader.messages()}
    assert read['/entities'].entities[0].id == 3  # type: ignore[attr-defined]
    assert list(read['/entities'].entities[0].latent_mean) == [1.0, 2.0]  # type: ignore[attr-defined]
    assert read['/build_goal/_action/feedback'].feedback.stage == 'act'  # type: ignore[attr-defined]


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='does not exist yet'):
        BagWriter(tmp_path)
