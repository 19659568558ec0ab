"""Reading episode files (see `episodes`)."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
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
    action_format,
    check_all,
    concrete,
    declared,
)
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera

Arrays = dict[str, NDArray]
Path_ = str | os.PathLike[str]
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
            if self._file.attrs.get('meta_checksum', text_checksum(text)) != text_checksum(text):
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


def text_checksum(text: str) -> int:
    return zlib.crc32(text.encode(errors='surrogateescape'))
