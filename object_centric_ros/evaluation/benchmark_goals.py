"""Goals of OP3's planning benchmarks: from files, or drawn from a seed as the published ones were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.blocks_goals import read_pick_place_goals
from object_centric_ros.simulation.blocks_pick_place import DROP_Z, SETTLE_S, PickPlaceWorld
from object_centric_ros.simulation.blocks_stage import Block

COLUMNS, ROW, TALLEST = (-2.5, -1.5, -0.5, 0.5, 1.5), 3.0, 3
"""Goal blocks stand on five columns (x) of one row (y), at most three high."""
ASIDE = ((-2.2, 1.5), (2.2, 1.5), (-2.2, 3.5), (2.2, 3.5))
"""Where the blocks are at first (x, y), one by one."""
COLOUR_GAP = 0.3
"""Smallest distance between the colours of two blocks of a scene (L2 of RGB)."""


@dataclass(frozen=True)
class PickPlaceTask:
    """A scene to rearrange.

    Attributes:
        name: of the goal.
        start, goal: the same blocks in the same order.
        goal_image: uint8 [64, 64, 3], all that a planner is given of the goal.
    """

    name: str
    start: tuple[Block, ...]
    goal: tuple[Block, ...]
    goal_image: NDArray[np.uint8]


def tower_task(blocks: int, seed: int, world: PickPlaceWorld) -> PickPlaceTask:
    """A random structure of cubes, and the same cubes aside; in the way the published goals were made.

    Each cube goes onto a random column that is lower than three and no lower than its neighbours; two columns of one
    height with one between them carry a bridge.
    """
    if not 1 <= blocks <= len(ASIDE):
        raise InputError('blocks of a goal', f'1 to {len(ASIDE)}', blocks)
    rng = np.random.default_rng([blocks, seed])
    heights, places = [0] * len(COLUMNS), []
    colours: list[NDArray[np.float64]] = []
    for _ in range(blocks):
        free = [i for i, h in enumerate(heights)
                if h < TALLEST and all(heights[k] <= h for k in (i - 1, i + 1) if 0 <= k < len(heights))]
        column = int(rng.choice(free))
        heights[column] += 1
        for i in range(1, len(heights) - 1):
            if heights[i - 1] == heights[i + 1] == heights[column]:
                heights[i] = heights[column]
        places.append((COLUMNS[column], ROW))
        colour = rng.uniform(size=3)
        while any(np.linalg.norm(colour - c) <= COLOUR_GAP for c in colours):
            colour = rng.uniform(size=3)
        colours.append(colour)
    scenes = []
    for at in (places, ASIDE[:blocks]):
        world.set_blocks([])
        for (x, y), c in zip(at, colours, strict=True):
            world.add_block(Block('cube', (x, y, DROP_Z), (float(c[0]), float(c[1]), float(c[2]))))
            world.settle(SETTLE_S)
        scenes.append((tuple(world.blocks), world.render()))
    return PickPlaceTask(f'{blocks}-{seed}', scenes[1][0], scenes[0][0], scenes[0][1])


def file_tasks(folder: str, blocks: Sequence[int]) -> list[PickPlaceTask]:
    """The goals in all pick-and-place files (.npz) of a folder that have one of these numbers of blocks."""
    files = sorted(Path(folder).glob('*.npz'))
    if not files:
        raise InputError('--goals', 'a folder with goal files (.npz)', folder)
    tasks = [PickPlaceTask(f'{file.stem}-{i}', goal.start, goal.goal, goal.goal_image)
             for file in files for i, goal in enumerate(read_pick_place_goals(file))]
    return [task for task in tasks if len(task.goal) in blocks]
