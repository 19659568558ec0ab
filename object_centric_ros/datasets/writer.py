"""Writing episode files, some episodes at a time (see `episodes`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from numpy.typing import NDArray

from object_centric_ros.datasets.layout import Field, check_all, declared
from object_centric_ros.datasets.parts import join, parts_folder, plain, same_meta, write_part
from object_centric_ros.datasets.store import EpisodeStore, Path_
from object_centric_ros.errors import InputError


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
