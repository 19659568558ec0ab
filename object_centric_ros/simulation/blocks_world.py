"""Blocks on a stage: what the stacking and the pick-and-place world share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import sqrt

import mujoco
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.blocks_stage import TIMESTEP, Block, Stage, physics_model, poses, run
from object_centric_ros.simulation.blocks_view import MAX_DRAWN, BlocksView, view_of

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
KEPT = 512
"""MuJoCo data that a world keeps, one for each sequence of shapes: making one takes as long as a picture."""


class BlocksWorld:
    """Blocks that move by physics; starts empty. Block positions are ground truth: for evaluation, not for perception.

    Args:
        stage: where the blocks are.
        timestep: of the physics (s).
    """

    def __init__(self, stage: Stage, timestep: float = TIMESTEP) -> None:
        check_timestep(timestep)
        self.stage, self.timestep = stage, timestep
        self._data_of = lru_cache(maxsize=KEPT)(mujoco.MjData)
        self.set_blocks([])

    @property
    def blocks(self) -> list[Block]:
        """The blocks where they are now, in the order in which they came."""
        now = []
        for block, (x, y, z, *turn) in zip(self._blocks, self._data.qpos.reshape(-1, 7).tolist(), strict=True):
            length = sqrt(sum(q * q for q in turn))
            qw, qx, qy, qz = (q / length for q in turn)
            now.append(Block(block.shape, (x, y, z), block.rgb, (qw, qx, qy, qz)))
        return now

    def positions(self) -> NDArray[np.float64]:
        """Positions [N, 3] of the blocks."""
        return self._data.qpos.reshape(-1, 7)[:, :3].copy()

    def set_blocks(self, blocks: Iterable[Block]) -> None:
        """Clear the stage and put these blocks on it, at rest, exactly where they say; no physics runs."""
        self._blocks = list(blocks)
        if len(self._blocks) > MAX_DRAWN:
            raise InputError('blocks on a stage', f'at most {MAX_DRAWN}', len(self._blocks))
        self._model, self._data = self._physics(self._blocks)
        self._data.qpos[:] = poses(self._blocks)

    def add_block(self, block: Block) -> None:
        """Put one more block where it says, at rest; the others keep their motion. No physics runs."""
        qpos, qvel = self._data.qpos.copy(), self._data.qvel.copy()
        self.set_blocks([*self._blocks, block])
        self._data.qpos[:len(qpos)], self._data.qvel[:len(qvel)] = qpos, qvel

    def overlaps(self, block: Block) -> bool:
        """Whether a block would cut into one that is there, or into the surroundings."""
        model, data = self._physics([*self._blocks, block])
        data.qpos[:] = np.append(self._data.qpos, block.pose)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        contacts = data.contact.geom[data.contact.dist < 0]
        return bool((model.geom_bodyid[contacts] == model.nbody - 1).any())

    def settle(self, seconds: float, timestep: float | None = None) -> None:
        """Let physics run for some seconds, or until all blocks rest.

        Args:
            seconds: how long.
            timestep: another one than the world's (s).
        """
        run(self._model, self._data, seconds, timestep or self.timestep)

    def state(self) -> tuple[tuple[Block, ...], NDArray[np.float64]]:
        """Everything that `restore` needs to go on from here exactly."""
        state = np.empty(mujoco.mj_stateSize(self._model, STATE))
        mujoco.mj_getState(self._model, self._data, state, STATE)
        return tuple(self._blocks), state

    def restore(self, state: tuple[tuple[Block, ...], NDArray[np.float64]]) -> None:
        """Go back to a state of this world or of another one on the same stage."""
        self.set_blocks(state[0])
        mujoco.mj_setState(self._model, self._data, state[1], STATE)

    def render(self) -> NDArray[np.uint8]:
        """Picture [S, S, 3], RGB."""
        return self._view().colours(self.blocks)

    def render_labels(self) -> NDArray[np.uint8]:
        """Labels [S, S]: 0 surroundings, i+1 block i; of several that share a pixel the last."""
        return self._view().labels(self.blocks)

    def _physics(self, blocks: Sequence[Block]) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model of some blocks, and data as if they were new; data of blocks of these shapes are reset."""
        model = physics_model(self.stage, tuple(block.shape for block in blocks))
        data = self._data_of(model)
        mujoco.mj_resetData(model, data)
        return model, data

    def _view(self) -> BlocksView:
        return view_of(self.stage)


def check_timestep(timestep: float) -> None:
    """Refuse timesteps (s) with which blocks would not stand or never fall."""
    if not 1e-4 <= timestep <= 0.005:
        raise InputError('blocks: timestep', '0.0001 to 0.005 s', timestep)
