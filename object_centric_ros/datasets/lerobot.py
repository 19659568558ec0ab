"""LeRobotDataset folders: episodes from version 2.1 and 3.0, and to version 3.0, without the `lerobot` package.

A folder holds ``meta/info.json`` with the features, Parquet files with one row for each frame, and images inside of
them (PNG) or in MP4 files. An action belongs to the frame at which it is given; the last frame's, which leads nowhere,
is written as zeros and not read. Actions of any shape become a list of numbers; other fields of ours are not written.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.datasets.episodes import Arrays, EpisodeStore
from object_centric_ros.datasets.media import video_frames
from object_centric_ros.datasets.sources import Source, View, found, windows
from object_centric_ros.errors import InputError

IMAGE, STATE, ACTION = 'observation.images.front', 'observation.state', 'action'
DATA = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
VIDEO = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
INDICES = ('frame_index', 'episode_index', 'index', 'task_index')
FILE_SIZE, CHUNK = 100, 1000
"""Megabytes of a data file, files of a folder."""


def _arrow() -> tuple[Any, Any]:
    """The Parquet library, which is optional."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as e:
        raise InputError('LeRobotDataset', 'the Python package pyarrow (pip install object_centric_ros[lerobot])',
                         'none') from e
    return pyarrow, pyarrow.parquet


# ---- reading --------------------------------------------------------------------------------------------------------

def lerobot(path: str | os.PathLike[str], view: View | None = None, steps: int | None = None, camera: str = ''
            ) -> Source:
    """Episodes of a LeRobotDataset.

    Args:
        path: the folder.
        view: what is kept of the images.
        steps: frames of an episode; longer ones are cut, and what is left over is dropped. None: all frames.
        camera: name of the image feature; empty: the first one.
    """
    folder = Path(path)
    info = _info(folder)
    cameras = [k for k, feature in info['features'].items() if feature['dtype'] in ('image', 'video')]
    camera = camera or next(iter(cameras), '')
    if camera not in cameras:
        raise InputError(f'{folder}: image feature', f'one of {cameras}', camera or 'none')
    source = Source({'generator': 'LeRobotDataset', 'source': folder.name, 'rate': info['fps'], 'camera_key': camera,
                     'action_format': _format(info) if ACTION in info['features'] else 'none'}, iter(()))

    def episodes() -> Iterator[Arrays]:
        for number, whole in _whole_episodes(folder, info, camera, view or View()):
            cut = windows(len(whole['frames']), steps)
            if not cut:
                source.notes.append(f'episode {number}: left out, {len(whole["frames"])} frames are fewer than {steps}')
            for part in cut:
                yield {k: v[part.start:part.stop - (k == 'actions')] for k, v in whole.items()}

    source.episodes = episodes()
    return source


def _info(folder: Path) -> dict[str, Any]:
    path = folder / 'meta' / 'info.json'
    try:
        info = json.loads(path.read_text(encoding='utf-8'))
        version, _ = info['codebase_version'], (info['fps'], info['features'], info['data_path'])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(str(path), 'JSON with codebase_version, fps, features and data_path', repr(e)) from e
    if version not in ('v2.0', 'v2.1', 'v3.0'):
        raise InputError(f'{path}: codebase_version', 'v2.0, v2.1 or v3.0', version)
    return info


def _format(info: dict[str, Any]) -> str:
    """The name of the actions' format, if we wrote it; else that of robots."""
    names = info['features'][ACTION].get('names')
    known = re.fullmatch(r'(\w+)_0', names[0]) if isinstance(names, list) and names else None
    return known[1] if known and names == [f'{known[1]}_{i}' for i in range(len(names))] else 'joint_command'


def _table(path: Path, columns: list[str] | None = None) -> Any:
    arrow, parquet = _arrow()
    try:
        return parquet.read_table(path, columns=columns)
    except (OSError, arrow.ArrowException) as e:
        raise InputError(str(path), f'a Parquet file with {columns or "a table"}', e) from e


