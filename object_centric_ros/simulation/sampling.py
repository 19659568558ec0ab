"""Random scenes and random interactions for training data: what a robot that plays with blocks would do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

CLEARANCE = 0.09
"""Least distance between the centres of two blocks that stand side by side (m)."""


def clear_places(rng: np.random.Generator, n: int, workspace: float, taken: NDArray[np.float64] | None = None,
                 clearance: float = CLEARANCE) -> NDArray[np.float64]:
    """Draw `n` places [n, 2] (m) in the square |x|, |y| <= `workspace`, clear of each other and of `taken` [M, 2]."""
    fixed = np.zeros((0, 2)) if taken is None else np.asarray(taken, float)[:, :2]
    for _ in range(500):
        places = fixed
        for _ in range(200):
            if len(places) == len(fixed) + n:
                return places[len(fixed):]
            xy = rng.uniform(-workspace, workspace, 2)
            if (np.hypot(*(places - xy).T) >= clearance).all():
                places = np.vstack([places, xy])
    raise InputError('places for blocks', f'room for {n} more', f'{len(fixed)} taken, {clearance} m apart')


def top_blocks(positions: NDArray[np.float64], radius: float = 0.04) -> list[int]:
    """Indices of the blocks with nothing on top of them; `positions` [N, 3] (m)."""
    return [i for i, p in enumerate(positions)
            if not any(np.hypot(*(q[:2] - p[:2])) < radius and q[2] > p[2] + 0.02 for q in positions)]


def stack_height(positions: NDArray[np.float64], block: int, half: float) -> int:
    """Level of a block: 1 on the table, 2 on another block, and so on."""
    return round(float(positions[block, 2] + half) / (2 * half))


def sample_action(rng: np.random.Generator, positions: NDArray[np.float64], workspace: float, half: float,
                  max_stack: int = 3, pick_noise: float = 0.005) -> NDArray[np.float64]:
    """One random action [4]: pick xy and place xy (m).

    30 % go from anywhere to anywhere (mostly a miss), 40 % put a block onto another, 30 % put a block somewhere random:
    nine times in ten clear of the others or squarely on one, else anywhere.

    Args:
        rng: the episode's generator.
        positions: block centres [N, 3] (m).
        workspace: half side of the square of places (m); `half`: half size of a block (m).
        max_stack: no stack is built higher than this many blocks on purpose.
        pick_noise: standard deviation of the pick around a block's centre (m).
    """
    kind = rng.random()
    tops = top_blocks(positions)
    if kind < 0.3 or not tops:
        return _inside(rng.uniform(-workspace, workspace, 4), workspace)
    mover = int(rng.choice(tops))
    pick = positions[mover, :2] + np.clip(rng.normal(0, pick_noise, 2), -0.012, 0.012)
    others = np.delete(positions, mover, 0)
    bases = [i for i in top_blocks(others) if stack_height(others, i, half) < max_stack]
    sloppy = kind >= 0.7 and rng.random() < 0.1
    if sloppy:
        place = rng.uniform(-workspace, workspace, 2)
    elif bases and (kind < 0.7 or rng.random() < 0.25):
        place = others[int(rng.choice(bases)), :2] + np.clip(rng.normal(0, 0.004, 2), -0.01, 0.01)
    else:
        place = clear_places(rng, 1, workspace, others)[0]
    return _inside(np.concatenate([pick, place]), workspace)


def _inside(action: NDArray[np.float64], workspace: float) -> NDArray[np.float64]:
    return np.clip(action, -workspace - 0.02, workspace + 0.02)
