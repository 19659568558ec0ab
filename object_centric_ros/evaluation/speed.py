"""How fast the tracker is and whether its memory grows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.evaluation.tables import Spread
from object_centric_ros.simulation.sampling import sample_action
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.entities import PickPlace
from object_centric_ros.tracking.tracker import EntityTracker

Frame = tuple[NDArray[np.uint8], PickPlace | None, bool]
"""Camera image [H, W, 3], what was executed before it, and whether the arm moves."""


def stream(seed: int = 0, blocks: int = 4, still: int = 20, arm: int = 10) -> Iterator[Frame]:
    """An endless camera stream: `still` frames of a scene, `arm` frames with the arm at work, its result, and so on.

    Noise of one grey level makes every frame a new one.
    """
    world, rng = TabletopWorld(), np.random.default_rng([seed, 3])
    world.reset(seed, blocks)
    action: PickPlace | None = None
    noise = [rng.integers(0, 2, (world.camera.height, world.camera.width, 3), np.uint8) for _ in range(7)]
    count = 0
    while True:
        image = np.minimum(world.render(), 254)
        for _ in range(still):
            count += 1
            yield image + noise[count % len(noise)], action, False
            action = None
        xy = sample_action(rng, world.block_positions(), world.config.workspace, world.config.block_half_size)
        for i in range(arm):
            world.pose_arm_over(xy[:2] if i < arm // 2 else xy[2:], rng)
            count += 1
            yield np.minimum(world.render(), 254) + noise[count % len(noise)], None, True
        world.home_arm()
        before = world.save_state()
        if world.teleport_pick_place(xy[:2], xy[2:]).success:
            if np.abs(world.block_positions()[:, :2]).max() > world.config.workspace + 0.02:
                world.restore_state(before)
            else:
                action = PickPlace((float(xy[0]), float(xy[1])), (float(xy[2]), float(xy[3])))


def resident_mb() -> float:
    """Memory that this process holds (MB); NaN where the system does not tell."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except OSError:
        return float('nan')
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


@dataclass(frozen=True)
class Speed:
    """A run of the tracker.

    Attributes:
        step: seconds of whole steps, model image included.
        model: seconds in the model.
        step_wall: seconds of all steps together.
        memory: frames seen -> resident memory (MB).
    """

    step: Spread
    model: Spread
    step_wall: float
    memory: dict[int, float]


def measure(tracker: EntityTracker, frames: int, seed: int = 0, warm_up: int = 50, memory_at: tuple[int, ...] = (),
            tell: Callable[[int], None] = lambda _: None) -> Speed:
    """Feed the tracker with `frames` frames of `stream` after `warm_up` others; making the frames is not timed."""
    tracker.reset()
    step, model, memory = [], [], {}
    for n, (image, action, moving) in enumerate(stream(seed)):
        if n == warm_up + frames:
            break
        began = time.perf_counter()
        frame = tracker.step(image, action, n / 30, moving)
        took = time.perf_counter() - began
        if n >= warm_up:
            step.append(took)
            model.append(frame.seconds)
        seen = n + 1 - warm_up
        if seen in memory_at:
            memory[seen] = resident_mb()
        if seen > 0 and seen % 1000 == 0:
            tell(seen)
    return Speed(Spread.of(step), Spread.of(model), float(np.sum(step)), memory)
