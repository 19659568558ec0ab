"""Training episodes as a model takes them, read batch by batch while the run goes on."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.datasets.held_out import GENERATOR_FACTS, told
from object_centric_ros.datasets.sequences import Item, SequenceLoader, Sequences
from object_centric_ros.errors import InputError


class Clips(Dataset[Item]):
    """Windows of some episode files as one set (see `Sequences`), with actions in a model's format.

    An item is asked for by the number of the window and that of its draw. It holds `images` uint8 [T, C, H, W],
    `actions` float32 [T, ...] before each frame where the model takes some, and `arm_frames` like `images` on demand.

    Args:
        paths: the files, whose images have one size.
        length, stride: frames of a window, and every how manieth of the file they are.
        action_format: of the model.
        height: plane (m) on which actions are projected.
        arm: whether items hold `arm_frames`.
        episodes: use only the first so many of all files.
    """

    def __init__(self, paths: Sequence[str], length: int, stride: int = 1, action_format: str = 'none',
                 height: float = 0.0, arm: bool = False, episodes: int | None = None) -> None:
        fields = ('arm_frames',) if arm else ()
        self.parts = [Sequences(path, length, stride, fields=fields, actions=action_format != 'none')
                      for path in paths]
        self.path = ', '.join(os.fspath(p) for p in paths)
        self.action_format, self.height = action_format, height
        left, counts = episodes, []
        for part in self.parts:
            used = len(part.store) if left is None else min(left, len(part.store))
            left = None if left is None else left - used
            counts.append(used * len(part.starts))
        self.ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, window: tuple[int, int]) -> Item:
        number, draw = window
        i = bisect.bisect_right(self.ends, number)
        part = self.parts[i]
        item = part[number - (self.ends[i - 1] if i else 0), draw]
        if 'actions' in item:
            values = item['actions'].numpy()
            after = told(part.store, self.action_format, values[1:], self.height)
            item['actions'] = torch.from_numpy(np.concatenate([np.zeros((1, *after.shape[1:]), np.float32), after]))
        if 'arm_frames' in item:
            item['arm_frames'] = item['arm_frames'].movedim(-1, -3)
        return item


class TrainingFiles:
    """The files that a run learns from.

    Args:
        paths: HDF5 files.
        action_format: of the model.
        height: plane (m) on which actions are projected.
        episodes: use only the first so many of all files.

    Raises:
        InputError: no episodes, images of several sizes, or actions that cannot be turned into what the model takes.
    """

    def __init__(self, paths: Sequence[str], action_format: str, height: float, episodes: int | None = None) -> None:
        self.paths, self.action_format, self.height, self.limit = list(paths), action_format, height, episodes
        self.stores = [EpisodeStore(path) for path in paths]
        for store in self.stores:
            if not len(store):
                raise InputError(store.path, 'at least one episode', 'none')
            if store.image_shape != self.stores[0].image_shape:
                raise InputError(f'{store.path}: frames', f'{self.stores[0].image_shape} as in {paths[0]}',
                                 store.image_shape)
            if action_format != 'none':
                if 'actions' not in store.fields:
                    raise InputError(f'{store.path}: actions', f'what {action_format} can be made of', 'none')
                told(store, action_format, store.read(0, ['actions'])['actions'], height)
        self.has_arm = all('arm_frames' in store.fields for store in self.stores)

    def __len__(self) -> int:
        """Episodes."""
        count = sum(map(len, self.stores))
        return count if self.limit is None else min(count, self.limit)

    def clips(self, length: int, stride: int = 1, arm: bool = False, actions: bool = True) -> Clips:
        """Windows of `length` frames; `arm`: with the arm in view too, where all files have that."""
        return Clips(self.paths, length, stride, self.action_format if actions else 'none', self.height,
                     arm and self.has_arm, self.limit)

    def read(self, count: int, at_once: int = 40) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Frames [B, T, H, W, C] and actions [B, T - 1, ...] of the first `count` episodes, some at a time."""
        for store in self.stores:
            for begin in range(0, min(count, len(store)), at_once):
                arrays = store.read(slice(begin, min(begin + at_once, count)), ['frames', 'actions'])
                yield arrays['frames'], told(store, self.action_format, arrays['actions'], self.height)
            count -= len(store)

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What the files say about their making, one entry each."""
        return [{k: store.meta[k] for k in GENERATOR_FACTS if k in store.meta} | {'episodes': len(store)}
                for store in self.stores]


def endless(loader: SequenceLoader) -> Iterator[Item]:
    """The loader's batches, epoch after epoch."""
    while True:
        yield from loader


def single_images(batch: Item, arm_fraction: float) -> Tensor:
    """The first frames of a batch uint8 [B, C, H, W]; the first part of them with the arm in view."""
    images = batch['images'][:, 0]
    n = round(len(images) * arm_fraction)
    return torch.cat([batch['arm_frames'][:n, 0], images[n:]]) if n and 'arm_frames' in batch else images


def film(batch: Item, rng: np.random.Generator, arm_fraction: float = 0.0, still_fraction: float = 0.0
         ) -> tuple[Tensor, Tensor | None]:
    """Sequences uint8 [B, T, C, H, W] and the actions before each frame [B, T, ...], zeros where there is none.

    With probability `arm_fraction` a frame with the arm in view is put between an action and its result, with
    probability `still_fraction` one frame is seen twice more; before those there is no action.
    """
    frames = list(batch['images'].unbind(1))
    actions = list(batch['actions'].unbind(1)) if 'actions' in batch else None

    def insert(at: int, frame: Tensor, times: int) -> None:
        frames[at:at] = [frame] * times
        if actions is not None:
            actions[at:at] = [torch.zeros_like(actions[0])] * times
    if 'arm_frames' in batch and rng.random() < arm_fraction and len(frames) > 1:
        at = int(rng.integers(0, len(frames) - 1))
        insert(at + 1, batch['arm_frames'][:, at], 1)
    if rng.random() < still_fraction:
        at = int(rng.integers(0, len(frames)))
        insert(at + 1, frames[at], 2)
    return torch.stack(frames, 1), None if actions is None else torch.stack(actions, 1)
