"""OP3 Table 1: structures are built from a goal picture, one block let go after the other; the authors' weights.

The planner sees pictures only: of the goal, of the scene, and of candidate blocks in the air, which is how the task
tells a model of an action. The judge reads the simulator at the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.benchmark_judge import stacked, strictly_built
from object_centric_ros.evaluation.benchmark_pick_place import Built
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.op3 import OP3
from object_centric_ros.planning.blocks_fit import Drop
from object_centric_ros.planning.blocks_inference import Inference, InferenceConfig
from object_centric_ros.planning.blocks_stack import StackConfig, StackPlanner
from object_centric_ros.simulation.blocks_goals import StackGoal, read_stack_goals
from object_centric_ros.simulation.blocks_stack import DROP_BOUNDS, STAGE, StackWorld, upright_block
from object_centric_ros.simulation.blocks_stage import SHAPES

HALF = STAGE.scale
"""Half a block: the strict tolerance."""
DEPTH = -0.25
"""Middle of the depths at which blocks are dropped (y)."""
HIGHEST = 3.0


def stage_camera() -> PinholeCamera:
    """The camera of the stacking stage: it looks along -y and is upside down, so that +x is right in its picture."""
    f = STAGE.size / (2 * np.tan(np.radians(45) / 2))
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
    return PinholeCamera(STAGE.size, STAGE.size, f, f, STAGE.size / 2, STAGE.size / 2, rotation, np.array([0, 5.0, 1]))


@dataclass(frozen=True)
class StackSettings:
    """How structures are built.

    Attributes:
        planner: costs and search.
        inference: of scenes; goal_inference: of goal pictures.
        extra_slots: K is the number of blocks and these.
        timestep: of the physics (s).
    """

    planner: StackConfig = field(default_factory=StackConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    goal_inference: InferenceConfig = field(default_factory=lambda: InferenceConfig(restarts=10, finalists=3, polish=3))
    extra_slots: int = 2
    timestep: float = 0.002


def build_stack(model: OP3, name: str, goal: StackGoal, settings: StackSettings, seed: int) -> Built:
    """Let go of as many blocks as the goal has; each plan starts from a new picture."""
    world, blocks = StackWorld(settings.timestep), goal.blocks[1]
    blank, started = world.render(), time.perf_counter()
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    explained = Inference(model, blank, settings.goal_inference).explain(
        goal.images[1], len(blocks) + settings.extra_slots, generator)
    inference = Inference(model, blank, settings.inference)
    planner = StackPlanner(model, SHAPES, DROP_BOUNDS, stage_camera(), DEPTH, settings.planner)
    left = list(range(min(len(explained.things), len(blocks))))
    planning, scored, plans, imagined, reason = 0.0, 0, 0, explained.scene.image[0], 'all blocks used'
    while left:
        now = inference.explain(world.render(), plans + settings.extra_slots, generator)

        def draw(drops: Sequence[Drop]) -> NDArray[np.uint8]:
            return np.stack([world.render_block_in_air(d.shape, d.rgb, d.position, d.yaw) for d in drops])
        plan = planner.plan(now, explained, left, draw, rng, generator)
        imagined, plans = plan.imagined, plans + 1
        planning, scored = planning + plan.seconds, scored + plan.scored
        left.remove(plan.target)
        if not let_go(world, plan.drop):
            reason = 'no free place above the goal'
    if len(explained.things) < len(blocks):
        reason = f'{len(explained.things)} of {len(blocks)} entities found in the goal'
    now_blocks = world.blocks
    final = {'paper': float(len(now_blocks) == len(blocks) and stacked(now_blocks, blocks)),
             'position': strictly_built(now_blocks, blocks, HALF, None),
             'strict': strictly_built(now_blocks, blocks, HALF)}
    record = {'goal': name, 'structure': name.rpartition('-')[0], 'blocks': len(blocks), 'seed': seed, 'final': final,
              'plans': plans, 'candidates': scored, 'planning_s': round(planning, 3),
              'seconds': round(time.perf_counter() - started, 2), 'reason': reason,
              'entities': len(explained.things), 'goal_mse': round(explained.mse, 6)}
    drawn = (imagined.clamp(0, 1).permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    return Built(record, {'goal': goal.images[1], 'result': world.render(), 'imagined': drawn})


def let_go(world: StackWorld, drop: Drop) -> bool:
    """Let a block go where the plan says, or, where it would start inside of another, right above that."""
    for rise in np.arange(0, HIGHEST, 0.1):
        x, y, z = drop.position
        block = upright_block(drop.shape, drop.rgb, (x, y, z + rise), drop.yaw)
        if not world.overlaps(block):
            world.drop(block)
            return True
    return False


def stack_goals(folder: str | Path, count: int | None) -> list[tuple[str, StackGoal]]:
    """The first goals of each structure in a folder of goal files, as (structure-number, goal)."""
    files = sorted(Path(folder).glob('*.npz'))
    if not files:
        raise InputError('--goals', 'a folder with goal files (.npz)', folder)
    return [(f'{file.stem}-{i}', goal) for file in files for i, goal in enumerate(read_stack_goals(file)[:count])]


def stack_settings(given: dict) -> StackSettings:
    """From plain data."""
    s = StackSettings()
    search = replace(s.planner.search, method=given['optimiser'], population=given['population'],
                     iterations=given['iterations'], elites=max(1, given['population'] // 10))
    planner = replace(s.planner, cost=given['cost'], order=given['order'], around=given['around'], search=search,
                      stride=given['stride'])
    goal = replace(s.goal_inference, restarts=given['restarts'], finalists=min(3, given['restarts']))
    return replace(s, planner=planner, goal_inference=goal)
