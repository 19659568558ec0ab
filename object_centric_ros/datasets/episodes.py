"""Episodes on disk: one HDF5 file of image sequences, the actions between the images and what is known about them.

Each field (see `layout`) is a dataset with the episodes along its first axis, cut into chunks that hold one long
episode, a part of it, or many short ones, compressed with gzip. The attribute ``meta`` is a JSON object: format,
fields, format of the actions, generator with its version and seed, and whatever else its maker records, e.g. the
camera. ``checksums`` [N, F] is a CRC-32 of each episode's array in each field, in the order of the metadata, and the
attribute ``meta_checksum`` that of the metadata's text.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.datasets.layout import (
    FORMAT,
    FORMAT_1,
    STANDARD,
    TABLETOP,
    Field,
    action_format,
    check_all,
    concrete,
    declared,
)
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera

Arrays = dict[str, NDArray]
Path_ = str | os.PathLike[str]
SMALL, LARGE = 64 << 10, 1 << 20
"""Bytes of a chunk: episodes of less than SMALL share one, longer ones are cut at LARGE."""
BATCH = 32 << 20
"""Bytes that are read at once where a whole file is gone through."""


class EpisodeStore:
    """Read-only access to an episode file; frames are read when asked for. Works in forked and spawned workers.

    Args:
        path: the file.
    """

    def __init__(self, path: Path_) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise InputError('episode file', 'an existing file', self.path)
        self._opened: tuple[int, h5py.File] | None = None
        try:
            text = self._file.attrs.get('meta')
            try:
                self.meta: dict[str, Any] = _read_meta(json.loads(text), self._file)
            except (TypeError, ValueError, AttributeError) as e:
                raise InputError(f'{self.path}: attribute meta', f'a JSON object with format {FORMAT}', text) from e
            if self._file.attrs.get('meta_checksum', _text_checksum(text)) != _text_checksum(text):
                raise InputError(f'{self.path}: attribute meta', 'text that fits its checksum', 'damaged text')
            self._validate()
        except InputError:
            self.close()
            raise
        except (OSError, KeyError, RuntimeError) as e:
            self.close()
            raise InputError(f'episode file {self.path}', 'a complete HDF5 file of episodes', e) from e

    def _validate(self) -> None:
        if self.meta.get('format') not in (FORMAT, FORMAT_1):
            raise InputError(f'{self.path}: format', FORMAT, self.meta.get('format'))
        self.layout = declared(self.meta, list(self.meta['fields']), self.path)
        self.fields: list[str] = list(self.layout)
        present = [name for name in self.fields if isinstance(self._file.get(name), h5py.Dataset)]
        if present != self.fields or 'frames' not in present:
            raise InputError(f'{self.path}: fields', self.fields if 'frames' in self.fields else 'frames', present)
        self.sizes = check_all(self.layout, {name: self._file[name] for name in self.fields}, self.path)
        self.action_format = action_format(self.meta, self._file.get('actions'), self.path)

    @property
    def _file(self) -> h5py.File:
        """The open file; a process opens its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), h5py.File(self.path, 'r')
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_opened': None}

    def __len__(self) -> int:
        return self.sizes['N']

    @property
    def steps(self) -> int:
        """Frames in each episode, T."""
        return self.sizes['T']

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of a frame (H, W, C)."""
        return self.sizes['H'], self.sizes['W'], self.sizes['C']

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each field's array [N, ...]."""
        return {name: self._file[name].shape for name in self.fields}

    @property
    def camera(self) -> PinholeCamera:
        """The camera that the episodes were seen with, at its native size."""
        return PinholeCamera.from_dict(self.meta.get('camera', {}))

    @property
    def checked(self) -> bool:
        """Whether the file holds checksums."""
        return 'checksums' in self._file

    def read(self, which: slice | int | Sequence[int] | NDArray[np.integer], fields: Sequence[str] | None = None
             ) -> Arrays:
        """Arrays of some episodes.

        Args:
            which: a slice, one index, or indices [B] in any order; negative ones count from the end.
            fields: the fields to read; all of the file's when None.

        Returns:
            Field -> array [B, ...]; see `layout`.
        """
        names = self._names(fields)
        if isinstance(which, slice) and (which.step is None or which.step > 0):
            key: slice | NDArray = which
            order = None
        else:
            wanted = np.arange(len(self))[which] if isinstance(which, slice) else np.atleast_1d(np.asarray(which, int))
            if len(wanted) and not (-len(self) <= wanted.min() and wanted.max() < len(self)):
                raise InputError('episode index', f'{-len(self)} to {len(self) - 1}', wanted.tolist())
            key, order = np.unique(wanted % max(len(self), 1), return_inverse=True)
        out = {k: self._get(k, key) for k in names}
        return out if order is None else {k: v[order] for k, v in out.items()}

    def read_window(self, episode: int, start: int, stop: int, stride: int = 1, fields: Sequence[str] | None = None
                    ) -> Arrays:
        """Part of one episode, without the axis N: every `stride`-th frame of start to stop, and all steps between.

        Fields of frames [t, ...] are taken at the frames, those of steps [(stop - start) - 1, ...] all, others whole.
        """
        if not 0 <= episode < len(self) or not 0 <= start < stop <= self.steps:
            raise InputError(f'{self.path}: window', f'within {len(self)} episodes of {self.steps} frames',
                             (episode, start, stop))
        spans = {'T': slice(start, stop, stride), 'T-1': slice(start, stop - 1)}
        out = {}
        for name in self._names(fields):
            axis = self.layout[name].shape.split()[1:2]
            out[name] = self._get(name, (episode, spans[axis[0]]) if axis and axis[0] in spans else episode)
        return out

    def batches(self, fields: Sequence[str] | None = None) -> Iterator[Arrays]:
        """All episodes in order, some at a time."""
        names = self._names(fields)
        size = sum(self._file[k].dtype.itemsize * int(np.prod(self._file[k].shape[1:], dtype=int)) for k in names)
        step = max(1, BATCH // max(size, 1))
        for start in range(0, len(self), step):
            yield self.read(slice(start, start + step), names)

    def verify(self) -> Iterator[tuple[int, str]]:
        """Go through the whole file and yield (episode, field) wherever it is damaged.

        Files of the first format hold no checksums: of them, only that they can be read is known.
        """
        stored = self._get('checksums', slice(None)) if self.checked else None
        for column, name in enumerate(self.fields):
            for episode in range(len(self)):
                try:
                    actual = checksum(self._get(name, episode))
                except InputError:
                    actual = -1
                if actual < 0 or (stored is not None and actual != stored[episode, column]):
                    yield episode, name

    def _names(self, fields: Sequence[str] | None) -> list[str]:
        names = list(self.fields if fields is None else fields)
        unknown = [k for k in names if k not in self.layout]
        if unknown:
            raise InputError(f'{self.path}: fields', f'some of {self.fields}', unknown)
        return names

    def _get(self, name: str, key: Any) -> NDArray:
        try:
            return np.asarray(self._file[name][key])
        except (OSError, KeyError, RuntimeError, ValueError) as e:
            raise InputError(f'episode file {self.path}: {name}', 'intact data', e) from e

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _read_meta(meta: dict[str, Any], file: h5py.File) -> dict[str, Any]:
    """Metadata as the present format writes it."""
    if meta.get('format') != FORMAT_1:
        return {'fields': {}, **meta}
    known = {**STANDARD, **TABLETOP}
    return {'action_format': 'pick_place_xy', **meta,
            'fields': {k: list(concrete(known[k], file[k])) for k in known if k in file}}


def checksum(values: NDArray) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).data if values.size else b'')


