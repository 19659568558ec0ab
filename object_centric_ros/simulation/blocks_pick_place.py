"""Multi-step pick and place (OP3, appendix 6.5.2): a blind hand picks at a point and drops what it got elsewhere.

Lengths in the papers' units; x is right in the picture, y away from the camera, z up from the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.blocks_stage import TIMESTEP, Block, Stage
from object_centric_ros.simulation.blocks_world import BlocksWorld, check_timestep

GENERATOR_VERSION = 1
MAX_BLOCKS = 5
SETTLE_S = 4.0
"""Time for a block to fall and settle (s)."""
REACH = 0.2
"""A pick gets the block whose centre is less than this away on every axis."""
DROP_Z, PICK_Z = 5.0, 0.59
"""Blocks are dropped from the first height; random picks are at the second, within a block on the table."""
WORKSPACE = ((-2.5, 2.5), (1.0, 4.0))
"""Where random picks and places are: x, y."""
PICK_NOISE = 0.1
"""Largest offset of a pick from a block's centre, on every axis."""

STAGE = Stage(
    scale=0.6, contact='condim="3" friction="1 1 1" solimp="0.998 0.998 0.001" solref="0.02 1"', drawn=64, size=64,
    upside_down=False, shadows=False,
    surroundings='<geom type="plane" size="20 10 0.1" material="floor"/>',
    decor='<camera pos="0 -3 4.5" euler="1.0471976 0 0" fovy="55"/>')

FIELDS = {
    'frames': '[T, 64, 64, 3] RGB',
    'actions': '[T-1, 4] pick x, y and place x, y (units of the paper)',
    'pick_place': '[T-1, 6] pick x, y, z and place x, y, z, the actions as executed',
    'success': '[T-1] whether the pick got a block',
    'labels': '[T, 64, 64] 0 table, i+1 block i',
    'positions': '[T, K, 3] block centres, NaN where there is no block',
    'quaternions': '[T, K, 4] block rotations (w, x, y, z), NaN where there is no block',
    'colours': '[K, 3] RGB in [0, 1]',
    'n_blocks': '[] blocks on the table',
}
PRESETS: dict[str, dict[str, Any]] = {'paper': {}, 'released': {'steps': 21}}


@dataclass(frozen=True)
class PickPlaceConfig:
    """What is in the episodes.

    Attributes:
        steps: frames in an episode.
        min_blocks, max_blocks: blocks on the table, drawn uniformly; K is the second.
        to_anywhere, to_block: shares of the actions that pick a block and place it anywhere, or on another block; the
            others pick and place anywhere.
        timestep: of the physics (s); twice the released one needs half the time and is a little less exact.
    """

    steps: int = 5
    min_blocks: int = 2
    max_blocks: int = 2
    to_anywhere: float = 0.3
    to_block: float = 0.4
    timestep: float = TIMESTEP

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise InputError('blocks_pick_place: steps', 'at least 2', self.steps)
        if not 1 <= self.min_blocks <= self.max_blocks <= MAX_BLOCKS:
            raise InputError('blocks_pick_place: blocks', f'1 <= min <= max <= {MAX_BLOCKS}',
                             (self.min_blocks, self.max_blocks))
        if min(self.to_anywhere, self.to_block) < 0 or self.to_anywhere + self.to_block > 1:
            raise InputError('blocks_pick_place: to_anywhere and to_block', 'shares that sum to at most 1',
                             (self.to_anywhere, self.to_block))
        check_timestep(self.timestep)


