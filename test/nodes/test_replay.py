"""Perception over bags, without DDS: what is taken, refused, counted and written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image, JointState
from small_bags import action, camera_info, image, joints, recording, write
from std_msgs.msg import Header

from object_centric_ros.cli import main
from object_centric_ros.datasets import bags
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.msg import EntityArray, ExecutedAction
from object_centric_ros.nodes.bag import BagWriter
from object_centric_ros.nodes.cameras import info_from_camera
from object_centric_ros.nodes.images import from_array
from object_centric_ros.nodes.offline import OfflinePerception
from object_centric_ros.nodes.parameters import from_file
from object_centric_ros.nodes.perception_settings import PerceptionSettings
from object_centric_ros.nodes.replay import messages
from object_centric_ros.tracking.entities import Entity, SlotState, TrackedFrame

OWN = PinholeCamera.looking_at((0.0, -0.88, 1.0), (0.0, 0.0, 0.045), 23.0, 64, 48)


class Scripted:
    """A tracker that sees one thing in the middle, and notes what it was told."""

    model_id = 'scripted'

    def __init__(self, settings: PerceptionSettings, camera: PinholeCamera | None) -> None:
        self.camera, self.told = camera or OWN, []  # type: ignore[var-annotated]
        self.shifts: list[float] = []
        self.reconsidered = 0

    def reconsider(self) -> None:
        self.reconsidered += 1

    def shift_clock(self, seconds: float) -> None:
        self.shifts.append(seconds)

    def step(self, image: np.ndarray, action: Any = None, stamp: float = 0.0, robot_moving: bool = False
             ) -> TrackedFrame:
        assert image.shape == (self.camera.height, self.camera.width, 3)
        self.told.append((action, stamp, robot_moving))
        state = SlotState(0, *(np.zeros(2, np.float32),) * 3)
        middle = (self.camera.width / 2, self.camera.height / 2)
        thing = Entity(1, state, 1.0, True, (0.0, 0.0, 0.03), middle, (*middle, *middle), 1.0, (1.0, 0.0, 0.0))
        zeros = np.zeros((3, 8, 8), np.float32)
        return TrackedFrame(stamp, 'scripted', (thing,), (), np.zeros((8, 8), np.uint16), zeros[:1], zeros[None], zeros,
                            np.zeros((8, 8, 3), np.uint8), 0.01)


def picture(stamp_s: float, width: int = 64, height: int = 48) -> Image:
    top = Header(frame_id='lens')
    top.stamp.sec, top.stamp.nanosec = int(stamp_s), round(1e9 * (stamp_s % 1))
    return from_array(np.zeros((height, width, 3), np.uint8), top, 'rgb8')


def test_actions_and_motion_go_with_the_image_after_them():
    perception = OfflinePerception(PerceptionSettings(), factory=Scripted)
    assert perception.image(picture(10.0), 10.0) is not None
    moved = JointState(name=['a'], velocity=[1.0])
    moved.header.stamp.sec = 11
    perception.joints(moved, 0.0)
    done = ExecutedAction(success=True)
    done.header.frame_id, done.finished.sec, done.pick.x, done.place.x = 'work_plane', 13, 0.1, 0.2
    perception.executed(done)
    for t in (11.2, 13.1, 13.2):
        perception.image(picture(t), t)
    assert [(a is not None, moving) for a, _, moving in perception.tracker.told] == [
        (False, False), (False, True), (True, False), (False, False)]
    done.header.frame_id = 'elsewhere'
    perception.executed(done)
    perception.joints(JointState(name=['a'], velocity=[1.0, 2.0]), 0.0)
    assert perception.counts['executed_actions_rejected'] == perception.counts['joint_states_rejected'] == 1


def test_stamps_that_go_back_are_duplicates_or_a_clock_that_was_set():
    perception = OfflinePerception(PerceptionSettings(), factory=Scripted)
    stamps = (10.0, 10.0, 9.5, 10.1, 3.0, 3.1)
    results = [perception.image(picture(t), 20.0 + 0.1 * k) is not None for k, t in enumerate(stamps)]
    assert results == [True, False, False, True, True, True]
    assert perception.counts == {'images_processed': 4, 'images_repeated': 1, 'images_out_of_order': 1,
                                 'clock_jumps': 1}
    assert perception.tracker.shifts == pytest.approx([-7.1])


def test_after_an_outage_the_scene_is_looked_at_anew_and_a_clock_set_ahead_is_no_outage():
    perception = OfflinePerception(PerceptionSettings(image_timeout=2.0), factory=Scripted)
    for stamp, received in ((10.0, 0.0), (10.1, 0.1), (14.0, 4.0), (14.1, 4.1)):
        assert perception.image(picture(stamp), received) is not None
    assert (perception.counts['camera_outages'], perception.tracker.reconsidered) == (1, 1)
    assert perception.image(picture(3600.0), 4.2) is not None
    assert (perception.counts['camera_outages'], perception.counts['clock_jumps']) == (1, 1)
    assert perception.tracker.shifts == pytest.approx([3585.9])


def test_lens_crop_and_letterbox_come_before_the_tracker_and_pixels_are_of_the_image_as_it_came():
    info = info_from_camera(OWN, Header())
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    settings = PerceptionSettings(crop=(30, 10, 30, 20), letterbox=True)
    perception = OfflinePerception(settings, info, factory=Scripted)
    assert (perception.tracker.camera.width, perception.tracker.camera.height) == (30, 30)
    result = perception.image(picture(1.0), 1.0)
    assert result is not None and result.image.shape == (30, 30, 3)
    found = np.array(result.message.entities[0].centroid)
    expected = perception.preparation.lens.distort([[45.0, 20.0]], OWN)[0]  # type: ignore[union-attr]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not np.allclose(found, [45.0, 20.0], atol=0.005)
    with pytest.raises(InputError, match='64x48 of the camera'):
        perception.image(picture(2.0, 32, 24), 2.0)


def test_a_parameter_file_of_the_node_is_taken(tmp_path: Path):
    file = tmp_path / 'p.yaml'
    file.write_text('/**:\n  ros__parameters:\n    seed: 3\n    max_rate: 5.0\n    camera_position: [0.0, 0.0, 1.0]\n'
                    'entity_perception:\n  ros__parameters: {object_height: 0.05}\n')
    names = ('entity_perception', '/entity_perception')
    settings = from_file(PerceptionSettings, file, names, {'threads': 2})
    assert (settings.seed, settings.object_height, settings.threads) == (3, 0.05, 2)
    assert settings.camera_position == (0.0, 0.0, 1.0)
    file.write_text('/**:\n  ros__parameters: {seed: much}\n')
    with pytest.raises(InputError, match='seed'):
        from_file(PerceptionSettings, file, names, {})
    file.write_text('/**:\n  ros__parameters: {overlay_rate: 1000.0}\n')
    with pytest.raises(InputError, match='overlay_rate: expected number'):
        from_file(PerceptionSettings, file, names, {})
    file.write_text('[1, 2]')
    with pytest.raises(InputError, match='mapping of nodes'):
        from_file(PerceptionSettings, file, names, {})


@pytest.mark.parametrize('encoding', ['rgb8', 'jpeg'])
def test_a_bag_written_without_ros(tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]):
    recorded = [('/camera/camera_info', 0.0, camera_info(0.0))]
    recorded += [('/camera/image', t, image(t, encoding)) for t in (0.0, 0.1, 0.2, 1.5, 1.6)]
    recorded += [('/joint_states', 0.05, joints(0.05)), ('/executed_actions', 0.3, action(0.2, 0.3))]
    damaged = image(1.7, encoding)
    damaged.data = damaged.data[:50]
    bag = write(tmp_path / 'in', [*recorded, ('/camera/image', 1.7, damaged)], mcap=False)
    assert main(['replay', str(bag), '--threads', '1', '--no-overlay']) == 0
    told = json.loads((tmp_path / 'in_entities' / 'metrics.json').read_text())
    assert (told['images'], told['processed'], told['camera_info']) == (6, 5, '/camera/camera_info')
    assert told['gaps'] == [{'at_s': 0.2, 'seconds': 1.3}] and told['counts']['executed_actions'] == 1
    assert [n for reason, n in told['problems'].items() if reason.startswith('/camera/image: ')] == [1]
    assert 'frames/s' in capsys.readouterr().out
    with AnyReader([tmp_path / 'in_entities']) as reader:
        assert {c.topic for c in reader.connections} == {'/entities', '/label_image'}
        found = [deserialize_message(d, EntityArray) for c, _, d in reader.messages() if c.topic == '/entities']
    assert [m.header.frame_id for m in found] == ['camera'] * 5
    assert [round(m.header.stamp.nanosec / 1e9, 1) for m in found] == [0.0, 0.1, 0.2, 0.5, 0.6]


def test_bags_that_hold_nothing_to_use_and_outputs_that_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    depth = image(0.0)
    depth.encoding = '16UC1'
    bag = write(tmp_path / 'depth', [('/image', 0.0, depth)])
    assert main(['replay', str(bag), '--threads', '1']) == 2
    assert 'depth image' in capsys.readouterr().err
    plain = write(tmp_path / 'plain', recording(0.3, actions=False))
    for words, expected in ((['--image', 'none'], 'topics: expected none of'), (['--out', str(tmp_path)], 'not exist'),
                            (['--crop', '0', '0', '99', '9'], 'within 32x24'), (['--limit', '-1'], 'at least 0')):
        assert main(['replay', str(plain), *words]) == 2
        error = capsys.readouterr().err
        assert expected in error and error.count('\n') == 1
    assert main(['replay', str(tmp_path / 'nowhere')]) == 2


def test_messages_that_cannot_be_read_are_counted_and_the_rest_is_processed(tmp_path: Path):
    with BagWriter(tmp_path / 'in') as bag:
        bag.add_topic('/image', Image)
        for t, data in ((1, serialize_message(picture(1.0))), (2, b'\0\1\0\0\5'),
                        (3, serialize_message(picture(3.0))[:40]), (4, serialize_message(picture(4.0)))):
            bag.write('/image', t, data)
    assert main(['replay', str(tmp_path / 'in'), '--threads', '1', '--limit', '1']) == 2  # the model's camera is larger
    assert not (tmp_path / 'in_entities').exists()
    with bags.open_bag(tmp_path / 'in') as reader:
        problems: Counter[str] = Counter()
        stamps = [m.header.stamp.sec for _, _, m in messages(reader, reader.connections, tmp_path, problems)]
    assert stamps == [1, 4] and list(problems.values()) == [2]
