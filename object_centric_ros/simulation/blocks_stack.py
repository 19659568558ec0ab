"""Single-step block stacking (O2P2; OP3, appendix 6.5.1): blocks are dropped one by one and settle.

Lengths in the papers' units; x is right in the picture, z up, and the camera looks along -y.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.blocks_stage import SHAPES, TIMESTEP, Block, Stage, quaternion
from object_centric_ros.simulation.blocks_world import BlocksWorld, check_timestep

GENERATOR_VERSION = 2
MAX_BLOCKS = 9
SETTLE_S = 4.0
"""Time for the first blocks to settle, and for a block that is dropped while a structure is built (s)."""
DROP_S = 1.0
"""Time between the two frames of a training pair (s)."""
DROP_BOUNDS = ((-1.75, 1.75), (-0.5, 0.0), (0.0, 3.0))
"""Where blocks are dropped from: x, y, z."""
SETTLE_BOUNDS = ((-0.5, 0.5), (-0.5, 0.0))
"""Where the first blocks come from: x, y."""
_TRIES = 1000

STAGE = Stage(
    scale=0.4, contact='condim="6" friction="1 1 1"', drawn=128, size=64, upside_down=True, shadows=True,
    # the released floor is lit at every 0.1; it has both side walls on the left
    surroundings='<geom type="plane" size="5 5 0.2" pos="0 0 -0.5" material="floor"/>'
                 '<geom type="box" size="0.1 2 4" pos="-3 -1 0" rgba="0 0 0 0"/>'
                 '<geom type="box" size="4 0.1 4" pos="0 -4 2" rgba="0 0 0 0"/>',
    # a sixteenth of a pixel off the released (0, 5, 1): their driver placed pixels a little differently
    decor='<camera pos="0.002 5 0.999" euler="-1.57 0 0" fovy="45"/>'
          '<light pos="0 4 4" dir="0 -1 0" diffuse="1.5 1.5 1.5"/>'
          '<light pos="0 4 1" dir="0 -1 0" diffuse="1.5 1.5 1.5"/>')

FIELDS = {
    'frames': '[2, 64, 64, 3] RGB: the last block in the air, and after it fell for a second',
    'labels': '[2, 64, 64] 0 surroundings, i+1 block i; of several that share a pixel the last',
    'positions': '[2, K, 3] block positions (units of the papers), NaN where there is no block',
    'quaternions': '[2, K, 4] block rotations (w, x, y, z), NaN where there is no block',
    'shapes': '[K] 0 cube, 1 horizontal rectangle, 2 pyramid, 255 no block',
    'colours': '[K, 3] RGB in [0, 1]',
    'drop': '[13] the block in the air: shape (one of 3), position (3), quaternion (4), RGB (3)',
}
PRESETS: dict[str, dict[str, Any]] = {
    'paper': {},
    'released': {'min_blocks': 4, 'max_blocks': 4, 'timestep': TIMESTEP, 'settle_timestep': TIMESTEP}}


@dataclass(frozen=True)
class StackConfig:
    """What is in the training pairs.

    Attributes:
        min_blocks, max_blocks: blocks in a scene with the one in the air, drawn uniformly; K is the second.
        on_top: share of the blocks that are dropped right above another one.
        settle_s, drop_s: physics before the first frame, and between the two (s).
        timestep: of the physics between the two frames (s). Against 0.001 s, three quarters of the scenes end within
            0.006 of the same place, a tenth of a pixel (0.002 as released: 0.002).
        settle_timestep: of the physics before the first frame (s): any heap is as good as another, and heaps made with
            0.005, 0.004 and 0.002 s do not differ in height, spread or in how they creep on.
    """

    min_blocks: int = 1
    max_blocks: int = 5
    on_top: float = 0.5
    settle_s: float = SETTLE_S
    drop_s: float = DROP_S
    timestep: float = 2 * TIMESTEP
    settle_timestep: float = 0.005

    def __post_init__(self) -> None:
        if not 1 <= self.min_blocks <= self.max_blocks <= MAX_BLOCKS:
            raise InputError('blocks_stack: blocks', f'1 <= min <= max <= {MAX_BLOCKS}',
                             (self.min_blocks, self.max_blocks))
        if not 0 <= self.on_top <= 1:
            raise InputError('blocks_stack: on_top', 'a share in [0, 1]', self.on_top)
        if self.settle_s <= 0 or self.drop_s <= 0:
            raise InputError('blocks_stack: settle_s and drop_s', 'above 0', (self.settle_s, self.drop_s))
        check_timestep(self.timestep)
        check_timestep(self.settle_timestep)

    @property
    def steps(self) -> int:
        """Frames in an episode: before and after."""
        return 2


class StackWorld(BlocksWorld):
    """Blocks that are dropped and settle; starts empty.

    Args:
        timestep: of the physics (s).
    """

    def __init__(self, timestep: float = TIMESTEP) -> None:
        super().__init__(STAGE, timestep)

    def reset(self, seed: int | Sequence[int] | np.random.Generator, n_blocks: int = 3) -> None:
        """A random scene of `n_blocks` blocks that fell on each other and settled."""
        if not 0 <= n_blocks <= MAX_BLOCKS:
            raise InputError('number of blocks', f'0 to {MAX_BLOCKS}', n_blocks)
        rng = np.random.default_rng(seed)
        self.set_blocks([first_block(rng, level) for level in range(n_blocks)])
        if n_blocks:
            self.settle(SETTLE_S)

    def drop(self, block: Block, seconds: float = SETTLE_S) -> None:
        """Let go of one more block where it says and let all settle for some seconds.

        Raises:
            InputError: it would start inside of another block or of the floor.
        """
        if self.overlaps(block):
            raise InputError('block to drop', 'a place where it touches nothing', block.position)
        self.add_block(block)
        self.settle(seconds)

    def step(self, action: ArrayLike) -> None:
        """`drop` for a second with one vector [13] as the training pairs have it: see ``drop`` in `FIELDS`."""
        values = np.asarray(action, float)
        if values.shape != (13,):
            raise InputError('action', '13 numbers: shape (one of 3), position, quaternion and RGB', values.shape)
        place, turn, rgb = (tuple(part.tolist()) for part in (values[3:6], values[6:10], values[10:]))
        self.drop(Block(SHAPES[int(values[:3].argmax())], place, rgb, turn), DROP_S)

    def render_block_in_air(self, shape: str, rgb: ArrayLike, position: ArrayLike, yaw: float = 0.0
                            ) -> NDArray[np.uint8]:
        """Picture [64, 64, 3] of the present scene with one more block held in the air; nothing changes or moves."""
        return self._view().colours([*self.blocks, upright_block(shape, rgb, position, yaw)])

    def sample_drop(self, rng: np.random.Generator, above: Sequence[Block] = (), on_top: float = 0.5) -> Block:
        """A random block in the air that touches nothing.

        Args:
            rng: the episode's generator.
            above: blocks; a share `on_top` of the draws is right above one of them, others are anywhere.
        """
        shape, rgb = str(rng.choice(SHAPES)), random_rgb(rng)
        for _ in range(_TRIES):
            if above and rng.random() < on_top:
                x, y, z = above[int(rng.integers(len(above)))].position
                z += rng.uniform(0.4, 0.8)
            else:
                x, y, z = (rng.uniform(*bounds) for bounds in DROP_BOUNDS)
            yaw = 0.0 if shape == 'horizontal_rectangle' else rng.uniform(0, np.pi)
            block = upright_block(shape, rgb, (x, y, z), yaw)
            if not self.overlaps(block):
                return block
        raise InputError('place for a block', 'one that touches nothing', f'none in {_TRIES} tries')


def upright_block(shape: str, rgb: ArrayLike, position: ArrayLike, yaw: float = 0.0) -> Block:
    """A block turned by `yaw` (rad) about the vertical."""
    return Block(shape, tuple(np.asarray(position, float)), tuple(np.asarray(rgb, float)),
                 quaternion((0, 0, 1), yaw))


def first_block(rng: np.random.Generator, level: int) -> Block:
    """The `level`-th of the blocks that a scene begins with; rectangles are turned about their long axis."""
    shape = str(rng.choice(SHAPES))
    axis = (1, 0, 0) if shape == 'horizontal_rectangle' else (0, 0, 1)
    x, y = (rng.uniform(*bounds) for bounds in SETTLE_BOUNDS)
    return Block(shape, (x, y, float(level)), random_rgb(rng), quaternion(axis, rng.uniform(0, np.pi)))


def random_rgb(rng: np.random.Generator) -> tuple[float, float, float]:
    """Any hue, with saturation and value from a half to one."""
    return colorsys.hsv_to_rgb(rng.uniform(0, 1), rng.uniform(0.5, 1), rng.uniform(0.5, 1))


def make_batch(config: StackConfig, seeds: Sequence[Sequence[int]]) -> dict[str, NDArray]:
    """Pairs with these seeds: field -> array [N, ...]; see `FIELDS`."""
    world = StackWorld(config.timestep)
    pairs = [_pair(world, config, np.random.default_rng(seed)) for seed in seeds]
    return {k: np.stack([p[k] for p in pairs]) for k in pairs[0]}


def _pair(world: StackWorld, config: StackConfig, rng: np.random.Generator) -> dict[str, NDArray]:
    n, most = int(rng.integers(config.min_blocks, config.max_blocks + 1)), config.max_blocks
    first = [first_block(rng, level) for level in range(n - 1)]
    world.set_blocks(first)
    if first:
        world.settle(config.settle_s, config.settle_timestep)
    block = world.sample_drop(rng, first, config.on_top)
    world.add_block(block)
    pair: dict[str, NDArray] = {
        'frames': np.empty((2, STAGE.size, STAGE.size, 3), np.uint8),
        'labels': np.empty((2, STAGE.size, STAGE.size), np.uint8),
        'positions': np.full((2, most, 3), np.nan, np.float32),
        'quaternions': np.full((2, most, 4), np.nan, np.float32),
        'shapes': np.full(most, 255, np.uint8), 'colours': np.zeros((most, 3), np.float32),
        'drop': np.array([*(block.shape == s for s in SHAPES), *block.pose, *block.rgb], np.float32),
    }
    for t in range(2):
        if t:
            world.settle(config.drop_s)
        blocks = world.blocks
        pair['frames'][t], pair['labels'][t] = world.render(), world.render_labels()
        pair['positions'][t, :n] = [b.position for b in blocks]
        pair['quaternions'][t, :n] = [b.quaternion for b in blocks]
    pair['shapes'][:n] = [SHAPES.index(b.shape) for b in blocks]
    pair['colours'][:n] = [b.rgb for b in blocks]
    return pair


def meta(config: StackConfig) -> dict[str, Any]:
    """Facts for the episode file."""
    return {'generator': 'blocks_stack', 'generator_version': GENERATOR_VERSION, 'action_format': 'none'}
