"""LeRobotDataset folders: what is written is read back, and what others have written."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from object_centric_ros.datasets import lerobot as lerobot_module
from object_centric_ros.datasets.episodes import EpisodeStore, EpisodeWriter
from object_centric_ros.datasets.lerobot import IMAGE, lerobot, write_lerobot
from object_centric_ros.datasets.sources import View, save
from object_centric_ros.errors import InputError

pyarrow = pytest.importorskip('pyarrow')
parquet = pytest.importorskip('pyarrow.parquet')
RNG = np.random.default_rng(0)


def write_episodes(path: Path, channels: int = 3) -> dict[str, np.ndarray]:
    data = {'frames': RNG.integers(0, 255, (5, 4, 16, 24, channels), np.uint8),
            'actions': RNG.random((5, 3, 4), np.float32), 'joints': RNG.random((5, 4, 6), np.float32),
            'success': np.ones((5, 3), bool)}
    with EpisodeWriter(path, {'action_format': 'pick_place_xy', 'seed': 1}) as writer:
        writer.append(data)
    return data


@pytest.mark.parametrize('channels', [3, 1])
def test_there_and_back(tmp_path: Path, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_episodes(tmp_path / 'a.h5', channels)
    monkeypatch.setattr(lerobot_module, 'FILE_SIZE', 0)  # a file for each episode, some folders
    monkeypatch.setattr(lerobot_module, 'CHUNK', 2)
    assert write_lerobot(tmp_path / 'a.h5', tmp_path / 'set', fps=5, task='stack') == ['success']
    assert len(list((tmp_path / 'set' / 'data').glob('*/*.parquet'))) == 5
    assert save(lerobot(tmp_path / 'set'), tmp_path / 'b.h5') == 5
    with EpisodeStore(tmp_path / 'b.h5') as store:
        got = store.read(slice(None))
        assert store.action_format == 'pick_place_xy' and store.meta['rate'] == 5
    for name in ('frames', 'actions', 'joints'):
        assert np.array_equal(got[name], data[name]), name
    assert np.allclose(got['stamps'], np.arange(4) / 5)
    cut = list(lerobot(tmp_path / 'set', View(size=8), steps=2).episodes)
    assert len(cut) == 10 and np.array_equal(cut[1]['actions'], data['actions'][0, 2:3])
    with pytest.raises(InputError, match='does not exist yet'):
        write_lerobot(tmp_path / 'a.h5', tmp_path / 'set', fps=5)


def test_what_lerobot_expects_is_there(tmp_path: Path) -> None:
    """By the documented layout of version 3.0; `test_the_lerobot_package_reads_it` is the real check."""
    data = write_episodes(tmp_path / 'a.h5')
    write_lerobot(tmp_path / 'a.h5', tmp_path / 'set', fps=5, task='stack')
    info = json.loads((tmp_path / 'set' / 'meta' / 'info.json').read_text())
    assert info['codebase_version'] == 'v3.0' and info['total_frames'] == 20 and info['splits'] == {'train': '0:5'}
    table = parquet.read_table(tmp_path / 'set' / info['data_path'].format(chunk_index=0, file_index=0))
    assert set(table.column_names) == set(info['features']) and table.num_rows == 20
    assert table['index'].to_pylist() == list(range(20)) and table['frame_index'].to_pylist() == [0, 1, 2, 3] * 5
    assert table.schema.field('action').type == pyarrow.list_(pyarrow.float32(), 4)
    stats = json.loads((tmp_path / 'set' / 'meta' / 'stats.json').read_text())
    assert np.allclose(stats[IMAGE]['mean'], data['frames'].mean((0, 1, 2, 3)).reshape(3, 1, 1) / 255)
    assert np.allclose(stats['observation.state']['std'], data['joints'].reshape(-1, 6).std(0))
    assert stats[IMAGE]['count'] == [20] and set(stats) == set(info['features'])
    episodes = parquet.read_table(tmp_path / 'set/meta/episodes/chunk-000/file-000.parquet').to_pylist()
    assert [e['dataset_from_index'] for e in episodes] == [0, 4, 8, 12, 16] and episodes[0]['tasks'] == ['stack']
    tasks = parquet.read_table(tmp_path / 'set' / 'meta' / 'tasks.parquet')
    assert json.loads(tasks.schema.metadata[b'pandas'])['index_columns'] == ['task']
    if importlib.util.find_spec('pandas'):
        assert tasks.to_pandas().loc['stack'].task_index == 0


needs_lerobot = pytest.mark.skipif(importlib.util.find_spec('lerobot') is None,
                                   reason='the package lerobot is not installed')


@needs_lerobot
def test_the_lerobot_package_reads_it(tmp_path: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = write_episodes(tmp_path / 'a.h5')
    write_lerobot(tmp_path / 'a.h5', tmp_path / 'set', fps=5, task='stack')
    dataset = LeRobotDataset('local/set', root=tmp_path / 'set')
    assert len(dataset) == 20
    row = dataset[6]
    assert np.allclose(row[IMAGE].numpy().transpose(1, 2, 0) * 255, data['frames'][1, 2])
    assert np.allclose(row['action'], data['actions'][1, 2]) and row['task'] == 'stack'


@needs_lerobot
@pytest.mark.parametrize('kind', ['image', 'video'])
def test_what_the_lerobot_package_writes(tmp_path: Path, kind: str) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {'observation.images.top': {'dtype': kind, 'shape': (64, 96, 3), 'names': None},
                'action': {'dtype': 'float32', 'shape': (2,), 'names': ['x', 'y']}}
    pictures = np.zeros((2, 4, 64, 96, 3), np.uint8)
    for episode, t in np.ndindex(2, 4):
        pictures[episode, t, :, :48] = 80 * episode + 20 * t
    dataset = LeRobotDataset.create('local/set', fps=10, features=features, root=tmp_path / 'set',
                                    use_videos=kind == 'video')
    for episode in pictures:
        for t, picture in enumerate(episode):
            dataset.add_frame({'observation.images.top': picture, 'action': np.array([t, -t], np.float32), 'task': 'x'})
        dataset.save_episode()
    dataset.finalize()
    got = list(lerobot(tmp_path / 'set').episodes)
    frames = np.array([e['frames'] for e in got])
    assert np.abs(frames.astype(int) - pictures).mean() <= (2 if kind == 'video' else 0)
    assert got[1]['actions'].tolist() == [[0, 0], [1, -1], [2, -2]] and np.allclose(got[0]['stamps'], np.arange(4) / 10)


def write_foreign(folder: Path, version: str, video: bool) -> np.ndarray:
    """Two episodes of 6 and 4 frames as others write them; returns the gray level of each frame."""
    lengths, levels = (6, 4), np.arange(10) * 20
    features = {'observation.images.top': {'dtype': 'video' if video else 'image', 'shape': [32, 48, 3], 'names': None},
                'action': {'dtype': 'float32', 'shape': [2], 'names': ['x', 'y']}}
    old = version != 'v3.0'
    info = {'codebase_version': version, 'fps': 10, 'features': features, 'total_episodes': 2, 'chunks_size': 1000,
            'data_path': 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet' if old else
            lerobot_module.DATA, 'video_path': 'videos/chunk-{episode_chunk:03d}/{video_key}/'
            'episode_{episode_index:06d}.mp4' if old else lerobot_module.VIDEO}
    (folder / 'meta').mkdir(parents=True)
    (folder / 'meta' / 'info.json').write_text(json.dumps(info))
    rows, entries = [], []
    for i, length in enumerate(lengths):
        for t in range(length):
            at = sum(lengths[:i]) + t
            rows.append({'episode_index': i, 'timestamp': t / 10, 'action': [float(i), float(t)]})
            if not video:
                picture = cv2.imencode('.png', np.full((32, 48, 3), levels[at], np.uint8))[1].tobytes()
                if at % 2:  # a file beside the table
                    rows[-1]['observation.images.top'] = {'bytes': None, 'path': f'images/{at}.png'}
                    (folder / 'images').mkdir(exist_ok=True)
                    (folder / 'images' / f'{at}.png').write_bytes(picture)
                else:
                    rows[-1]['observation.images.top'] = {'bytes': picture, 'path': None}
        entries.append({'episode_index': i, 'videos/observation.images.top/chunk_index': 0,
                        'videos/observation.images.top/file_index': 0,
                        'videos/observation.images.top/from_timestamp': sum(lengths[:i]) / 10})
    (folder / 'data' / 'chunk-000').mkdir(parents=True)
    if old:
        for i in range(2):
            part = [row for row in rows if row['episode_index'] == i]
            parquet.write_table(pyarrow.Table.from_pylist(part), folder / 'data/chunk-000' / f'episode_{i:06d}.parquet')
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / 'data/chunk-000/file-000.parquet')
        (folder / 'meta/episodes/chunk-000').mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(entries), folder / 'meta/episodes/chunk-000/file-000.parquet')
    if video and old:
        for i, length in enumerate(lengths):
            write_video(folder / info['video_path'].format(episode_chunk=0, episode_index=i,
                                                           video_key='observation.images.top'),
                        levels[sum(lengths[:i]):][:length])
    elif video:
        write_video(folder / lerobot_module.VIDEO.format(video_key='observation.images.top', chunk_index=0,
                                                         file_index=0), levels)
    return levels


def write_video(path: Path, levels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=10)
        stream.width, stream.height = 48, 32
        for level in levels:
            image = np.full((32, 48, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())


@pytest.mark.parametrize('video', [False, True])
@pytest.mark.parametrize('version', ['v2.1', 'v3.0'])
def test_what_others_write(tmp_path: Path, version: str, video: bool) -> None:
    levels = write_foreign(tmp_path / 'set', version, video)
    episodes = list(lerobot(tmp_path / 'set').episodes)
    assert [len(e['frames']) for e in episodes] == [6, 4]
    seen = np.concatenate([e['frames'].mean((1, 2, 3)) for e in episodes])
    assert np.abs(seen - levels).max() < (4 if video else 1e-9)
    assert episodes[1]['actions'].tolist() == [[1, 0], [1, 1], [1, 2]]
    source = lerobot(tmp_path / 'set', steps=5)
    assert len(list(source.episodes)) == 1 and source.notes == ['episode 1: left out, 4 frames are fewer than 5']
    assert source.meta['action_format'] == 'joint_command'


def test_folders_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'info\.json: expected JSON with codebase_version'):
        lerobot(tmp_path)
    write_foreign(tmp_path / 'set', 'v3.0', True)
    with pytest.raises(InputError, match=r"image feature: expected one of \['observation.images.top'\], got wrist"):
        lerobot(tmp_path / 'set', camera='wrist')
    write_video(next((tmp_path / 'set').rglob('*.mp4')), np.arange(8))
    with pytest.raises(InputError, match=r'file-000\.mp4: expected 10 frames'):
        list(lerobot(tmp_path / 'set').episodes)
    data = next((tmp_path / 'set' / 'data').rglob('*.parquet'))
    data.write_bytes(data.read_bytes()[:-10])
    with pytest.raises(InputError, match=r'file-000\.parquet: expected a Parquet file'):
        list(lerobot(tmp_path / 'set').episodes)
    data.unlink()
    with pytest.raises(InputError, match=r'expected data/\*/\*\.parquet, got none'):
        list(lerobot(tmp_path / 'set').episodes)
    info = tmp_path / 'set' / 'meta' / 'info.json'
    info.write_text(info.read_text().replace('v3.0', 'v1.6'))
    with pytest.raises(InputError, match=r'codebase_version: expected v2.0, v2.1 or v3.0, got v1.6'):
        lerobot(tmp_path / 'set')
