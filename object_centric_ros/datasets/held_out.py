"""Episodes as a model takes them, held-out ones in memory; images and actions of a file in a model's format."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.actions import pick_place_vector
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.errors import InputError

GENERATOR_FACTS = ('generator', 'generator_version', 'seed', 'format')


def as_image(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, C] -> float32 [..., 3, H, W] in [0, 1]; gray images (C = 1) become three equal channels."""
    return as_colour(torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3))))


def as_colour(frames: Tensor) -> Tensor:
    """uint8 [..., C, H, W] -> float32 [..., 3, H, W] in [0, 1] on the same device; gray becomes three channels."""
    image = frames.float().div_(255)
    return image.expand(*image.shape[:-3], 3, *image.shape[-2:])


def told(store: EpisodeStore, wanted: str, values: NDArray, height: float) -> NDArray[np.float32]:
    """Actions [..., A] of a file in the format that a model takes.

    Args:
        store: where they are from.
        wanted: a format of `models.cycle.ACTION_FORMATS` other than none.
        values: as they are stored.
        height: plane (m) on which pick and place points are projected into the image.

    Raises:
        InputError: they cannot be turned into it.
    """
    stored = store.action_format
    if stored == 'pick_place_xy' and wanted == 'pick_place_uv' and 'camera' in store.meta:
        return np.asarray(pick_place_vector(wanted, store.camera, values, height), np.float32)
    if stored == 'sparse_field' and wanted == 'field':
        return dense_field(values, *store.image_shape[:2])
    if stored != wanted:
        raise InputError(f'{store.path}: actions', f'what {wanted} can be made of', stored)
    return np.asarray(values, np.float32)


def dense_field(sparse: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """Action fields from the pixels where they are not zero: [..., n, 4] (u, v, x, y) -> [..., 2, height, width]."""
    field = np.zeros((*sparse.shape[:-2], 2, height, width), np.float32)
    u, v = (np.clip(np.floor(sparse[..., i]).astype(int), 0, size - 1) for i, size in ((0, width), (1, height)))
    where = np.indices(u.shape)[:-1]
    for axis in (0, 1):
        np.add.at(field, (*where, axis, v, u), sparse[..., 2 + axis])
    return field


class Episodes:
    """Held-out episodes of a file, in memory.

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
        wanted = [f for f in ('frames', 'actions', 'labels') if f in self.store.fields]
        self.arrays = self.store.read(slice(0, limit), wanted)
        self.frames = self.arrays['frames']
        self.height, self.action_format = height, action_format
        self.actions(slice(0, 1))

    def actions(self, which: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        """Actions of some episodes [B, T - 1, ...] in the model's format, row t between frames t and t + 1."""
        values = self.arrays.get('actions')
        if self.action_format == 'none':
            return np.zeros((len(self.frames[which]), self.frames.shape[1] - 1, 0), np.float32)
        if values is None:
            raise InputError(f'{self.store.path}: actions', f'what {self.action_format} can be made of', 'none')
        return told(self.store, self.action_format, values[which], self.height)

    def __len__(self) -> int:
        return len(self.frames)