def _text_checksum(text: str) -> int:
    return zlib.crc32(text.encode(errors='surrogateescape'))


class EpisodeWriter:
    """Writes an episode file, some episodes at a time.

    What is appended waits in ``FILE.parts``, every call as a whole file of its own, and is joined when the writer is
    closed: `path` is always complete, and a kill loses nothing that `append` returned from. A writer that is left by an
    exception is not joined either. With `append` true the next writer goes on behind what is there, joined or not.

    Args:
        path: the file.
        meta: JSON-able facts about the data. ``action_format`` names the format of the actions, ``fields`` declares
            fields that are not standard (see `layout`).
        append: continue a file (which must have the same meta) instead of replacing it.
    """

    def __init__(self, path: Path_, meta: Mapping[str, object], append: bool = False) -> None:
        self.path = os.fspath(path)
        self.meta = plain(meta)
        self.parts = parts_folder(self.path)
        self._files: list[Path] = []
        self._layout: dict[str, Field] | None = None
        self._sizes: dict[str, int] = {}
        self._count = 0
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise InputError(f'episode file {self.path}', 'a place that can be written', e) from e
        if append and os.path.exists(self.path):
            self._take(Path(self.path))
        for part in sorted(self.parts.iterdir()):
            try:
                start = int(part.name.partition('-')[0])
                if not append or start != self._count:
                    raise ValueError('made before the file, or not continuous')
                self._take(part)
            except (InputError, ValueError):
                part.unlink()

    def _take(self, file: Path) -> None:
        with EpisodeStore(file) as store:
            if not same_meta(store.meta, self.meta):
                raise InputError(f'{file}: meta', self.meta, store.meta)
            self._layout, self._count = store.layout, self._count + len(store)
            self._sizes = {k: v for k, v in store.sizes.items() if k != 'N'}
        self._files.append(file)

    def __len__(self) -> int:
        return self._count

    @property
    def steps(self) -> int:
        """Frames in each episode, T; 0 before the first one."""
        return self._sizes.get('T', 0)

    def append(self, arrays: Mapping[str, NDArray]) -> None:
        """Add B episodes: field -> array [B, ...], always the same fields."""
        layout = self._layout or declared(self.meta, list(arrays), self.path)
        if set(layout) != set(arrays):
            raise InputError(f'{self.path}: fields', sorted(layout), sorted(arrays))
        sizes = check_all(layout, arrays, self.path, self._sizes)
        part = self.parts / f'{self._count:08d}-{self._count + sizes["N"]:08d}.h5'
        write_part(part, {**self.meta, 'fields': layout}, {k: arrays[k] for k in layout})
        self._layout = layout
        self._sizes = {k: v for k, v in sizes.items() if k != 'N'}
        self._files.append(part)
        self._count += sizes['N']

    def close(self) -> None:
        """Join all that was appended into the file."""
        if self._files:
            join(self._files, self.path)
        shutil.rmtree(self.parts, ignore_errors=True)

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self.close()


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
    file.attrs['meta'], file.attrs['meta_checksum'] = text, _text_checksum(text)


def join(files: Sequence[Path_], out: Path_) -> None:
    """Put episode files one behind the other into the file `out`, which may be one of them; then write its card."""
    from object_centric_ros.datasets.card import write_card

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
    names = []
    for name in [*store.fields, 'checksums']:
        source, target = store._file.get(name), file[name]
        if source is not None and source.chunks == target.chunks and source.chunks[0] == 1 \
                and source.compression == target.compression:
            for i in range(source.id.get_num_chunks()):
                at = source.id.get_chunk_info(i).chunk_offset
                mask, data = source.id.read_direct_chunk(at)
                target.id.write_direct_chunk((at[0] + start, *at[1:]), data, mask)
        elif source is not None and name == 'checksums':
            target[start:start + len(store)] = source[...]
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
        chunks = (max(1, SMALL // max(episode, 64)), *(max(size, 1) for size in shape[1:]))
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
