"""Goal files of OP3's planning benchmarks: pictures, labels and the blocks that they show.

The files are NumPy archives, not part of the package; `blocks` is JSON with the true scenes.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.blocks_stage import Block, quaternion


@dataclass(frozen=True)
class StackGoal:
    """A structure to build.

    Attributes:
        images: [2, 64, 64, 3] the blocks in the air, and the structure when they have settled.
        labels: [2, 64, 64] of the images; 0 is the background.
        blocks: what the two images show.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    blocks: tuple[tuple[Block, ...], tuple[Block, ...]]


@dataclass(frozen=True)
class PickPlaceGoal:
    """A scene to rearrange, and an episode of random play that starts from it.

    Attributes:
        frames: [T, 64, 64, 3] the episode.
        actions: [T-1, 6] what was done in it: pick x, y, z and place x, y, z.
        goal_image: [64, 64, 3].
        start, goal: the blocks in frame 0 and in the goal image.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    goal_image: NDArray[np.uint8]
    start: tuple[Block, ...]
    goal: tuple[Block, ...]


def read_stack_goals(path: str | os.PathLike[str]) -> list[StackGoal]:
    """The goals of one structure."""
    arrays, scenes = _read(path, ('images', 'labels'))
    _same_number(path, scenes, arrays)
    return [StackGoal(images, labels, (_stack_blocks(scene, 0, path), _stack_blocks(scene, 1, path)))
            for images, labels, scene in zip(arrays['images'], arrays['labels'], scenes, strict=True)]


def read_pick_place_goals(path: str | os.PathLike[str]) -> list[PickPlaceGoal]:
    """The goals of a pick-and-place file."""
    arrays, scenes = _read(path, ('frames', 'actions', 'goal_images'))
    _same_number(path, scenes, arrays)
    return [PickPlaceGoal(frames, actions, image, _placed_blocks(scene, 'start', path),
                          _placed_blocks(scene, 'goal', path))
            for frames, actions, image, scene in zip(arrays['frames'], arrays['actions'], arrays['goal_images'],
                                                     scenes, strict=True)]


def _read(path: str | os.PathLike[str], names: Sequence[str]) -> tuple[dict[str, NDArray], list[Any]]:
    try:
        with np.load(path) as file:
            missing = [name for name in (*names, 'blocks') if name not in file.files]
            if missing:
                raise InputError(f'{path}: arrays', f'also {missing}', file.files)
            arrays = {name: file[name] for name in names}
            text = file['blocks'].tobytes()
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(str(path), 'a NumPy archive (.npz) with goals', e) from e
    try:
        scenes = json.loads(text)
    except ValueError as e:
        raise InputError(f'{path}: blocks', 'JSON', e) from e
    if not isinstance(scenes, list):
        raise InputError(f'{path}: blocks', 'a list with one scene for each goal', type(scenes).__name__)
    return arrays, scenes


def _same_number(path: object, scenes: list[Any], arrays: Mapping[str, NDArray]) -> None:
    for name, values in arrays.items():
        if len(values) != len(scenes):
            raise InputError(f'{path}: {name}', f'one for each of the {len(scenes)} scenes in blocks', len(values))


def _stack_blocks(scene: Mapping[str, Any], frame: int, path: object) -> tuple[Block, ...]:
    try:
        return tuple(Block(b['shape'], b['position_m'][frame], b['rgb'][frame],
                           quaternion(b['axis_angle'][frame][:3], b['axis_angle'][frame][3])) for b in scene['blocks'])
    except (KeyError, IndexError, TypeError) as e:
        raise InputError(f'{path}: blocks', 'shape, position_m, axis_angle and rgb of each, for two frames', e) from e


def _placed_blocks(scene: Mapping[str, Any], when: str, path: object) -> tuple[Block, ...]:
    try:
        return tuple(Block(b['shape'], b['position_m'], b['rgba'][:3], b['quaternion_wxyz']) for b in scene[when])
    except (KeyError, TypeError) as e:
        raise InputError(f'{path}: blocks', f'{when}: shape, position_m, quaternion_wxyz and rgba of each', e) from e
