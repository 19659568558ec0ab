"""Random play on the simulated tabletop: episodes of pick-and-places with the arm out of view, or in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.sampling import sample_action
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.simulation.tabletop_scene import MAX_BLOCKS, TabletopConfig

GENERATOR_VERSION = 1
FIELDS = {
    'frames': '[T, S, S, 3] RGB with the arm at home',
    'actions': '[T-1, 4] pick x, y and place x, y in work_plane (m)',
    'success': '[T-1] whether a block was held from pick to place',
    'labels': '[T, S, S] 0 table, i+1 block i, 255 arm',
    'positions': '[T, 5, 3] block centres in work_plane (m), NaN where there is no block',
    'n_blocks': '[] blocks on the table',
    'arm_frames': '[T, S, S, 3] the same states with the arm over the table',
    'arm_labels': '[T, S, S] labels of arm_frames',
    'camera_poses': '[T, 3, 4] rotation (optical frame to work_plane) and position (m) of the camera that moves',
}
MAX_SWING = 0.2
"""With more the camera would leave the table out of its view (m)."""
PERIODS = (6.0, 16.0)
"""Frames in which a moving camera swings to and fro along an axis; drawn for each axis of each episode."""


@dataclass(frozen=True)
class PlayConfig:
    """What to play.

    Attributes:
        steps: frames in an episode.
        min_blocks, max_blocks: blocks in a scene, drawn uniformly.
        arm_frames: also show each state with the arm over the table.
        execution: ``teleport`` (fast, same rules) or ``arm`` (the arm moves every block).
        size: side of a frame (pixels).
        stacked_start: share of the episodes that start with a stack.
        camera_motion: the camera swings about its place by so much along each axis (m), from frame to frame, and looks
            at the table all the time; 0 for one that stands still. What moves has no one `camera` in the metadata.
        scene: looks and physics.
    """

    steps: int = 5
    min_blocks: int = 2
    max_blocks: int = MAX_BLOCKS
    arm_frames: bool = False
    execution: str = 'teleport'
    size: int = 64
    stacked_start: float = 0.2
    camera_motion: float = 0.0
    scene: TabletopConfig = field(default_factory=TabletopConfig)

    def __post_init__(self) -> None:
        for name, low in (('steps', 2), ('size', 8)):
            if getattr(self, name) < low:
                raise InputError(f'tabletop: {name}', f'at least {low}', getattr(self, name))
        if not 2 <= self.min_blocks <= self.max_blocks <= MAX_BLOCKS:
            raise InputError('tabletop: blocks', f'2 <= min <= max <= {MAX_BLOCKS}', (self.min_blocks, self.max_blocks))
        if not 0 <= self.camera_motion <= MAX_SWING:
            raise InputError('tabletop: camera_motion', f'0 to {MAX_SWING} m', self.camera_motion)
        if self.execution not in ('teleport', 'arm'):
            raise InputError('tabletop: execution', 'teleport or arm', self.execution)


_world: TabletopWorld | None = None


def make_batch(config: PlayConfig, seeds: Sequence[Sequence[int]]) -> dict[str, NDArray]:
    """Episodes with these seeds: field -> array [N, ...]; see `FIELDS`."""
    global _world
    if _world is None or _world.config != config.scene:
        _world = TabletopWorld(config.scene)
    episodes = [make_episode(_world, config, seed) for seed in seeds]
    return {k: np.stack([e[k] for e in episodes]) for k in episodes[0]}


def meta(config: PlayConfig) -> dict[str, Any]:
    """Facts for the episode file."""
    scene = config.scene
    still = {} if config.camera_motion else {'camera': scene.camera().to_dict()}
    return {'generator': 'tabletop', 'generator_version': GENERATOR_VERSION, 'action_format': 'pick_place_xy', **still,
            'block_half_size': scene.block_half_size, 'workspace': scene.workspace}


def make_episode(world: TabletopWorld, config: PlayConfig, seed: Sequence[int]) -> dict[str, NDArray]:
    """One episode: field -> array without the leading N; see `FIELDS`."""
    rng = np.random.default_rng(seed)
    path = _camera_path(world, config, rng) if config.camera_motion else [None] * config.steps
    try:
        while True:
            episode = _try_episode(world, config, rng, path)
            if episode is not None:
                return episode
    finally:
        world.place_camera()


def _camera_path(world: TabletopWorld, config: PlayConfig, rng: np.random.Generator) -> Sequence[NDArray | None]:
    """Where the camera is at each frame [T, 3] (m)."""
    periods, phases = rng.uniform(*PERIODS, 3), rng.uniform(0, 2 * np.pi, 3)
    turns = 2 * np.pi * np.arange(config.steps)[:, None] / periods + phases
    return list(np.array(world.config.camera_position) + config.camera_motion * np.sin(turns))


def _try_episode(world: TabletopWorld, config: PlayConfig, rng: np.random.Generator,
                 path: Sequence[NDArray | None]) -> dict[str, NDArray] | None:
    n = int(rng.integers(config.min_blocks, config.max_blocks + 1))
    world.reset(rng, n)
    if rng.random() < config.stacked_start:
        for _ in range(int(rng.integers(1, 3))):
            if _act(world, rng, 'teleport') is None:
                return None
    views: list[dict[str, NDArray]] = []
    actions, success = [], []
    for t in range(config.steps):
        if path[t] is not None:
            world.place_camera(path[t])
        pending = _look(world, config)
        state = world.save_state()
        if t < config.steps - 1:
            done = _act(world, rng, config.execution)
            if done is None:
                return None
            actions.append(done[0])
            success.append(done[1])
        if config.arm_frames:
            after = world.save_state()
            world.restore_state(state)
            near = rng.random() < 0.4 and t < config.steps - 1
            spot = (actions[-1].reshape(2, 2)[rng.integers(2)] if near
                    else rng.uniform(-1, 1, 2) * world.config.workspace)
            world.pose_arm_over(spot, rng)
            pending['arm_frames'] = world.model_frame(config.size)
            pending['arm_labels'] = world.model_labels(config.size)
            world.restore_state(after)
        views.append(pending)
    stacked = {k: np.stack([v[k] for v in views]) for k in views[0]}
    return {**stacked, 'actions': np.array(actions, np.float32), 'success': np.array(success, bool),
            'n_blocks': np.array(n, np.uint8)}


def _look(world: TabletopWorld, config: PlayConfig) -> dict[str, NDArray]:
    positions = np.full((MAX_BLOCKS, 3), np.nan, np.float32)
    positions[:world.n_blocks] = world.block_positions()
    seen: dict[str, NDArray] = {'frames': world.model_frame(config.size), 'labels': world.model_labels(config.size),
                                'positions': positions}
    if config.camera_motion:
        seen['camera_poses'] = np.column_stack([world.camera.rotation, world.camera.position]).astype(np.float32)
    return seen


def _act(world: TabletopWorld, rng: np.random.Generator, execution: str) -> tuple[NDArray[np.float64], bool] | None:
    """A random action after which all blocks are still on the table and in view; None when none was found."""
    before = world.save_state()
    execute = world.teleport_pick_place if execution == 'teleport' else world.pick_place
    for _ in range(20):
        action = sample_action(rng, world.block_positions(), world.config.workspace, world.config.block_half_size)
        result = execute(action[:2], action[2:])
        positions = world.block_positions()
        if np.abs(positions[:, :2]).max() <= world.config.workspace + 0.02 and positions[:, 2].min() > 0.02:
            return action, result.success
        world.restore_state(before)
    return None