def _whole_episodes(folder: Path, info: dict[str, Any], camera: str, view: View) -> Iterator[tuple[int, Arrays]]:
    """Number and arrays of each episode, all its frames."""
    video = info['features'][camera]['dtype'] == 'video'
    wanted = ['episode_index', 'timestamp', *([] if video else [camera]),
              *(k for k in (ACTION, STATE) if k in info['features'])]
    places, player = _video_places(folder, info, camera) if video else {}, _Player(view)
    for path in found(list((folder / 'data').glob('*/*.parquet')), 'data/*/*.parquet', folder):
        table = _table(path, wanted)
        if missing := [k for k in wanted if k not in table.column_names]:
            raise InputError(f'{path}: columns', ', '.join(wanted), f'no {", ".join(missing)}')
        numbers = table['episode_index'].to_numpy()
        for number in np.unique(numbers).tolist():
            rows = table.filter(numbers == number)
            stamps = np.array(rows['timestamp'].to_pylist(), np.float64)
            out: Arrays = {'stamps': stamps}
            if video:
                file, start = places[number]
                out['frames'] = player.take(file, round(start * info['fps']), len(stamps))
            else:
                out['frames'] = np.stack([view.image(_decode(cell, path)) for cell in rows[camera].to_pylist()])
            for key, name in ((ACTION, 'actions'), (STATE, 'joints')):
                if key in wanted:
                    out[name] = np.array(rows[key].to_pylist(), np.float32).reshape(len(stamps), -1)
            yield number, out


def _decode(cell: dict[str, Any], path: Path) -> NDArray[np.uint8]:
    """An image as Parquet files hold it: its bytes, or where its file is."""
    data = cell.get('bytes')
    if data is None:
        file = path.parents[2] / (cell.get('path') or '')
        data = file.read_bytes() if file.is_file() else b''
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise InputError(f'{path}: image', 'PNG or JPEG', f'{len(data)} bytes, {cell.get("path")}')
    return np.asarray(image, np.uint8)[..., None] if image.ndim == 2 else np.asarray(image[..., 2::-1], np.uint8)


