"""Episodes as tensors: frames in memory as uint8, batches as float32 images and normalised actions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.actions import pick_place_vector
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.errors import InputError


def as_image(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, C] -> float32 [..., 3, H, W] in [0, 1]; gray images (C = 1) become three equal channels."""
    image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3))).float().div_(255)
    return image.expand(*image.shape[:-3], 3, *image.shape[-2:])


class Episodes:
    """The episodes of a file, held in memory.

    Args:
        path: HDF5 file.
        height: plane (m) on which actions are projected.
        limit: use only the first so many episodes.
        action_format: of the model (see `models.cycle.ACTION_FORMATS`).

    Raises:
        InputError: no episodes, or actions that cannot be turned into what the model takes.
    """

    def __init__(self, path: str, height: float, limit: int | None = None, action_format: str = 'pick_place_uv'
                 ) -> None:
        self.store = EpisodeStore(path)
        if len(self.store) == 0:
            raise InputError(f'{path}', 'at least one episode', 'none')
        self.camera = self.store.camera if 'camera' in self.store.meta else None
        wanted = [f for f in ('frames', 'actions', 'arm_frames', 'labels') if f in self.store.fields]
        self.arrays = self.store.read(slice(0, limit), wanted)
        self.frames = self.arrays['frames']
        self.arm_frames = self.arrays.get('arm_frames')
        self.height, self.action_format = height, action_format
        self.actions(slice(0, 1))

    def actions(self, which: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        """Actions of some episodes [B, T - 1, ...] in the model's format, row t between frames t and t + 1."""
        wanted, stored = self.action_format, self.store.action_format
        values = self.arrays.get('actions')
        if wanted == 'none' or values is None:
            if wanted != 'none':
                raise InputError(f'{self.store.path}: actions', f'what {wanted} can be made of', 'none')
            episodes = len(self.frames[which])
            return np.zeros((episodes, self.frames.shape[1] - 1, 0), np.float32)
        values = values[which]
        if stored == 'pick_place_xy' and wanted == 'pick_place_uv' and self.camera is not None:
            values = pick_place_vector(wanted, self.camera, values, self.height)
        elif stored == 'sparse_field' and wanted == 'field':
            values = dense_field(values, *self.frames.shape[2:4])
        elif stored != wanted:
            raise InputError(f'{self.store.path}: actions', f'what {wanted} can be made of', stored)
        return np.asarray(values, np.float32)

    def __len__(self) -> int:
        return len(self.frames)

    def images(self, rng: np.random.Generator, batch: int, arm_fraction: float) -> Tensor:
        """Single images [batch, 3, H, W], drawn at random; part of them with the arm in view."""
        episode, time = rng.integers(0, len(self), batch), rng.integers(0, self.frames.shape[1], batch)
        frames = self.frames[episode, time]
        n = round(batch * arm_fraction)
        if self.arm_frames is not None and n:
            frames[:n] = self.arm_frames[episode[:n], time[:n]]
        return as_image(frames)

    def sequences(self, rng: np.random.Generator, batch: int, horizon: int, arm_fraction: float,
                  still_fraction: float = 0.0) -> tuple[Tensor, Tensor]:
        """Sequences [batch, T, 3, H, W] and the actions before each frame [batch, T, A]; zeros where there is none.

        With probability `arm_fraction` a frame with the arm in view is put between an action and its result, with
        probability `still_fraction` one frame is seen twice more; before those there is no action.
        """
        t = min(horizon, self.frames.shape[1])
        episode = rng.integers(0, len(self), batch)
        told = self.actions(episode)
        start = int(rng.integers(0, self.frames.shape[1] - t + 1))
        frames = [self.frames[episode, start + i] for i in range(t)]
        nothing = np.zeros((batch, *told.shape[2:]), np.float32)
        actions = [nothing] + [told[:, start + i] for i in range(t - 1)]
        if self.arm_frames is not None and rng.random() < arm_fraction and t > 1:
            at = int(rng.integers(0, t - 1))
            frames.insert(at + 1, self.arm_frames[episode, start + at])
            actions.insert(at + 1, nothing)
        if rng.random() < still_fraction:
            at = int(rng.integers(0, len(frames)))
            frames[at + 1:at + 1] = [frames[at]] * 2
            actions[at + 1:at + 1] = [nothing] * 2
        return as_image(np.stack(frames, 1)), torch.from_numpy(np.stack(actions, 1))


def dense_field(sparse: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """Action fields from the pixels where they are not zero: [..., n, 4] (u, v, x, y) -> [..., 2, height, width]."""
    field = np.zeros((*sparse.shape[:-2], 2, height, width), np.float32)
    u, v = (np.clip(np.floor(sparse[..., i]).astype(int), 0, size - 1) for i, size in ((0, width), (1, height)))
    where = np.indices(u.shape)[:-1]
    for axis in (0, 1):
        np.add.at(field, (*where, axis, v, u), sparse[..., 2 + axis])
    return field
