"""The scenes of OP3's goal files drawn anew, beside the pictures in the files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.blocks_goals import read_pick_place_goals, read_stack_goals
from object_centric_ros.simulation.blocks_pick_place import PickPlaceWorld
from object_centric_ros.simulation.blocks_stack import StackWorld

MAX_ERROR, MIN_IOU = 1.0, 0.98
"""What every picture is asked for."""
SEEN = 3
"""A pixel shows a block where a channel differs from the empty table by more than this (of 255)."""


@dataclass(frozen=True)
class Likeness:
    """How a picture that was drawn anew compares to the one in the file.

    Attributes:
        error: mean absolute difference (of 255).
        iou: of the pixels that show blocks.
        block_iou: of the pixels of each block alone, the lowest; None where the file has no labels.
    """

    error: float
    iou: float
    block_iou: float | None

    @property
    def good(self) -> bool:
        """Whether it is as like as every picture should be."""
        return self.error <= MAX_ERROR and self.iou >= MIN_IOU


def likenesses(path: str | os.PathLike[str]) -> list[Likeness]:
    """All pictures of a goal file: in the air and settled for a structure, start and goal for pick-and-place."""
    return list(_stacked(path) if 'images' in _arrays(path) else _placed(path))


def goal_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The goal files in a folder and in those inside of it."""
    files = [path for path in sorted(Path(folder).rglob('*.npz')) if 'blocks' in _arrays(path)]
    if not files:
        raise InputError(str(folder), 'a folder with goal files (.npz with an array "blocks")', 'none')
    return files


def _arrays(path: str | os.PathLike[str]) -> list[str]:
    try:
        with np.load(path) as file:
            return list(file.files)
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise InputError(str(path), 'a NumPy archive (.npz)', e) from e


def _stacked(path: str | os.PathLike[str]) -> Iterator[Likeness]:
    world = StackWorld()
    for goal in read_stack_goals(path):
        for blocks, image, labels in zip(goal.blocks, goal.images, goal.labels, strict=True):
            world.set_blocks(blocks)
            mine = world.render_labels()
            alone = [_iou(mine == k, labels == k) for k in np.unique(labels[labels > 0])]
            yield Likeness(_error(world.render(), image), _iou(mine > 0, labels > 0), min(alone))


def _placed(path: str | os.PathLike[str]) -> Iterator[Likeness]:
    world = PickPlaceWorld()
    empty = world.render()
    for goal in read_pick_place_goals(path):
        for blocks, image in ((goal.start, goal.frames[0]), (goal.goal, goal.goal_image)):
            world.set_blocks(blocks)
            picture = world.render()
            yield Likeness(_error(picture, image), _iou(_shown(picture, empty), _shown(image, empty)), None)


def _error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def _shown(picture: NDArray[np.uint8], empty: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(picture.astype(int) - empty) > SEEN).any(-1))


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(int((a | b).sum()), 1))
