"""Make training data: random play on the simulated tabletop, written as an episode file.

Every episode has a generator of its own, seeded by (seed, index): the file holds the same bits for any number of
workers. Finished parts wait beside the file in ``FILE.parts``, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.datasets.episodes import EpisodeStore, EpisodeWriter
from object_centric_ros.errors import InputError
from object_centric_ros.simulation.sampling import sample_action
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.simulation.tabletop_scene import MAX_BLOCKS, TabletopConfig

GENERATOR_VERSION = 1
PART = 50
"""Episodes in one part of the work."""


@dataclass(frozen=True)
class GenerateConfig:
    """What to generate; the file records it.

    Attributes:
        episodes, steps: number of episodes and frames in each.
        seed: of the whole set.
        min_blocks, max_blocks: blocks in a scene, drawn uniformly.
        arm_frames: also show each state with the arm over the table.
        execution: ``teleport`` (fast, same rules) or ``arm`` (the arm moves every block).
        size: side of a frame (pixels).
        stacked_start: share of the episodes that start with a stack.
    """

    episodes: int = 8000
    steps: int = 5
    seed: int = 0
    min_blocks: int = 2
    max_blocks: int = MAX_BLOCKS
    arm_frames: bool = False
    execution: str = 'teleport'
    size: int = 64
    stacked_start: float = 0.2

    def __post_init__(self) -> None:
        for name, low in (('episodes', 1), ('steps', 2), ('seed', 0), ('size', 8)):
            if getattr(self, name) < low:
                raise InputError(f'generate: {name}', f'at least {low}', getattr(self, name))
        if not 2 <= self.min_blocks <= self.max_blocks <= MAX_BLOCKS:
            raise InputError('generate: blocks', f'2 <= min <= max <= {MAX_BLOCKS}', (self.min_blocks, self.max_blocks))
        if self.execution not in ('teleport', 'arm'):
            raise InputError('generate: execution', 'teleport or arm', self.execution)


def make_episode(world: TabletopWorld, config: GenerateConfig, index: int) -> dict[str, NDArray]:
    """Episode number `index` of the set: field -> array without the leading N (see `datasets.episodes.FIELDS`)."""
    rng = np.random.default_rng([config.seed, index])
    while True:
        episode = _try_episode(world, config, rng)
        if episode is not None:
            return episode


def _try_episode(world: TabletopWorld, config: GenerateConfig, rng: np.random.Generator) -> dict[str, NDArray] | None:
    n = int(rng.integers(config.min_blocks, config.max_blocks + 1))
    world.reset(rng, n)
    if rng.random() < config.stacked_start:
        for _ in range(int(rng.integers(1, 3))):
            if _act(world, rng, 'teleport') is None:
                return None
    views: list[dict[str, NDArray]] = []
    actions, success = [], []
    for t in range(config.steps):
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


def _look(world: TabletopWorld, config: GenerateConfig) -> dict[str, NDArray]:
    positions = np.full((MAX_BLOCKS, 3), np.nan, np.float32)
    positions[:world.n_blocks] = world.block_positions()
    return {'frames': world.model_frame(config.size), 'labels': world.model_labels(config.size), 'positions': positions}


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


# ---- many episodes --------------------------------------------------------------------------------------------------

_world: TabletopWorld | None = None


def _make_part(job: tuple[GenerateConfig, TabletopConfig, dict, range, str]) -> int:
    """Write one part file (run in a worker); returns its number of episodes."""
    global _world
    config, scene, meta, indices, path = job
    if _world is None or _world.config != scene:
        _world = TabletopWorld(scene)
    episodes = [make_episode(_world, config, i) for i in indices]
    with EpisodeWriter(path + '.new', meta) as writer:
        writer.append({k: np.stack([e[k] for e in episodes]) for k in episodes[0]})
    os.replace(path + '.new', path)
    return len(episodes)


def generate(out: str | os.PathLike[str], config: GenerateConfig, workers: int = 1, scene: TabletopConfig | None = None,
             progress: bool = False) -> None:
    """Write the episode file `out`; parts left by a stopped run with the same settings are used.

    Args:
        out: the file; replaced when it exists.
        config: what to generate.
        workers: processes (does not change the result).
        scene: looks and physics.
        progress: print how far it is.
    """
    if workers < 1:
        raise InputError('generate: workers', 'at least 1', workers)
    scene, target = scene or TabletopConfig(), Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    meta = json.loads(json.dumps({
        'generator': 'tabletop', 'generator_version': GENERATOR_VERSION, 'seed': config.seed,
        'camera': scene.camera().to_dict(), 'block_half_size': scene.block_half_size, 'workspace': scene.workspace,
        'config': asdict(config), 'scene': asdict(scene)}))
    parts = target.with_name(target.name + '.parts')
    parts.mkdir(exist_ok=True)
    ranges = [range(start, min(start + PART, config.episodes)) for start in range(0, config.episodes, PART)]
    paths = [str(parts / f'{r.start:07d}-{r.stop:07d}.h5') for r in ranges]
    jobs = [(config, scene, meta, r, path) for r, path in zip(ranges, paths, strict=True) if not _usable(path, meta)]
    done = config.episodes - sum(len(job[3]) for job in jobs)
    for count in _run(jobs, workers):
        done += count
        if progress:
            print(f'\r{target}: {done}/{config.episodes} episodes', end='', file=sys.stderr, flush=True)
    if progress:
        print(file=sys.stderr)
    whole = target.with_name(target.name + '.new')
    with EpisodeWriter(whole, meta) as writer:
        for path in paths:
            with EpisodeStore(path) as store:
                writer.append(store.read(slice(None)))
    os.replace(whole, target)
    shutil.rmtree(parts)


def _run(jobs: list[tuple], workers: int) -> Iterator[int]:
    if workers == 1 or len(jobs) < 2:
        yield from map(_make_part, jobs)
        return
    with multiprocessing.get_context('spawn').Pool(min(workers, len(jobs))) as pool:
        yield from pool.imap(_make_part, jobs)


def _usable(path: str, meta: dict) -> bool:
    """Whether a part of an earlier run is complete and was made with the same settings."""
    if not os.path.exists(path):
        return False
    try:
        with EpisodeStore(path) as store:
            return {**store.meta, 'format': None} == {**meta, 'format': None}
    except InputError:
        return False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `object-centric generate`."""
    default = GenerateConfig()
    parser.add_argument('world', choices=['tabletop'], help='the simulated world')
    parser.add_argument('--out', required=True, metavar='FILE', help='episode file (HDF5) to write')
    parser.add_argument('--episodes', type=int, default=default.episodes)
    parser.add_argument('--steps', type=int, default=default.steps, help='frames in an episode')
    parser.add_argument('--seed', type=int, default=default.seed)
    parser.add_argument('--workers', type=int, default=min(2, os.cpu_count() or 1), help='processes')
    parser.add_argument('--blocks', type=int, nargs=2, default=[default.min_blocks, default.max_blocks],
                        metavar=('MIN', 'MAX'), help='number of blocks')
    parser.add_argument('--arm-frames', action='store_true', help='also show each state with the arm over the table')
    parser.add_argument('--execution', choices=['teleport', 'arm'], default=default.execution,
                        help='move blocks at once by the same rules, or with the simulated arm')


def run(args: argparse.Namespace) -> int:
    """Run `object-centric generate` with parsed arguments; returns the exit status."""
    config = GenerateConfig(episodes=args.episodes, steps=args.steps, seed=args.seed, min_blocks=args.blocks[0],
                            max_blocks=args.blocks[1], arm_frames=args.arm_frames, execution=args.execution)
    generate(args.out, config, workers=args.workers, progress=True)
    return 0
