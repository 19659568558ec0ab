"""Whether a structure was built: the published rules of OP3's benchmarks, and a strict one. Reads the simulator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from object_centric_ros.simulation.blocks_stage import Block

PICK_PLACE_THRESHOLDS = (0.3, 0.2)
"""Of the published pick-and-place rule: as their planner calls it, and its default."""
STACK_THRESHOLD = 0.2


def placed(now: Sequence[Block], goal: Sequence[Block], threshold: float) -> float:
    """The published rule of pick and place: the part of blocks that are near any target.

    Near means mean squared difference of positions + mean squared difference of RGBA below the threshold. Targets are
    not used up, so that two blocks may count for one.
    """
    if not now:
        return 0.0
    return float((_differences(now, goal, 4).min(1) < threshold).mean())


def stacked(now: Sequence[Block], goal: Sequence[Block], threshold: float = STACK_THRESHOLD) -> bool:
    """The published rule of stacking: one block after the other takes the target that fits it best, all below the
    threshold (mean squared difference of positions + that of RGB); targets are used once."""
    left, differences = list(range(len(goal))), _differences(now, goal, 3)
    for row in differences:
        if not left:
            return False
        best = min(left, key=lambda j: row[j])
        if row[best] >= threshold:
            return False
        left.remove(best)
    return not left


def own_places(now: Sequence[Block], goal: Sequence[Block], tolerance: float) -> NDArray[np.bool_]:
    """The strict rule where the i-th block is meant for the i-th target: within `tolerance` on every axis [N]."""
    away = np.abs(_positions(now) - _positions(goal)).max(1)
    return np.asarray(away <= tolerance)


def strictly_built(now: Sequence[Block], goal: Sequence[Block], tolerance: float, colour: float | None = 0.25
                   ) -> float:
    """The strict rule where blocks are chosen by the planner: the part of targets that have a block of their own.

    Each target takes one block within `tolerance` on every axis; the pairing that serves most targets counts.

    Args:
        colour: the block also is of the target's shape, and less than this away in colour (L2 of RGB); None: any block.
    """
    away = np.abs(_positions(now)[None] - _positions(goal)[:, None]).max(-1, initial=0)
    fits = (away <= tolerance).reshape(len(goal), len(now))
    if colour is not None:
        alike = [[b.shape == g.shape and np.linalg.norm(np.subtract(b.rgb, g.rgb)) < colour for b in now] for g in goal]
        fits &= np.array(alike, bool).reshape(len(goal), len(now))
    rows, columns = linear_sum_assignment(fits, maximize=True)
    return float(fits[rows, columns].sum() / len(goal))


def _positions(blocks: Sequence[Block]) -> NDArray[np.float64]:
    return np.array([b.position for b in blocks]).reshape(-1, 3)


def _differences(now: Sequence[Block], goal: Sequence[Block], channels: int) -> NDArray[np.float64]:
    """[N, G]; colours have that many channels (a fourth is always one)."""
    place = np.square(_positions(now)[:, None] - _positions(goal)[None]).mean(-1)
    colours = [np.array([b.rgb for b in blocks]).reshape(-1, 3) for blocks in (now, goal)]
    return np.asarray(place + np.square(colours[0][:, None] - colours[1][None]).sum(-1) / channels)
