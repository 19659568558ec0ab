"""What a loader of a foreign format gives: facts about the data and one episode after the other."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.datasets.episodes import Arrays, EpisodeWriter, stack
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import model_image


@dataclass
class Source:
    """Episodes of a foreign format.

    Attributes:
        meta: for the episode file (see `episodes.EpisodeWriter`).
        episodes: field -> array without the axis N, one episode after the other; reads while it is gone through.
        notes: what people should know about the data, such as gaps; complete when `episodes` has been gone through.
    """

    meta: dict[str, Any]
    episodes: Iterator[Arrays]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class View:
    """What part of the images is kept.

    Attributes:
        crop: left, top, width and height (pixels) of the part that is kept; None for all of the image.
        size: side (pixels) to which the centre square of that part is scaled, as models see it; None for no scaling.
    """

    crop: tuple[int, int, int, int] | None = None
    size: int | None = None

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image [H, W, 1 or 3] cropped and scaled."""
        image = self._cropped(image)
        if self.size is None:
            return np.ascontiguousarray(image)
        return model_image(np.broadcast_to(image, (*image.shape[:2], 3)), self.size)[..., :image.shape[2]]

    def labels(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels [H, W] of the same pixels; a scaled pixel has the label at its middle."""
        labels = self._cropped(labels)
        if self.size is None:
            return np.ascontiguousarray(labels)
        side = min(labels.shape)
        top, left = (labels.shape[0] - side) // 2, (labels.shape[1] - side) // 2
        square = np.ascontiguousarray(labels[top:top + side, left:left + side])
        return np.asarray(cv2.resize(square, (self.size, self.size), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)

    def _cropped(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.crop is None:
            return image
        left, top, width, height = self.crop
        if left < 0 or top < 0 or min(width, height) < 1 or top + height > len(image) or left + width > image.shape[1]:
            raise InputError('crop', f'left, top, width, height within {image.shape[1]}x{image.shape[0]} pixels',
                             self.crop)
        return image[top:top + height, left:left + width]


def together(sources: Sequence[Source]) -> Source:
    """Several sources as one, one behind the other; of their metadata only ``source`` may differ.

    Raises:
        InputError: other metadata, such as other joints or another camera; it names the source and what differs.
    """
    if len(sources) == 1:
        return sources[0]
    first, names = sources[0].meta, [source.meta['source'] for source in sources]
    for source in sources[1:]:
        for key in sorted({*first, *source.meta} - {'source'}):
            if first.get(key) != source.meta.get(key):
                raise InputError(f'{source.meta["source"]}: {key}', f'{first.get(key)!r} as in {names[0]}',
                                 source.meta.get(key))
    notes: list[str] = []

    def episodes() -> Iterator[Arrays]:
        for name, source in zip(names, sources, strict=True):
            try:
                yield from source.episodes
            finally:
                notes.extend(f'{name}: {note}' for note in source.notes)

    return Source({**first, 'source': names}, episodes(), notes)


def windows(frames: int, steps: int | None) -> list[range]:
    """Parts of `steps` frames that a recording of so many frames is cut into; all of it when `steps` is None."""
    length = steps or frames
    return [range(start, start + length) for start in range(0, frames - length + 1, length)]


def save(source: Source, out: str | os.PathLike[str], limit: int | None = None, at_once: int = 16) -> int:
    """Write the first `limit` episodes of a source (all when None) as an episode file; returns how many there were."""
    where = source.meta.get('source', out)
    writer = EpisodeWriter(out, source.meta)
    try:
        episodes = itertools.islice(source.episodes, limit)
        while batch := list(itertools.islice(episodes, at_once)):
            lengths = {len(episode['frames']) for episode in batch} | ({writer.steps} if len(writer) else set())
            if len(lengths) > 1:
                raise InputError(f'{where}: frames in each episode', 'the same number, or one to cut them into (steps)',
                                 sorted(lengths))
            writer.append(stack(batch))
        if not len(writer):
            raise InputError(f'{where}', 'an episode', '; '.join(source.notes) or 'none')
        writer.close()
    finally:
        shutil.rmtree(writer.parts, ignore_errors=True)
    return len(writer)


def found(paths: Sequence[Path], what: str, where: Path) -> list[Path]:
    """The paths, sorted; InputError if there are none."""
    if not paths:
        raise InputError(str(where), what, 'none')
    return sorted(paths)
