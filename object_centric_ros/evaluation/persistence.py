"""Whether entities keep their ids while an arm rearranges the blocks. Ground-truth labels only score the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.sampling import sample_action
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.entities import PickPlace
from object_centric_ros.tracking.tracker import EntityTracker

WARM_UP = 6
"""Frames of the untouched scene before ids are read, and after the last action."""
VISIBLE = 20
"""A block counts as visible when it fills at least this many pixels of the 64x64 model image."""
OWNED = 0.5
"""Part of a block's visible pixels that one entity must hold to be its id."""


@dataclass(frozen=True)
class EpisodeIds:
    """Ids over one episode.

    Attributes:
        seed, blocks: of the scene.
        actions, held: pick-and-places, and how many of them moved a block.
        visible: blocks visible in the first and in the last frame.
        kept: those of them with the same id in both.
        found: those of them that had an id in the first frame.
        lost: those of them that have none in the last frame.
        frames: how many frames the tracker saw.
    """

    seed: int
    blocks: int
    actions: int
    held: int
    visible: int
    kept: int
    found: int
    lost: int
    frames: int


def block_ids(true: NDArray[np.uint8], labels: NDArray[np.uint16], blocks: int) -> dict[int, int]:
    """Entity id of each visible block, 0 if it has none.

    Args:
        true: ground truth [S, S], 1..N block.
        labels: entity ids [S, S], 0 = none.
        blocks: N.

    Returns:
        Block (1..N) -> id; an id that would be given to two blocks goes to the one of which it holds more pixels.
    """
    shares: dict[int, tuple[int, int]] = {}
    for block in range(1, blocks + 1):
        inside = labels[true == block]
        if len(inside) >= VISIBLE:
            ids, counts = np.unique(inside, return_counts=True)
            best = int(counts.argmax())
            shares[block] = (int(ids[best]), int(counts[best])) if counts[best] >= OWNED * len(inside) else (0, 0)
    return {block: i if n >= max(m for j, m in shares.values() if j == i) else 0 for block, (i, n) in shares.items()}


def _random_action(world: TabletopWorld, rng: np.random.Generator) -> tuple[NDArray[np.float64], bool]:
    """A random action that keeps every block in the workspace, and whether it moves one; nothing is changed."""
    for _ in range(50):
        action = sample_action(rng, world.block_positions(), world.config.workspace, world.config.block_half_size)
        with world.kept():
            result = world.teleport_pick_place(action[:2], action[2:])
            after = world.block_positions()
        if np.abs(after[:, :2]).max() <= world.config.workspace + 0.02 and after[:, 2].min() > 0.02:
            return action, result.success
    raise InputError('random pick-and-place', 'one that keeps all blocks on the table', 'none in 50 draws')


def _teleported(world: TabletopWorld, action: NDArray[np.float64], rng: np.random.Generator,
                views: int) -> Iterator[None]:
    """Carry out an action at once, with the arm seen over the pick before and over the place after it."""
    for xy in [action[:2]] * views:
        world.pose_arm_over(xy, rng)
        yield
    world.home_arm()
    world.teleport_pick_place(action[:2], action[2:])
    for xy in [action[2:]] * views:
        world.pose_arm_over(xy, rng)
        yield
    world.home_arm()


def _with_arm(world: TabletopWorld, action: NDArray[np.float64], fps: float) -> Iterator[None]:
    """Carry out an action with the arm, seen `fps` times a second."""
    motion = world.begin_pick_place(action[:2], action[2:])
    while not motion.done:
        motion.advance(1 / fps)
        yield


def follow(tracker: EntityTracker, world: TabletopWorld, seed: int, blocks: int, actions: int = 10,
           execution: str = 'teleport', fps: float = 10.0, views: int = 3, still: int = 10) -> EpisodeIds:
    """Let the tracker watch one episode of random pick-and-places, until `actions` of them have moved a block.

    Args:
        tracker: reset first; its camera is the world's.
        world: reset to `seed` with `blocks` blocks.
        actions: how many successful pick-and-places; those that miss come on top.
        execution: 'teleport' (views of the arm over pick and place, the block moved in between) or 'arm' (physics).
        fps: frames a second with execution 'arm'; `views`: arm frames over pick and over place with 'teleport'.
        still: frames of the scene at rest after each action, as many as a planner at least sees before it acts again.
    """
    if execution not in ('teleport', 'arm'):
        raise InputError('execution', 'teleport or arm', execution)
    rng = np.random.default_rng([seed, 10])
    world.reset(seed, blocks)
    tracker.reset()
    stamp, frames = 0.0, 0

    def look(action: PickPlace | None = None, moving: bool = False) -> NDArray[np.uint16]:
        nonlocal stamp, frames
        stamp, frames = stamp + 1 / fps, frames + 1
        return tracker.step(world.render(), action, stamp, moving).label_image

    def ids(labels: NDArray[np.uint16]) -> dict[int, int]:
        true = world.model_labels(labels.shape[0])
        return block_ids(true, labels, blocks)

    for _ in range(WARM_UP):
        labels = look()
    first = ids(labels)
    done, held = 0, 0
    while held < actions:
        action, moves = _random_action(world, rng)
        done, held = done + 1, held + moves
        steps = _teleported(world, action, rng, views) if execution == 'teleport' else _with_arm(world, action, fps)
        for _ in steps:
            look(moving=True)
        x0, y0, x1, y1 = map(float, action)
        look(PickPlace((x0, y0), (x1, y1)) if moves else None)
        for _ in range(still - 1):
            look()
    for _ in range(WARM_UP):
        labels = look()
    last = ids(labels)
    both = [b for b in first if b in last]
    kept = sum(first[b] != 0 and first[b] == last[b] for b in both)
    return EpisodeIds(seed, blocks, done, held, len(both), kept, sum(first[b] != 0 for b in both),
                      sum(last[b] == 0 for b in both), frames)


def persistence(tracker: EntityTracker, episodes: int = 20, actions: int = 10, seed: int = 0,
                blocks: tuple[int, int] = (2, 5), execution: str = 'teleport',
                report: Callable[[EpisodeIds], None] = lambda _: None) -> list[EpisodeIds]:
    """`follow` over many episodes, block counts taking turns from blocks[0] to blocks[1]; `report` hears of each."""
    world = TabletopWorld()
    results = []
    for i in range(episodes):
        n = blocks[0] + i % (blocks[1] - blocks[0] + 1)
        results.append(follow(tracker, world, seed + i, n, actions, execution))
        report(results[-1])
    world.close()
    return results
