"""Goals for the tabletop: some blocks somewhere else, perhaps one on top of another, always within the arm's reach."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.sampling import clear_places, stack_height, top_blocks
from object_centric_ros.simulation.tabletop_rules import squeezed_yaw

HUE_NAMES = {0: 'red', 30: 'orange', 57: 'yellow', 115: 'green', 180: 'cyan', 222: 'blue', 272: 'purple',
             318: 'magenta'}
LEAST_MOVE = 0.08
"""A block that a goal moves is at least this far from where it was (m)."""


@dataclass(frozen=True)
class GoalSpec:
    """Where every block of a scene should be.

    Attributes:
        positions: block centres [N, 3] (m).
        yaws: block yaws [N] (rad).
        moved: indices of the blocks that change place, in an order in which the arm can move them.
        description: one sentence.
    """

    positions: NDArray[np.float64]
    yaws: NDArray[np.float64]
    moved: list[int]
    description: str


def colour_name(rgb: NDArray[np.float64]) -> str:
    """The name of the hue nearest to a colour [3], RGB in [0, 1]."""
    hue = colorsys.rgb_to_hsv(*(float(c) for c in rgb))[0] * 360
    return HUE_NAMES[min(HUE_NAMES, key=lambda h: abs((hue - h + 180) % 360 - 180))]


def sample_goal(rng: np.random.Generator, positions: NDArray[np.float64], yaws: NDArray[np.float64],
                colours: NDArray[np.float64], n_moved: int, stack: int, workspace: float, half: float) -> GoalSpec:
    """A goal that the arm can reach from the scene `positions` [N, 3] (m), `yaws` [N] (rad) with `n_moved` moves.

    Args:
        rng: source of randomness.
        positions, yaws, colours: the present scene; colours [N, 3] for the description.
        n_moved: number of blocks that change place.
        stack: height of a tower, 2 or 3 blocks, which the last 1 or 2 of the moved ones make on another; 0: none.
        workspace, half: half side of the square of places, and half size of a block (m).
    """
    tops = top_blocks(positions)
    if not 1 <= n_moved <= len(tops):
        raise InputError('number of moved blocks', f'1 to {len(tops)} (blocks with nothing on them)', n_moved)
    if stack not in (0, 2, 3) or stack > min(len(positions), n_moved + 1):
        raise InputError('height of a stack', '0, 2 or 3, at most the number of blocks, with all but one moved',
                         f'{stack} with {len(positions)} blocks, {n_moved} moved')
    moved = [int(i) for i in rng.permutation(tops)[:n_moved]]
    goal, turned, parts = positions.copy(), yaws.copy(), []
    names = [colour_name(c) for c in colours]
    tower = moved[n_moved - max(stack - 1, 0):]
    base = -1
    for i in moved:
        turned[i] = squeezed_yaw(float(yaws[i]), 0.0)
        if i in tower:
            if base < 0:
                others = np.setdiff1d(np.arange(len(positions)), tower)
                bases = [int(others[j]) for j in top_blocks(goal[others])
                         if stack_height(goal, int(others[j]), half) == 1]
                bases = [b for b in bases if all(np.hypot(*(goal[b, :2] - positions[t, :2])) >= LEAST_MOVE
                                                 for t in tower)]
                if not bases:
                    raise InputError('goal with a stack', 'a free block on the table to build on', 'none in this scene')
                base = int(rng.choice([b for b in bases if b not in moved] or bases))
            goal[i] = [*goal[base, :2], goal[base, 2] + 2 * half]
            parts.append(f'the {names[i]} block onto the {names[base]} block')
            base = i
        else:
            goal[i] = [*clear_places(rng, 1, workspace, np.vstack([positions, goal]))[0], half]
            parts.append(f'the {names[i]} block to ({goal[i, 0]:.2f}, {goal[i, 1]:.2f})')
    return GoalSpec(goal, turned, moved, ', '.join(parts))


def goal_errors(goal: GoalSpec, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest error along x, y and z of each moved block [len(goal.moved)] (m)."""
    if positions.shape != goal.positions.shape:
        raise InputError('goal', f'{len(positions)} blocks', len(goal.positions))
    return np.abs(positions - goal.positions)[goal.moved].max(axis=1)
