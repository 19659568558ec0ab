"""Episodes as tensors: frames in memory as uint8, batches as float32 images and normalised actions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from object_centric_ros.actions import pick_place_vector
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.errors import InputError


def as_image(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3))).float().div_(255)


class Episodes:
    """The episodes of a file, held in memory.

    Args:
        path: HDF5 file.
        height: plane (m) on which actions are projected.
        limit: use only the first so many episodes.
        action_format: of the model (see `models.cycle.ACTION_FORMATS`).
    """

    def __init__(self, path: str, height: float, limit: int | None = None, action_format: str = 'pick_place_uv'
                 ) -> None:
        self.store = EpisodeStore(path)
        if len(self.store) == 0:
            raise InputError(f'{path}', 'at least one episode', 'none')
        self.camera = self.store.camera
        wanted = [f for f in ('frames', 'actions', 'arm_frames', 'labels') if f in self.store.fields]
        self.arrays = self.store.read(slice(0, limit), wanted)
        self.frames = self.arrays['frames']
        actions = pick_place_vector(action_format, self.camera, self.arrays['actions'], height)
        self.actions = np.zeros((*self.frames.shape[:1], self.frames.shape[1] - 1, 0), np.float32) \
            if actions is None else actions
        self.arm_frames = self.arrays.get('arm_frames')

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
        start = int(rng.integers(0, self.frames.shape[1] - t + 1))
        frames = [self.frames[episode, start + i] for i in range(t)]
        nothing = np.zeros((batch, self.actions.shape[-1]), np.float32)
        actions = [nothing] + [self.actions[episode, start + i] for i in range(t - 1)]
        if self.arm_frames is not None and rng.random() < arm_fraction and t > 1:
            at = int(rng.integers(0, t - 1))
            frames.insert(at + 1, self.arm_frames[episode, start + at])
            actions.insert(at + 1, nothing)
        if rng.random() < still_fraction:
            at = int(rng.integers(0, len(frames)))
            frames[at + 1:at + 1] = [frames[at]] * 2
            actions[at + 1:at + 1] = [nothing] * 2
        return as_image(np.stack(frames, 1)), torch.from_numpy(np.stack(actions, 1))
