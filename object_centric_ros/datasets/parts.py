"""Whole episode files that are written at once, and joined into one (see `episodes`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.datasets.card import write_card
from object_centric_ros.datasets.layout import FORMAT, action_format, check_all, concrete, declared
from object_centric_ros.datasets.store import Arrays, EpisodeStore, Path_, checksum, text_checksum
from object_centric_ros.errors import InputError

SMALL, LARGE = 64 << 10, 1 << 20
"""Bytes of a chunk: episodes of less than SMALL share one, longer ones are cut at LARGE."""


def plain(meta: Mapping[str, object]) -> dict[str, Any]:
    """Metadata as it comes back from a file."""
    return json.loads(json.dumps(dict(meta)))


def same_meta(stored: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether a file's metadata is what `given` makes of it."""
    added = {'format': FORMAT, 'fields': stored.get('fields'), 'action_format': stored.get('action_format')}
    return {**stored, 'format': FORMAT} == {**added, **given, 'format': FORMAT, 'fields': stored.get('fields')}


def parts_folder(path: Path_) -> Path:
    """Where the parts of a file wait until they are joined."""
    return Path(f'{os.fspath(path)}.parts')


def write_part(path: Path_, meta: Mapping[str, object], arrays: Mapping[str, NDArray]) -> None:
    """Write one complete episode file: it is there whole or not at all.

    Args:
        path: the file.
        meta: see `EpisodeWriter`.
        arrays: field -> array [B, ...].
    """
    where = os.fspath(path)
    layout = declared(meta, list(arrays), where)
    check_all(layout, arrays, where)
    layout = {k: concrete(field, arrays[k]) for k, field in layout.items()}
    whole = {**meta, 'format': FORMAT, 'fields': layout,
             'action_format': action_format(meta, arrays.get('actions'), where)}
    sums = np.array([[checksum(row) for row in arrays[k]] for k in layout], np.uint32).T
    with _new_file(where) as file:
        _write_meta(file, whole)
        for name, values in {**{k: arrays[k] for k in layout}, 'checksums': sums}.items():
            _create(file, name, values.shape, values.dtype)[...] = values


def _write_meta(file: h5py.File, meta: Mapping[str, Any]) -> None:
    text = json.dumps(meta)
    file.attrs['meta'], file.attrs['meta_checksum'] = text, text_checksum(text)


def join(files: Sequence[Path_], out: Path_) -> None:
    """Put episode files one behind the other into the file `out`, which may be one of them; then write its card."""
    with EpisodeStore(files[0]) as first:
        counts = []
        for path in files:
            with EpisodeStore(path) as store:
                if not same_meta(store.meta, first.meta) or list(store.layout.items()) != list(first.layout.items()):
                    raise InputError(f'{os.fspath(path)}: meta', first.meta, store.meta)
                counts.append(len(store))
        with _new_file(os.fspath(out)) as file:
            _write_meta(file, {**first.meta, 'format': FORMAT})
            for name in [*first.fields, 'checksums']:
                like = first._file.get(name)
                shape = like.shape[1:] if like is not None else (len(first.fields),)
                _create(file, name, (sum(counts), *shape), np.uint32 if like is None else like.dtype)
            start = 0
            for path, count in zip(files, counts, strict=True):
                with EpisodeStore(path) as store:
                    _copy(store, file, start)
                start += count
    write_card(out)


def _copy(store: EpisodeStore, file: h5py.File, start: int) -> None:
    """All episodes of a store into a file's datasets, from `start` on; chunks as they are where that is possible."""
    names, count = [], len(store)
    for name in [*store.fields, 'checksums']:
        source, target = store._file.get(name), file[name]
        if source is not None and source.chunks == target.chunks and start % source.chunks[0] == 0 \
                and source.compression == target.compression:
            rows = source.chunks[0]
            whole = count if start + count == len(target) else count - count % rows
            ends = (whole, *source.shape[1:])
            for at in product(*(range(0, end, step) for end, step in zip(ends, source.chunks, strict=True))):
                mask, data = source.id.read_direct_chunk(at)
                target.id.write_direct_chunk((at[0] + start, *at[1:]), data, mask)
            if whole < count:
                target[start + whole:start + count] = source[whole:]
        elif source is not None and name == 'checksums':
            target[start:start + count] = source[...]
        else:
            names.append(name)
    if 'checksums' in names:  # from a file of the first format
        names = list(store.fields)
    done = start
    for arrays in store.batches(names) if names else ():
        stop = done + len(arrays[names[0]])
        for name, values in arrays.items():
            file[name][done:stop] = values
        if 'checksums' not in store._file:
            sums = [[checksum(row) for row in arrays[k]] for k in store.fields]
            file['checksums'][done:stop] = np.array(sums, np.uint32).T
        done = stop


def _create(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """A dataset [N, ...] with chunks that suit reading by episode."""
    episode = np.dtype(dtype).itemsize * int(np.prod(shape[1:], dtype=int))
    if episode >= SMALL and len(shape) > 1:
        chunks = (1, max(1, min(shape[1], LARGE * shape[1] // episode)), *shape[2:])
    else:
        together = max(1, SMALL // max(episode, 128))
        # a power of two up to 512: parts of as many episodes, or a multiple, are joined without unpacking them
        chunks = (1 << together.bit_length() - 1, *(max(size, 1) for size in shape[1:]))
    return file.create_dataset(name, shape, dtype, chunks=chunks, maxshape=(None, *shape[1:]), compression='gzip',
                               compression_opts=1)


class _new_file:
    """A new HDF5 file that takes its name when it is complete."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> h5py.File:
        try:
            self.file = h5py.File(self.path + '.new', 'w')
        except OSError as e:
            raise InputError(f'episode file {self.path}', 'a place that can be written', e) from e
        return self.file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.file.close()
        if kind is None:
            os.replace(self.path + '.new', self.path)
        else:
            os.unlink(self.path + '.new')


def stack(episodes: Iterable[Mapping[str, NDArray]]) -> Arrays:
    """Episodes without the axis N -> arrays [B, ...]."""
    rows = list(episodes)
    return {k: np.stack([np.asarray(row[k]) for row in rows]) for k in rows[0]}
