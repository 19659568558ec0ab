"""Loaders of published formats, on small files that are written here, and what they say of damaged ones."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest

from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.datasets.media import clevrer, media
from object_centric_ros.datasets.multi_object import multi_object
from object_centric_ros.datasets.rnem import rnem
from object_centric_ros.datasets.sources import Source, View, save
from object_centric_ros.datasets.tfrecord import crc32c, masked_crc, parse_example, read_records
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import model_image

RNG = np.random.default_rng(0)


# ---- TFRecord -------------------------------------------------------------------------------------------------------

def field(number: int, data: bytes) -> bytes:
    size, head = len(data), bytearray([number << 3 | 2])
    while size >= 128:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + data


def feature(values: np.ndarray) -> bytes:
    if values.dtype == np.uint8:  # as the sets hold it: a string for each byte
        return field(1, b''.join(field(1, bytes([v])) for v in values.reshape(-1)))
    if values.dtype == np.float32:
        return field(2, field(1, values.tobytes()))
    numbers = b''
    for v in values.reshape(-1).tolist():
        v &= (1 << 64) - 1
        while v >= 128:
            numbers += bytes([v & 127 | 128])
            v >>= 7
        numbers += bytes([v])
    return field(3, field(1, numbers))


def example(features: dict[str, np.ndarray]) -> bytes:
    return field(1, b''.join(field(1, field(1, name.encode()) + field(2, feature(v))) for name, v in features.items()))


def record(data: bytes) -> bytes:
    size = struct.pack('<Q', len(data))
    return size + struct.pack('<I', masked_crc(size)) + data + struct.pack('<I', masked_crc(data))


def test_checksums_are_castagnolis() -> None:
    assert crc32c(b'123456789') == 0xe3069283 and crc32c(bytes(32)) == 0x8a9136aa  # RFC 3720, B.4
    assert crc32c(b'\xff' * 32) == 0x62a8ab43 and crc32c(bytes(range(32))) == 0x46dd794e
    for size in (0, 1, 2, 3, 4, 5, 100, 5000):
        data = RNG.bytes(size)
        crc = 0xffffffff
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
        assert crc32c(data) == crc ^ 0xffffffff


def test_examples() -> None:
    values = {'bytes': RNG.integers(0, 255, 300).astype(np.uint8), 'floats': RNG.random(5, np.float32),
              'ints': np.array([0, 1, -1, 300, -(1 << 60)], np.int64), 'empty': np.zeros(0, np.float32)}
    parsed = parse_example(example(values))
    assert parsed.keys() == values.keys()
    for name, v in values.items():
        assert np.array_equal(parsed[name], v) and np.asarray(parsed[name]).dtype == v.dtype
    two = field(2, field(1, field(1, b'one') + field(1, b'two')))
    strings = parse_example(field(1, field(1, field(1, b's') + two)))
    assert strings == {'s': [b'one', b'two']}


def scene(entities: int, shape: tuple[int, int, int], last: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
    labels = RNG.integers(0, entities, shape[:2])
    masks = (labels == np.arange(entities)[:, None, None]).astype(np.uint8) * 255
    visibility = np.ones(entities, np.float32)
    visibility[-1] = 0
    facts = {'image': RNG.integers(0, 255, shape, np.uint8), 'mask': masks.transpose(1, 2, 0) if last else masks,
             'x': RNG.random(entities, np.float32), 'y': RNG.random(entities, np.float32), 'visibility': visibility}
    return facts, labels


SETS = {'clevr': (11, (240, 320, 3), False), 'sprites': (6, (64, 64, 3), True), 'binary': (4, (64, 64, 1), True),
        'tetrominoes': (4, (35, 35, 3), False)}


@pytest.mark.parametrize('name', SETS)
def test_multi_object(tmp_path: Path, name: str) -> None:
    entities, shape, last = SETS[name]
    scenes = [scene(entities, shape, last) for _ in range(2)]
    extra = {'color': RNG.random((entities, 3), np.float32), 'material': np.arange(entities).astype(np.uint8)}
    with gzip.open(tmp_path / 'a.tfrecords', 'wb', 1) as file:
        file.writelines(record(example(facts | extra)) for facts, _ in scenes)
    assert save(multi_object(tmp_path / 'a.tfrecords'), tmp_path / 'a.h5') == 2
    with EpisodeStore(tmp_path / 'a.h5') as store:
        assert store.image_shape == shape and store.steps == 1 and store.action_format == 'none'
        for i, (facts, labels) in enumerate(scenes):
            got = store.read_window(i, 0, 1)
            assert np.array_equal(got['frames'][0], facts['image']) and np.array_equal(got['labels'][0], labels)
            assert np.array_equal(got['positions'][0, :-1, 0], facts['x'][1:-1])
            assert np.isnan(got['positions'][0, -1]).all()
            assert np.array_equal(got['color'], extra['color']) and np.array_equal(got['material'], extra['material'])
    assert not list(multi_object(tmp_path / 'a.tfrecords', max_objects=entities - 3).episodes)
    assert len(list(multi_object(tmp_path / 'a.tfrecords', max_objects=entities - 2).episodes)) == 2


def test_damaged_tfrecords(tmp_path: Path) -> None:
    whole = record(b'x' * 40) + record(b'y' * 50)
    path = tmp_path / 'a.tfrecords'
    for data, words in ((whole[:-3], r'record 1: expected 54 bytes, got 51'), (whole[:60], 'record 1: .*cut off'),
                        (whole[:20] + b'z' + whole[21:], 'record 0: .*damaged'),
                        (b'\x01' + whole[1:], 'record 0: .*no TFRecord'),
                        (gzip.compress(whole)[:-12], 'whole TFRecord')):
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf'a\.tfrecords.*{words}'):
            list(read_records(path))
    path.write_bytes(whole)
    assert list(read_records(path)) == [b'x' * 40, b'y' * 50]
    with pytest.raises(InputError, match=r'a\.tfrecords: record 0: expected a tf.train.Example'):
        multi_object(path)
    path.write_bytes(record(example({'image': np.zeros(35 * 35 * 3, np.uint8)})))
    with pytest.raises(InputError, match=r"features: expected image and mask as bytes, got \['image'\]"):
        save(multi_object(path), tmp_path / 'a.h5')
    path.write_bytes(b'')
    with pytest.raises(InputError, match='at least one record'):
        multi_object(path)


# ---- R-NEM ----------------------------------------------------------------------------------------------------------

def write_rnem(path: Path, n: int = 70, frames: type = np.float32) -> dict[str, np.ndarray]:
    data = {'features': RNG.integers(0, 2, (4, n, 8, 8, 1)).astype(frames),
            'groups': RNG.integers(0, 4, (4, n, 8, 8, 1)).astype(np.float32),
            'collisions': RNG.integers(0, 2, (4, n, 8, 8, 1)).astype(np.float32),
            'events': RNG.integers(0, 3, (4, n, 1)).astype(np.float32),
            'actions': np.eye(6, dtype=np.float32)[RNG.integers(0, 6, (4, n))]}
    with h5py.File(path, 'w') as file:
        for name, values in data.items():
            file[f'validation/{name}'] = values
    return data


@pytest.mark.parametrize('frames', [np.float32, np.uint8, np.bool_])
def test_rnem(tmp_path: Path, frames: type) -> None:
    data = write_rnem(tmp_path / 'balls.h5', frames=frames)
    assert save(rnem(tmp_path / 'balls.h5', 'validation'), tmp_path / 'a.h5') == 70
    with EpisodeStore(tmp_path / 'a.h5') as store:
        got = store.read(slice(None))
        assert store.action_format == 'discrete'
    assert np.array_equal(got['frames'], data['features'].transpose(1, 0, 2, 3, 4) * np.uint8(255))
    assert np.array_equal(got['labels'], data['groups'][..., 0].transpose(1, 0, 2, 3))
    assert np.array_equal(got['collisions'], data['collisions'][..., 0].transpose(1, 0, 2, 3))
    assert np.array_equal(got['events'], data['events'][..., 0].T)
    assert np.array_equal(got['actions'], data['actions'][:-1].transpose(1, 0, 2))


def test_rnem_files_that_lack_something(tmp_path: Path) -> None:
    write_rnem(tmp_path / 'balls.h5')
    with pytest.raises(InputError, match=r"balls\.h5: expected training/features, got \['validation'\]"):
        rnem(tmp_path / 'balls.h5')
    with h5py.File(tmp_path / 'balls.h5', 'r+') as file:
        del file['validation/events']
        file['validation/events'] = np.zeros((4, 3))
    with pytest.raises(InputError, match=r'validation/events: expected T, N'):
        rnem(tmp_path / 'balls.h5', 'validation')
    with h5py.File(tmp_path / 'balls.h5', 'r+') as file:
        del file['validation/features']
    with pytest.raises(InputError, match='expected validation/features'):
        rnem(tmp_path / 'balls.h5', 'validation')
    (tmp_path / 'balls.h5').write_bytes(b'no')
    with pytest.raises(InputError, match='an HDF5 file'):
        rnem(tmp_path / 'balls.h5')


# ---- videos and images ----------------------------------------------------------------------------------------------

def write_video(path: Path, frames: int, size: tuple[int, int] = (96, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=10)
        stream.width, stream.height = size
        for i in range(frames):
            image = np.full((size[1], size[0], 3), 20 * i % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())


def test_videos_are_cut_into_episodes(tmp_path: Path) -> None:
    for i, frames in enumerate((5, 9, 3)):
        write_video(tmp_path / 'videos' / f'{i}.mp4', frames)
    source = media(tmp_path / 'videos', View(size=32), steps=4)
    assert save(source, tmp_path / 'a.h5') == 3 and len(source.notes) == 1 and '3 frames' in source.notes[0]
    with EpisodeStore(tmp_path / 'a.h5') as store:
        assert store.image_shape == (32, 32, 3)
        assert np.abs(store.read([2], ['frames'])['frames'].mean((0, 2, 3, 4)) - [80, 100, 120, 140]).max() < 4
    strided = list(media(tmp_path / 'videos', steps=4, stride=2).episodes)
    assert len(strided) == 1 and np.abs(strided[0]['frames'].mean((1, 2, 3)) - [0, 40, 80, 120]).max() < 4
    with pytest.raises(InputError, match=r'frames in each episode: .* got \[3, 5, 9\]'):
        save(media(tmp_path / 'videos'), tmp_path / 'b.h5')
    assert not list(tmp_path.glob('b.h5*'))


def test_videos_that_end_early(tmp_path: Path) -> None:
    write_video(tmp_path / 'v' / 'a.mp4', 20)
    whole = (tmp_path / 'v' / 'a.mp4').read_bytes()
    (tmp_path / 'v' / 'a.mp4').write_bytes(whole[:len(whole) // 2])
    with pytest.raises(InputError, match=r'a\.mp4: expected a whole video'):
        list(media(tmp_path / 'v').episodes)
    start = whole.index(b'mdat') + 4  # the index says 20 frames; half of what it points at is gone
    stop = whole.index(b'moov') - 4
    middle = (start + stop) // 2
    (tmp_path / 'v' / 'a.mp4').write_bytes(whole[:middle] + bytes(stop - middle) + whole[stop:])
    with pytest.raises(InputError, match=r'a\.mp4: expected (20 frames|a whole video)'):
        list(media(tmp_path / 'v').episodes)


def test_images(tmp_path: Path) -> None:
    pictures = RNG.integers(0, 255, (2, 3, 40, 60, 3), np.uint8)
    for i, episode in enumerate(pictures):
        for t, picture in enumerate(episode):
            (tmp_path / 'im' / f'{i}').mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / 'im' / f'{i}' / f'{t:03d}.png'), picture[..., ::-1])
    got = list(media(tmp_path / 'im').episodes)
    assert np.array_equal([e['frames'] for e in got], pictures)
    (tmp_path / 'im' / '1' / '001.png').write_bytes(b'no')
    with pytest.raises(InputError, match=r'001\.png: expected an image'):
        list(media(tmp_path / 'im').episodes)
    cv2.imwrite(str(tmp_path / 'im' / '1' / '001.png'), pictures[0, 0, :20])
    with pytest.raises(InputError, match=r'001\.png: size: expected 60x40'):
        list(media(tmp_path / 'im').episodes)
    with pytest.raises(InputError, match='expected videos'):
        media(tmp_path / 'none')


def write_clevrer(folder: Path, things: tuple[int, ...], frames: int = 6) -> None:
    for i, n in enumerate(things):
        write_video(folder / 'video' / f'video_{i:05d}.mp4', frames)
        motion = [{'frame_id': t, 'objects': [
            {'object_id': k, 'location': [t, k, i], 'velocity': [1, 0, 0]} for k in range(n) if k or t < 3]}
            for t in range(frames)]
        data = {'object_property': [{'object_id': k, 'color': 'red', 'material': 'metal', 'shape': 'sphere'}
                                    for k in range(n)],
                'motion_trajectory': motion, 'collision': [{'object_ids': [0, 1], 'frame_id': 3}]}
        (folder / 'annotation').mkdir(exist_ok=True)
        (folder / 'annotation' / f'annotation_{i:05d}.json').write_text(json.dumps(data))


def test_clevrer(tmp_path: Path) -> None:
    write_clevrer(tmp_path / 'c', (2, 3))
    assert save(clevrer(tmp_path / 'c', stride=2), tmp_path / 'a.h5') == 2
    with EpisodeStore(tmp_path / 'a.h5') as store:
        got = store.read(slice(None))
    assert got['frames'].shape == (2, 3, 64, 96, 3) and got['positions'].shape == (2, 3, 3, 3)
    assert got['positions'][1, :, 2].tolist() == [[0, 2, 1], [2, 2, 1], [4, 2, 1]]
    assert np.isnan(got['positions'][0, :, 2]).all() and np.isnan(got['positions'][0, 2, 0]).all()
    assert np.argwhere(got['collisions'][0]).tolist() == [[1, 0, 1], [1, 1, 0]]
    assert got['kinds'][0].tolist() == [[1, 1, 1], [1, 1, 1], [255, 255, 255]]


def test_clevrer_that_does_not_fit(tmp_path: Path) -> None:
    write_clevrer(tmp_path / 'c', (2, 3))
    write_video(tmp_path / 'c' / 'video' / 'video_00001.mp4', 4)
    with pytest.raises(InputError, match=r'video_00001\.mp4: expected 6 frames, as .*00001\.json says, got 4'):
        list(clevrer(tmp_path / 'c').episodes)
    path = tmp_path / 'c' / 'annotation' / 'annotation_00001.json'
    path.write_text(json.dumps({'object_property': []}))
    with pytest.raises(InputError, match=r'annotation_00001\.json: keys: expected motion_trajectory, collision'):
        clevrer(tmp_path / 'c')
    path.unlink()
    with pytest.raises(InputError, match=r'an annotation for video_00001\.mp4'):
        clevrer(tmp_path / 'c')


# ---- what all loaders share -----------------------------------------------------------------------------------------

def test_views() -> None:
    image = RNG.integers(0, 255, (48, 64, 3), np.uint8)
    assert np.array_equal(View(size=16).image(image), model_image(image, 16))
    assert np.array_equal(View((4, 2, 20, 10)).image(image), image[2:12, 4:24])
    gray = View(size=16).image(image[..., :1])
    assert np.array_equal(gray[..., 0], model_image(np.repeat(image[..., :1], 3, 2), 16)[..., 0])
    labels = np.kron(np.arange(16).reshape(4, 4), np.ones((12, 12))).astype(np.uint8)
    assert np.array_equal(View(size=4).labels(labels), np.arange(16).reshape(4, 4))
    with pytest.raises(InputError, match='crop'):
        View((0, 0, 65, 48)).image(image)


def test_limits_and_empty_sources(tmp_path: Path) -> None:
    episode = {'frames': np.zeros((2, 8, 8, 3), np.uint8)}
    assert save(Source({'action_format': 'none'}, iter([episode] * 40)), tmp_path / 'a.h5', limit=20) == 20
    with pytest.raises(InputError, match='an episode, got too short'):
        save(Source({'source': 'x'}, iter(()), ['too short']), tmp_path / 'b.h5')
