"""Bags -> episodes: bags of both kinds written here, aligned in time, cut at gaps, and what is said of bad ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_bags import EPOCH, camera_info, image, joints, picture, recording, write

from object_centric_ros.cli import main
from object_centric_ros.datasets.bags import BagOptions, bag
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.datasets.sources import View, save
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Lens, PinholeCamera, Preparation


def seconds(frames: np.ndarray) -> list[float]:
    return (frames[..., 12, 16, 0] / 10).tolist()


@pytest.mark.parametrize('mcap', [True, False])
def test_frames_between_actions(tmp_path: Path, mcap: bool) -> None:
    path = write(tmp_path / 'bag', recording(), mcap)
    assert save(bag(path, BagOptions(steps=3)), tmp_path / 'a.h5') == 2
    with EpisodeStore(tmp_path / 'a.h5') as store:
        got = store.read(slice(None))
        assert store.action_format == 'pick_place_xy' and store.meta['action_frame'] == 'work_plane'
        assert store.meta['joint_names'] == ['a', 'b']
    assert seconds(got['frames'][0]) == [1.0, 3.0, 5.0] and seconds(got['frames'][1]) == [5.0, 7.0, 8.3]
    assert np.allclose(got['actions'][0], [[1.0, 0.1, 2.0, 0.2], [3.0, 0.1, 4.05, 0.2]])
    assert got['success'].tolist() == [[True, True], [False, True]]
    assert np.allclose(got['stamps'] - EPOCH, [[1, 3, 5], [5, 7, 8.3]])
    assert np.allclose(got['joints'][1], [[5, -10], [7, -14], [8.3, -16.6]], atol=1e-3)
    assert np.array_equal(got['frames'][0, 1], picture(3.0))


def test_one_file_of_a_bag(tmp_path: Path) -> None:
    path = write(tmp_path / 'bag', recording())
    file = next(path.glob('*.mcap'))
    assert len(list(bag(file).episodes)) == 1


def test_frames_at_a_rate(tmp_path: Path) -> None:
    path = write(tmp_path / 'bag', recording(4.0, actions=False))
    source = bag(path, BagOptions(rate=4.0, steps=5))
    got = list(source.episodes)
    assert len(got) == 3 and 'actions' not in got[0] and source.notes == ['40 images in 3.9 s, 10.0 Hz']
    nominal = np.arange(15) / 4
    times = np.concatenate([e['stamps'] for e in got]) - EPOCH
    assert np.abs(times - nominal).max() < 0.051
    assert np.allclose(np.concatenate([seconds(e['frames']) for e in got]), times)
    with pytest.raises(InputError, match=r'executed actions .* or a rate'):
        bag(path)


def test_gaps_are_reported_and_cut_out(tmp_path: Path) -> None:
    messages = [m for m in recording(6.0, actions=False) if not ('image' in m[0] and 2.05 < m[1] < 3.95)]
    messages = [m for m in messages if not ('joint' in m[0] and 4.9 < m[1] < 5.3)]
    source = bag(write(tmp_path / 'bag', messages), BagOptions(rate=10.0, steps=10))
    got = [e['stamps'] - EPOCH for e in source.episodes]
    assert source.notes[1:] == ['gap of 2.00 s at 2.00 s']
    assert np.allclose(got, [np.arange(0, 10) / 10, np.arange(10, 20) / 10, np.arange(40, 50) / 10,
                             np.arange(50, 60) / 10], atol=0.01)
    joint = list(bag(tmp_path / 'bag', BagOptions(rate=10.0, steps=10)).episodes)[3]['joints']
    assert np.isnan(joint[:3]).all() and np.allclose(joint[4:, 0], np.arange(54, 60) / 10, atol=1e-3)


def test_actions_without_images_are_left_out(tmp_path: Path) -> None:
    messages = [m for m in recording() if not ('image' in m[0] and 4.0 < m[1] < 5.05)]
    source = bag(write(tmp_path / 'bag', messages), BagOptions(steps=2))
    got = [seconds(e['frames']) for e in source.episodes]
    assert got == [[1.0, 3.0], [7.0, 8.3]]
    assert sum('no image' in note for note in source.notes) == 2
    short = bag(write(tmp_path / 'short', recording(8.2)), BagOptions(steps=2))
    assert [seconds(e['frames']) for e in short.episodes] == [[1.0, 3.0], [3.0, 5.0], [5.0, 7.0]]
    assert short.notes[-1] == 'action 3: no image after it'


def test_long_pauses_end_an_episode(tmp_path: Path) -> None:
    messages = [m for m in recording() if not ('action' in m[0] and m[1] == 4.05)]
    path = write(tmp_path / 'bag', messages)
    cut = bag(path, BagOptions(steps=2, pause=1.5))
    assert [seconds(e['frames']) for e in cut.episodes] == [[1.0, 2.3], [5.0, 7.0], [7.0, 8.3]]


@pytest.mark.parametrize('encoding', ['bgr8', 'rgba8', 'bgra8', 'mono8', 'png', 'jpeg'])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / 'bag', recording(1.0, encoding, actions=False))
    frames = next(iter(bag(path, BagOptions(rate=10.0, steps=5)).episodes))['frames']
    wanted = np.stack([picture(t / 10) for t in range(5)])[..., :frames.shape[-1]]
    assert frames.shape[-1] == (1 if encoding == 'mono8' else 3)
    assert np.abs(frames.astype(int) - wanted).mean() < (6 if encoding == 'jpeg' else 1e-9)


def test_the_camera_of_cropped_images(tmp_path: Path) -> None:
    path = write(tmp_path / 'bag', recording(2.0, actions=False))
    known = PinholeCamera.looking_at((0, -1, 1), (0, 0, 0), 30, 32, 24)
    source = bag(path, BagOptions(rate=10.0), View((4, 2, 24, 20), size=16), (known.rotation, known.position))
    camera = PinholeCamera.from_dict(source.meta['camera'])
    assert (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy) == (24, 20, 40, 41, 12.5, 10.5)
    assert next(iter(source.episodes))['frames'].shape == (5, 16, 16, 3)


def test_distorted_images_are_made_straight_as_in_the_nodes(tmp_path: Path) -> None:
    def told(topic: str) -> tuple[float, np.ndarray]:
        info = camera_info(0.0)
        info.d, info.p = np.array([-0.3, 0.1, 0.0, 0.0, 0.0]), np.array([50.0, 0, 15, 0, 0, 51, 11, 0, 0, 0, 1, 0])
        path = write(tmp_path / topic.strip('/').replace('/', '_'),
                     [('/c/camera_info', 0.0, info), *((topic, t / 10, image(t / 10)) for t in range(5))])
        source = bag(path, BagOptions(rate=10.0))
        return source.meta['camera_info']['k'][0], next(iter(source.episodes))['frames'][0]

    own = PinholeCamera(32, 24, 40.0, 41.0, 16.5, 12.5, np.eye(3), np.zeros(3))
    straight = Preparation(own, Lens('plumb_bob', (-0.3, 0.1, 0.0, 0.0, 0.0)))(picture(0.0))
    assert (straight != picture(0.0)).any()
    for topic, focal, expected in (('/c/image', 40.0, straight), ('/c/image_rect', 50.0, picture(0.0))):
        k, frame = told(topic)
        assert k == focal
        np.testing.assert_array_equal(frame, expected)


def test_bags_that_cannot_be_used(tmp_path: Path) -> None:
    joints_only = write(tmp_path / 'j', [('/joint_states', 0.0, joints(0.0))])
    with pytest.raises(InputError, match=r"j: topics: expected one topic of sensor_msgs/msg/Image.*'/joint_states'"):
        bag(joints_only)
    two = write(tmp_path / 'two', [('/a', 0.0, image(0.0)), ('/b', 0.0, image(0.0))])
    with pytest.raises(InputError, match=r"'/a': .*'/b'"):
        bag(two)
    with pytest.raises(InputError, match='expected depth of sensor_msgs/msg/Image'):
        bag(two, BagOptions(images='depth'))
    odd = write(tmp_path / 'odd', [('/image', t / 10, image(t / 10, 'yuv420')) for t in range(6)])
    with pytest.raises(InputError, match=r'odd: /image: image encoding: expected one of rgb8.* got yuv420'):
        list(bag(odd, BagOptions(rate=10.0)).episodes)
    with pytest.raises(InputError, match='none: expected a bag'):
        bag(tmp_path / 'none')
    whole = write(tmp_path / 'cut', recording(1.0))
    file = next(whole.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(InputError, match='cut: expected a bag'):
        bag(whole)
    shutil.rmtree(whole)
    with pytest.raises(InputError, match='rate: expected more than 0'):
        BagOptions(rate=0.0)


def test_the_demos_bags(tmp_path: Path) -> None:
    pytest.importorskip('rclpy')
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image, JointState

    from object_centric_ros.msg import ExecutedAction
    from object_centric_ros.nodes.bag import BagWriter
    from object_centric_ros.nodes.images import from_array

    with BagWriter(tmp_path / 'bag') as writer:
        for topic, kind in (('/image', Image), ('/overlay', Image), ('/joint_states', JointState),
                            ('/executed_actions', ExecutedAction)):
            writer.add_topic(topic, kind)
        for i in range(60):
            message = from_array(picture(i / 10), Image().header, 'rgb8')
            message.header.stamp.sec, message.header.stamp.nanosec = 5 + i // 10, i % 10 * 100_000_000
            for topic in ('/image', '/overlay'):
                writer.write(topic, i, serialize_message(message))
            state = JointState(header=message.header, name=['a'], position=[i / 10])
            writer.write('/joint_states', i, serialize_message(state))
        for second in (1, 3):
            done = ExecutedAction(success=True)
            done.started.sec, done.finished.sec, done.pick.x = 5 + second, 6 + second, float(second)
            writer.write('/executed_actions', 60, serialize_message(done))
    episodes = list(bag(tmp_path / 'bag', BagOptions(steps=3)).episodes)
    assert len(episodes) == 1 and seconds(episodes[0]['frames']) == [1.0, 3.0, 4.3]
    assert episodes[0]['actions'][:, 0].tolist() == [1.0, 3.0]
    assert np.allclose(episodes[0]['joints'][:, 0], [1.0, 3.0, 4.3])


def test_several_bags_become_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / 'play'
    for name in ('bag_0001', 'bag_0002'):
        write(folder / name, recording())
    write(folder / 'bag_0003', recording(actions=False))
    (folder / 'progress.json').write_text('{"bags": {"bag_0003": {"executed": 0, "moved": 0}}}')
    (folder / 'bag_0004').mkdir()
    (folder / 'bag_0004' / 'bag_0004.mcap').touch()
    for i, paths in enumerate(([folder], [folder / 'bag_0001', folder / 'bag_0002'])):
        out = tmp_path / f'{i}.h5'
        assert main(['data', 'convert', *map(str, paths), '--out', str(out), '--steps', '3']) == 0
        told = capsys.readouterr().err
        assert 'bag_0002: 100 images in 9.9 s' in told and ('bag_0004: left out' in told) == (i == 0)
        with EpisodeStore(out) as store:
            got = store.read(slice(None))
            assert store.meta['source'] == ['bag_0001', 'bag_0002']
        assert [seconds(frames) for frames in got['frames']] == [[1.0, 3.0, 5.0], [5.0, 7.0, 8.3]] * 2
    assert main(['data', 'convert', str(folder / 'bag_0003'), '--out', str(out)]) == 2
    (folder / 'progress.json').unlink()
    assert main(['data', 'convert', str(folder), '--out', str(out)]) == 2
    assert 'bag_0003: expected executed actions' in capsys.readouterr().err


@pytest.mark.parametrize('where', [['--workers', '2'], ['--workers', '2', '--ray', 'local']], ids=['here', 'ray'])
def test_workers_read_the_same_from_many_bags(where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                              ) -> None:
    if '--ray' in where:
        pytest.importorskip('ray', reason='the extra `ray` is not installed')
    folder = tmp_path / 'play'
    for n, messages in enumerate((recording(), recording(3.0), recording())):  # the second has no whole episode
        write(folder / f'bag_{n}', messages)
    words = ['data', 'convert', str(folder), '--steps', '3', '--size', '16', '--out']
    said = []
    for name, options in (('one', []), ('many', where)):
        assert main([*words, str(tmp_path / f'{name}.h5'), *options]) == 0
        said.append(capsys.readouterr().err.splitlines())
    assert set(said[0]) <= set(said[1]) and sum('bag_2: 100 images' in line for line in said[0]) == 1
    with EpisodeStore(tmp_path / 'one.h5') as one, EpisodeStore(tmp_path / 'many.h5') as many:
        assert one.meta == many.meta and len(one) == 4
        for field, values in one.read(slice(None)).items():
            assert np.array_equal(values, many.read(slice(None))[field])
    assert not (tmp_path / 'many.h5.read').exists()
    write(folder / 'bag_3', recording(actions=False))
    assert main([*words, str(tmp_path / 'bad.h5'), *where]) == 2
    assert 'bag_3: expected executed actions' in capsys.readouterr().err
    assert not (tmp_path / 'bad.h5').exists()


def test_bags_that_do_not_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / 'a', recording())
    write(tmp_path / 'b', [m for m in recording() if m[0] != '/joint_states'])
    (tmp_path / 'c.tfrecords').touch()
    words = ['data', 'convert', '--out', str(tmp_path / 'o.h5'), str(tmp_path / 'a')]
    assert main([*words, str(tmp_path / 'b')]) == 2
    assert "b: joint_names: expected ['a', 'b'] as in a, got None" in capsys.readouterr().err
    assert main([*words, str(tmp_path / 'c.tfrecords')]) == 2
    assert 'several of one format' in capsys.readouterr().err
