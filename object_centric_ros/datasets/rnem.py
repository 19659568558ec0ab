"""The HDF5 files of R-NEM (van Steenkiste et al., 2018): bouncing balls and Space Invaders."""

from __future__ import annotations

import os
from collections.abc import Iterator

import h5py
import numpy as np

from object_centric_ros.datasets.episodes import Arrays
from object_centric_ros.datasets.sources import Source, View
from object_centric_ros.errors import InputError

PARTS = ('training', 'validation', 'test')
AT_ONCE = 64
"""Sequences that are read together: the files have time first."""
DECLARED = {'collisions': ('uint8', 'N T H W', '1 on the pixels of things that collide'),
            'events': ('float32', 'N T', 'number of collisions in the frame')}


def rnem(path: str | os.PathLike[str], part: str = 'training', view: View | None = None) -> Source:
    """The sequences of one part of a file, each an episode.

    The file holds, for each part, `features` [T, N, H, W, C] in [0, 1] or uint8, and perhaps `groups`, `collisions`
    [T, N, H, W, 1], `events` [T, N, ...] and `actions` [T, N, ...]. The action of a frame is taken for what leads to
    the next one; the last is left out.

    Args:
        path: the file.
        part: `training`, `validation` or `test`.
        view: what is kept of the images.
    """
    where = os.fspath(path)
    if part not in PARTS:
        raise InputError('part', f'one of {PARTS}', part)
    try:
        with h5py.File(where, 'r') as file:
            if part not in file or 'features' not in file[part]:
                raise InputError(where, f'{part}/features', sorted(file[part]) if part in file else sorted(file))
            shapes = {name: file[part][name].shape for name in file[part]}
    except OSError as e:
        raise InputError(where, 'an HDF5 file', e) from e
    if len(shapes['features']) != 5:
        raise InputError(f'{where}: {part}/features', '[T, N, H, W, C]', list(shapes['features']))
    for name, shape in shapes.items():
        if shape[:2] != shapes['features'][:2]:
            raise InputError(f'{where}: {part}/{name}', f'T, N = {shapes["features"][:2]}', list(shape))
    meta = {'generator': 'R-NEM', 'source': f'{os.path.basename(where)}/{part}', 'fields': DECLARED,
            'action_format': 'discrete' if 'actions' in shapes else 'none'}
    return Source(meta, _read(where, part, view or View()))


def _read(where: str, part: str, view: View) -> Iterator[Arrays]:
    with h5py.File(where, 'r') as file:
        data = file[part]
        for start in range(0, data['features'].shape[1], AT_ONCE):
            try:
                block = {k: np.moveaxis(data[k][:, start:start + AT_ONCE], 1, 0) for k in data}
            except OSError as e:
                raise InputError(f'{where}: {part}', 'intact data', e) from e
            for i in range(len(block['features'])):
                yield _episode({k: v[i] for k, v in block.items()}, view)


def _episode(rows: Arrays, view: View) -> Arrays:
    frames = rows['features']
    if frames.dtype != np.uint8 or frames.max(initial=0) <= 1:
        frames = np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)
    episode = {'frames': np.stack([view.image(frame) for frame in frames])}
    for name, ours in (('groups', 'labels'), ('collisions', 'collisions')):
        if name in rows:
            pixels = np.rint(rows[name].reshape(rows[name].shape[:3])).astype(np.uint8)
            episode[ours] = np.stack([view.labels(row) for row in pixels])
    if 'events' in rows:
        events = rows['events'].reshape(len(frames), -1)
        episode['events'] = events.sum(1).astype(np.float32)
    if 'actions' in rows:
        episode['actions'] = rows['actions'][:-1].astype(np.float32)
    return episode
