"""Episodes on disk: one HDF5 file of image sequences with the actions between the images.

Layout, N episodes of T frames each (S is the frame size, 64): see `FIELDS`. The file's attribute ``meta`` is a JSON
object with the generator, its version and seed, the camera (`PinholeCamera.to_dict`) and the block half size (m).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera

FORMAT = 'object_centric_ros/episodes/1'
FIELDS: dict[str, tuple[str, str]] = {
    'frames': ('uint8', 'N T S S 3'),
    'actions': ('float32', 'N T-1 4'),
    'labels': ('uint8', 'N T S S'),
    'arm_frames': ('uint8', 'N T S S 3'),
    'arm_labels': ('uint8', 'N T S S'),
    'positions': ('float32', 'N T 5 3'),
    'n_blocks': ('uint8', 'N'),
    'success': ('bool', 'N T-1'),
}
"""Field -> (dtype, shape). `frames` and `actions` are required, the rest optional. Actions are pick xy and place xy in
work_plane (m); frames RGB with the arm at home; labels 0 table, 1..N block, 255 arm; arm_* the same states with the arm
over the table; positions block centres (m), NaN where there is no block; success whether a block was held from pick to
place."""
REQUIRED = ('frames', 'actions')


def _check(name: str, shape: Sequence[int], dtype: object, sizes: dict[str, int], where: str) -> None:
    """One field against the layout; `sizes` collects N, T and S from the fields seen so far."""
    want_type, layout = FIELDS[name]
    if np.dtype(dtype) != np.dtype(want_type):  # type: ignore[call-overload]
        raise InputError(f'{where}: {name}', want_type, dtype)
    symbols = layout.split()
    if len(shape) == len(symbols):
        for symbol, size in zip(symbols, shape, strict=True):
            sizes.setdefault(symbol, int(size)) if symbol.isalpha() else None
    sizes.setdefault('T-1', sizes.get('T', 1) - 1)
    expected = [sizes.get(s, -1) if not s.isdigit() else int(s) for s in symbols]
    if list(shape) != expected:
        raise InputError(f'{where}: shape of {name}', f'[{layout.replace(" ", ", ")}] = {expected}', list(shape))


class EpisodeStore:
    """Read-only access to an episode file; frames are read when asked for.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise InputError('episode file', 'an existing file', self.path)
        try:
            self._file = h5py.File(self.path, 'r')
            meta = self._file.attrs.get('meta')
            self.fields: list[str] = [k for k in FIELDS if k in self._file]
            self._data: dict[str, h5py.Dataset] = {k: self._file[k] for k in self.fields}
        except (OSError, KeyError, RuntimeError) as e:
            raise InputError(f'episode file {self.path}', 'a complete HDF5 file of episodes', e) from e
        try:
            self.meta: dict = json.loads(meta)
        except (TypeError, ValueError) as e:
            self._file.close()
            raise InputError(f'{self.path}: attribute meta', f'a JSON object with format {FORMAT}', meta) from e
        try:
            self._validate()
        except InputError:
            self._file.close()
            raise

    def _validate(self) -> None:
        found = self.meta.get('format') if isinstance(self.meta, dict) else self.meta
        if found != FORMAT:
            raise InputError(f'{self.path}: format', FORMAT, found)
        missing = [k for k in REQUIRED if k not in self.fields]
        if missing:
            raise InputError(f'{self.path}: fields', ', '.join(REQUIRED), self.fields)
        sizes: dict[str, int] = {}
        for name, data in self._data.items():
            _check(name, data.shape, data.dtype, sizes, self.path)
        self._sizes = sizes

    def __len__(self) -> int:
        return self._sizes['N']

    @property
    def steps(self) -> int:
        """Frames in each episode, T."""
        return self._sizes['T']

    @property
    def frame_size(self) -> int:
        """Side of a frame, S (pixels)."""
        return self._sizes['S']

    @property
    def camera(self) -> PinholeCamera:
        """The camera that the episodes were seen with, at its native size."""
        return PinholeCamera.from_dict(self.meta.get('camera', {}))

    def read(self, which: slice | int | Sequence[int] | NDArray[np.integer],
             fields: Sequence[str] | None = None) -> dict[str, NDArray]:
        """Arrays of some episodes.

        Args:
            which: a slice, one index, or indices [B] in any order; negative ones count from the end.
            fields: the fields to read; all of the file's when None.

        Returns:
            Field -> array [B, ...]; see `FIELDS`.
        """
        names = list(self.fields if fields is None else fields)
        unknown = [k for k in names if k not in self._data]
        if unknown:
            raise InputError(f'{self.path}: fields', f'some of {self.fields}', unknown)
        if isinstance(which, slice) and (which.step is None or which.step > 0):
            key: slice | NDArray = which
            order = None
        else:
            wanted = np.arange(len(self))[which] if isinstance(which, slice) else np.atleast_1d(np.asarray(which, int))
            if len(wanted) and not (-len(self) <= wanted.min() and wanted.max() < len(self)):
                raise InputError('episode index', f'{-len(self)} to {len(self) - 1}', wanted.tolist())
            key, order = np.unique(wanted % max(len(self), 1), return_inverse=True)
        try:
            out = {k: self._data[k][key] for k in names}
        except OSError as e:
            raise InputError(f'episode file {self.path}', 'intact data', e) from e
        return out if order is None else {k: v[order] for k, v in out.items()}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class EpisodeWriter:
    """Writes an episode file, some episodes at a time; an existing file is continued when `append` is true.

    Args:
        path: the file.
        meta: JSON-able facts about the data; the format's name is added.
        append: continue an existing file (which must have the same meta) instead of replacing it.
    """

    def __init__(self, path: str | os.PathLike[str], meta: Mapping[str, object], append: bool = False) -> None:
        self.path = os.fspath(path)
        self.meta = {**meta, 'format': FORMAT}
        self._sizes: dict[str, int] = {}
        self._count = 0
        if append and os.path.exists(self.path):
            with EpisodeStore(self.path) as store:
                if store.meta != json.loads(json.dumps(self.meta)):
                    raise InputError(f'{self.path}: meta', self.meta, store.meta)
                self._sizes, self._count = dict(store._sizes), len(store)
        try:
            self._file = h5py.File(self.path, 'r+' if self._count else 'w')
        except OSError as e:
            raise InputError(f'episode file {self.path}', 'a place that can be written', e) from e
        self._file.attrs['meta'] = json.dumps(self.meta, sort_keys=True)

    def __len__(self) -> int:
        return self._count

    def append(self, arrays: Mapping[str, NDArray]) -> None:
        """Add B episodes: field -> array [B, ...], always the same fields; see `FIELDS`."""
        present = set(self._file) if self._count else set(arrays)
        if set(arrays) != present or not set(REQUIRED) <= present or not present <= set(FIELDS):
            raise InputError(f'{self.path}: fields', sorted(present & set(FIELDS) | set(REQUIRED)), sorted(arrays))
        added = len(arrays['frames'])
        sizes = {**self._sizes, 'N': added}
        for name in [k for k in FIELDS if k in arrays]:
            _check(name, arrays[name].shape, arrays[name].dtype, sizes, self.path)
        self._sizes = sizes
        for name, values in arrays.items():
            if name not in self._file:
                self._file.create_dataset(
                    name, shape=(0, *values.shape[1:]), maxshape=(None, *values.shape[1:]), dtype=values.dtype,
                    chunks=(1, *values.shape[1:]) if values.ndim > 3 else True,
                    compression='lzf' if values.ndim > 3 else None)
            data = self._file[name]
            data.resize(self._count + added, axis=0)
            data[self._count:] = values
        self._count += added

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