class PickPlaceWorld(BlocksWorld):
    """Cubes on a table; starts empty.

    Args:
        timestep: of the physics (s).
    """

    def __init__(self, timestep: float = TIMESTEP) -> None:
        super().__init__(STAGE, timestep)

    def reset(self, seed: int | Sequence[int] | np.random.Generator, n_blocks: int = 2) -> None:
        """A random scene: cubes of any colour, dropped one after the other."""
        if not 1 <= n_blocks <= MAX_BLOCKS:
            raise InputError('number of blocks', f'1 to {MAX_BLOCKS}', n_blocks)
        rng = np.random.default_rng(seed)
        self.set_blocks([])
        for _ in range(n_blocks):
            x, y = (rng.uniform(*bounds) for bounds in WORKSPACE)
            r, g, b = rng.uniform(size=3)
            self.add_block(Block('cube', (x, y, DROP_Z), (r, g, b)))
            self.settle(SETTLE_S)

    def picked(self, pick: ArrayLike) -> int | None:
        """Index of the block that a pick at `pick` [3] gets, or None."""
        away = np.abs(self.positions() - _point('pick', pick)).max(1, initial=0)
        near = np.flatnonzero(away < REACH)
        return int(near[0]) if len(near) else None

    def pick_place(self, pick: ArrayLike, place: ArrayLike) -> int | None:
        """Pick at a point, drop what it got over another one, and let all settle for 4 s.

        Args:
            pick: x, y, z, or x, y for the height of a block on the table.
            place: x, y, z, or x, y; blocks are dropped upright from `DROP_Z` whatever z is.

        Returns:
            Index of the block that was moved, or None.
        """
        place = _point('place', place)
        block = self.picked(pick)
        if block is not None:
            self._data.qpos[7 * block:7 * block + 7] = [*place[:2], DROP_Z, 1, 0, 0, 0]
            self._data.qvel[6 * block:6 * block + 6] = 0
        self.settle(SETTLE_S)
        return block

    def step(self, action: ArrayLike) -> int | None:
        """`pick_place` with one vector: pick and place, [4] without heights or [6] with them."""
        values = np.asarray(action, float)
        if values.shape not in ((4,), (6,)):
            raise InputError('action', '4 or 6 numbers: pick and place', values.shape)
        half = len(values) // 2
        return self.pick_place(values[:half], values[half:])

    def sample_action(self, rng: np.random.Generator, to_anywhere: float = 0.3, to_block: float = 0.4
                      ) -> NDArray[np.float64]:
        """One random action [6]: pick x, y, z and place x, y, z.

        Args:
            rng: the episode's generator.
            to_anywhere, to_block: shares, see `PickPlaceConfig`; with one block there is no other to place it on.
        """
        positions, kind = self.positions(), rng.random()
        pick = np.array([*(rng.uniform(*bounds) for bounds in WORKSPACE), PICK_Z])
        place = np.array([*(rng.uniform(*bounds) for bounds in WORKSPACE), DROP_Z])
        if kind < to_anywhere + to_block:
            block = int(rng.integers(len(positions)))
            pick = positions[block]
            others = np.delete(positions, block, 0)
            if kind >= to_anywhere and len(others):
                place[:2] = others[int(rng.integers(len(others))), :2]
        return np.concatenate([pick + rng.uniform(-PICK_NOISE, PICK_NOISE, 3), place])


def _point(name: str, values: ArrayLike) -> NDArray[np.float64]:
    point = np.asarray(values, float)
    if point.shape not in ((2,), (3,)) or not np.isfinite(point).all():
        raise InputError(f'{name} point', '2 or 3 finite numbers', values)
    return np.append(point, PICK_Z) if len(point) == 2 else point


def make_batch(config: PickPlaceConfig, seeds: Sequence[Sequence[int]]) -> dict[str, NDArray]:
    """Episodes with these seeds: field -> array [N, ...]; see `FIELDS`."""
    world = PickPlaceWorld(config.timestep)
    episodes = [_episode(world, config, np.random.default_rng(seed)) for seed in seeds]
    return {k: np.stack([e[k] for e in episodes]) for k in episodes[0]}


def _episode(world: PickPlaceWorld, config: PickPlaceConfig, rng: np.random.Generator) -> dict[str, NDArray]:
    n, steps, most = int(rng.integers(config.min_blocks, config.max_blocks + 1)), config.steps, config.max_blocks
    episode: dict[str, NDArray] = {
        'frames': np.empty((steps, STAGE.size, STAGE.size, 3), np.uint8),
        'labels': np.empty((steps, STAGE.size, STAGE.size), np.uint8),
        'positions': np.full((steps, most, 3), np.nan, np.float32),
        'quaternions': np.full((steps, most, 4), np.nan, np.float32),
        'pick_place': np.empty((steps - 1, 6), np.float32), 'success': np.empty(steps - 1, bool),
        'colours': np.zeros((most, 3), np.float32), 'n_blocks': np.array(n, np.uint8),
    }
    world.reset(rng, n)
    for t in range(steps):
        if t:
            action = episode['pick_place'][t - 1] = world.sample_action(rng, config.to_anywhere, config.to_block)
            episode['success'][t - 1] = world.step(action) is not None
        blocks = world.blocks
        episode['frames'][t], episode['labels'][t] = world.render(), world.render_labels()
        episode['positions'][t, :n] = [b.position for b in blocks]
        episode['quaternions'][t, :n] = [b.quaternion for b in blocks]
    episode['colours'][:n] = [b.rgb for b in blocks]
    episode['actions'] = episode['pick_place'][:, [0, 1, 3, 4]]
    return episode


def meta(config: PickPlaceConfig) -> dict[str, Any]:
    """Facts for the episode file."""
    return {'generator': 'blocks_pick_place', 'generator_version': GENERATOR_VERSION,
            'action_format': 'pick_place_xy'}