def _video_places(folder: Path, info: dict[str, Any], camera: str) -> dict[int, tuple[Path, float]]:
    """The video file of each episode, and the time (s) at which the episode starts in it."""
    if info['codebase_version'] != 'v3.0':
        size = info.get('chunks_size', CHUNK)
        return {i: (folder / info['video_path'].format(episode_chunk=i // size, episode_index=i, video_key=camera), 0.0)
                for i in range(info['total_episodes'])}
    places = {}
    keys = [f'videos/{camera}/{k}' for k in ('chunk_index', 'file_index', 'from_timestamp')]
    for path in found(list((folder / 'meta' / 'episodes').glob('*/*.parquet')), 'meta/episodes/*/*.parquet', folder):
        for row in _table(path, ['episode_index', *keys]).to_pylist():
            file = info['video_path'].format(video_key=camera, chunk_index=row[keys[0]], file_index=row[keys[1]])
            places[row['episode_index']] = (folder / file, row[keys[2]])
    return places


class _Player:
    """Frames of video files; those of one file are decoded once when they are asked for in order."""

    def __init__(self, view: View) -> None:
        self._view, self._file, self._next = view, Path(), 0
        self._frames: Iterator[NDArray[np.uint8]] = iter(())

    def take(self, file: Path, first: int, count: int) -> NDArray[np.uint8]:
        """`count` frames from number `first` on."""
        if file != self._file or first < self._next:
            self._file, self._next, self._frames = file, 0, video_frames(file, self._view)
        for _ in itertools.islice(self._frames, first - self._next):
            pass
        frames = list(itertools.islice(self._frames, count))
        self._next = first + count
        if len(frames) < count:
            raise InputError(f'{file}', f'{first + count} frames', 'fewer: the video ends early')
        return np.stack(frames)


# ---- writing --------------------------------------------------------------------------------------------------------

def write_lerobot(path: str | os.PathLike[str], out: str | os.PathLike[str], fps: int, task: str = 'play') -> list[str]:
    """Write an episode file as a LeRobotDataset of version 3.0 with images; returns what was left out.

    Args:
        path: the episode file.
        out: the folder; must not exist.
        fps: frames a second, for the time stamps.
        task: what the episodes are about, in words.
    """
    arrow, parquet = _arrow()
    folder, new = Path(out), Path(f'{os.fspath(out)}.new')
    if folder.exists():
        raise InputError('LeRobotDataset', 'a folder that does not exist yet', str(folder))
    if fps < 1:
        raise InputError('fps', 'at least 1', fps)
    shutil.rmtree(new, ignore_errors=True)
    with EpisodeStore(path) as store:
        features, sums = _features(store, fps), _Statistics()
        chosen = [k for k in ('frames', 'actions', 'joints') if k in store.fields]
        entries, file, writer = [], -1, None
        schema = arrow.schema([(k, _type(feature, arrow)) for k, feature in features.items()])
        for start in range(len(store)):
            episode = {k: v[0] for k, v in store.read([start], chosen).items()}
            if writer is None or _place(new, file).stat().st_size > FILE_SIZE << 20:
                if writer is not None:
                    writer.close()
                file += 1
                _place(new, file).parent.mkdir(parents=True, exist_ok=True)
                writer = parquet.ParquetWriter(_place(new, file), schema, compression='snappy')
            writer.write_table(_rows(episode, start, fps, schema, sums, arrow))
            steps = store.steps
            entries.append({'episode_index': start, 'tasks': [task], 'length': steps,
                            'dataset_from_index': start * steps, 'dataset_to_index': (start + 1) * steps,
                            'data/chunk_index': file // CHUNK, 'data/file_index': file % CHUNK,
                            'meta/episodes/chunk_index': 0, 'meta/episodes/file_index': 0})
        if writer is None:
            raise InputError(f'{store.path}', 'an episode', 'none')
        writer.close()
        left_out = [k for k in store.fields if k not in chosen and k != 'stamps']
        info = {'codebase_version': 'v3.0', 'robot_type': None, 'total_episodes': len(store),
                'total_frames': len(store) * store.steps, 'total_tasks': 1, 'chunks_size': CHUNK,
                'data_files_size_in_mb': FILE_SIZE, 'video_files_size_in_mb': 200, 'fps': fps,
                'splits': {'train': f'0:{len(store)}'}, 'data_path': DATA, 'video_path': None, 'features': features}
    (new / 'meta' / 'episodes' / 'chunk-000').mkdir(parents=True)
    (new / 'meta' / 'info.json').write_text(json.dumps(info, indent=4))
    (new / 'meta' / 'stats.json').write_text(json.dumps(sums.result(), indent=4))
    parquet.write_table(arrow.Table.from_pylist(entries), new / 'meta/episodes/chunk-000/file-000.parquet')
    # lerobot reads the tasks with pandas, their names as the index
    index = {'index_columns': ['task'], 'column_indexes': [], 'pandas_version': '2.0.0', 'columns': [
        {'name': name, 'field_name': name, 'pandas_type': kind, 'numpy_type': numpy, 'metadata': None}
        for name, kind, numpy in (('task_index', 'int64', 'int64'), ('task', 'unicode', 'object'))]}
    tasks = arrow.table({'task_index': arrow.array([0], arrow.int64()), 'task': [task]})
    parquet.write_table(tasks.replace_schema_metadata({'pandas': json.dumps(index)}), new / 'meta' / 'tasks.parquet')
    new.rename(folder)
    return left_out


def _place(folder: Path, file: int) -> Path:
    return folder / DATA.format(chunk_index=file // CHUNK, file_index=file % CHUNK)


def _features(store: EpisodeStore, fps: int) -> dict[str, dict[str, Any]]:
    """What info.json says of each column."""
    features: dict[str, dict[str, Any]] = {
        IMAGE: {'dtype': 'image', 'shape': list(store.image_shape), 'names': ['height', 'width', 'channels']}}
    for name, key, label in (('actions', ACTION, store.action_format), ('joints', STATE, 'joint')):
        if name in store.fields:
            size = math.prod(store.shapes[name][2:])
            names = store.meta.get('joint_names') if name == 'joints' else None
            features[key] = {'dtype': 'float32', 'shape': [size],
                             'names': names or [f'{label}_{i}' for i in range(size)]}
    features['timestamp'] = {'dtype': 'float32', 'shape': [1], 'names': None}
    return features | {k: {'dtype': 'int64', 'shape': [1], 'names': None} for k in INDICES}


def _type(feature: dict[str, Any], arrow: Any) -> Any:
    if feature['dtype'] == 'image':
        return arrow.struct([('bytes', arrow.binary()), ('path', arrow.string())])
    kind = arrow.float32() if feature['dtype'] == 'float32' else arrow.int64()
    return kind if feature['shape'] == [1] else arrow.list_(kind, feature['shape'][0])


def _rows(episode: Arrays, number: int, fps: int, schema: Any, sums: _Statistics, arrow: Any) -> Any:
    """The table of one episode."""
    steps = len(episode['frames'])
    columns: dict[str, Any] = {'timestamp': np.arange(steps, dtype=np.float32) / np.float32(fps),
                               'frame_index': np.arange(steps), 'episode_index': np.full(steps, number),
                               'index': number * steps + np.arange(steps), 'task_index': np.zeros(steps, int)}
    if 'actions' in episode:
        rows = episode['actions'].reshape(steps - 1, -1).astype(np.float32)
        columns[ACTION] = np.concatenate([rows, np.zeros((1, rows.shape[1]), np.float32)])
    if 'joints' in episode:
        columns[STATE] = episode['joints'].astype(np.float32)
    for key, values in columns.items():
        sums.add(key, values.reshape(steps, -1))
    sums.add(IMAGE, episode['frames'] / 255)
    columns[IMAGE] = [{'bytes': cv2.imencode('.png', frame[..., ::-1])[1].tobytes(),
                       'path': f'frame-{t:06d}.png'} for t, frame in enumerate(episode['frames'])]
    lists = {k: (v[:, 0] if v.shape[1:] == (1,) else v).tolist() if isinstance(v, np.ndarray) else v
             for k, v in columns.items()}
    return arrow.Table.from_pydict({name: lists[name] for name in schema.names}, schema=schema)


class _Statistics:
    """Least, greatest, mean and standard deviation of each feature over all frames, as stats.json has them."""

    def __init__(self) -> None:
        self._sums: dict[str, list[Any]] = {}

    def add(self, key: str, values: NDArray) -> None:
        """Values [T, n], or images [T, H, W, C] in [0, 1]."""
        flat = values.astype(np.float64).reshape(-1, values.shape[-1])
        new = [flat.min(0), flat.max(0), flat.sum(0), (flat ** 2).sum(0), len(flat), len(values), values.ndim == 4]
        old = self._sums.get(key)
        self._sums[key] = new if old is None else [
            np.minimum(old[0], new[0]), np.maximum(old[1], new[1]), *(a + b for a, b in zip(old[2:6], new[2:6],
                                                                                           strict=True)), new[6]]

    def result(self) -> dict[str, dict[str, Any]]:
        """Feature -> statistic -> numbers; those of images have the shape [C, 1, 1]."""
        out = {}
        for key, (low, high, total, squares, n, frames, image) in self._sums.items():
            mean = total / n
            values = {'min': low, 'max': high, 'mean': mean, 'std': np.sqrt(np.maximum(squares / n - mean ** 2, 0))}
            out[key] = {k: (v[:, None, None] if image else v).tolist() for k, v in values.items()} | {'count': [frames]}
        return out
