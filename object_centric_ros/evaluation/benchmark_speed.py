"""Time and memory of planning on block worlds: goal inference, plans 1 to 3 steps ahead, and a block of a structure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from object_centric_ros.evaluation.benchmark_goals import tower_task
from object_centric_ros.evaluation.benchmark_pick_place import HALF, Settings, stage_camera
from object_centric_ros.evaluation.benchmark_stack import DEPTH, StackSettings, stack_goals
from object_centric_ros.evaluation.benchmark_stack import stage_camera as stack_camera
from object_centric_ros.evaluation.timing import peak_memory
from object_centric_ros.models.op3 import OP3
from object_centric_ros.planning.blocks_fit import Drop
from object_centric_ros.planning.blocks_inference import Explained, Inference, InferenceConfig
from object_centric_ros.planning.blocks_pick_place import PickPlacePlanner
from object_centric_ros.planning.blocks_stack import StackPlanner
from object_centric_ros.simulation.blocks_pick_place import WORKSPACE, PickPlaceWorld
from object_centric_ros.simulation.blocks_stack import DROP_BOUNDS, StackWorld
from object_centric_ros.simulation.blocks_stage import SHAPES

HEADER = ('what', 'candidates', 'seconds', 'cpu s', 'per second', 'peak MB')
RESTARTS = InferenceConfig(restarts=40, stride=4, iterations=3, finalists=2, polish=2)
"""40 starts, as published, explored on the coarsest grid."""
Row = tuple[object, ...]


def pick_place_speed(model: OP3, repeats: int, seed: int) -> list[Row]:
    """Rows of goal inference and of entity and xy plans with 1000 candidates, three blocks, K = 5."""
    world, rows, s = PickPlaceWorld(), [], Settings()
    task = tower_task(3, seed, world)
    world.set_blocks([])
    blank = world.render()
    world.set_blocks(task.start)
    image = world.render()
    for config, name in ((RESTARTS, 'goal inference, 40 restarts'), (s.goal_inference, 'goal inference, 8 restarts'),
                         (s.inference, 'scene inference, 4 restarts')):
        inference = Inference(model, blank, config)
        rows.append(_row(name, config.restarts, repeats, lambda i=inference: i.explain(  # type: ignore[misc]
            task.goal_image, 5, torch.Generator().manual_seed(seed))))
    inference = Inference(model, blank, s.goal_inference)
    goal, now = (inference.explain(p, 5, torch.Generator().manual_seed(seed)) for p in (task.goal_image, image))
    for actions in ('entity', 'xy'):
        for horizon in (1, 2, 3):
            planner = PickPlacePlanner(inference, WORKSPACE, stage_camera(), HALF,
                                       replace(s.planner, actions=actions, horizon=horizon))
            rows.append(_row(f'plan, ({actions}, place), horizon {horizon}',
                             s.planner.search.population * s.planner.search.iterations, repeats,
                             lambda p=planner: p.plan(now, goal, np.random.default_rng(seed))))  # type: ignore[misc]
    return rows


def stack_speed(model: OP3, goals: str | Path, repeats: int, seed: int) -> list[Row]:
    """A row of one block of a structure of five with the released settings: 2 x 100 candidates anywhere, K = 7."""
    s, world = StackSettings(), StackWorld()
    _, goal = next(g for g in stack_goals(goals, 1) if len(g[1].blocks[1]) == 5)
    blank = world.render()
    inference = Inference(model, blank, s.inference)
    wanted = inference.explain(goal.images[1], 7, torch.Generator().manual_seed(seed))
    world.set_blocks(goal.blocks[1][:4])  # the longest: four blocks lie already
    now: Explained = inference.explain(world.render(), 6, torch.Generator().manual_seed(seed))

    def draw(drops: Sequence[Drop]) -> NDArray[np.uint8]:
        return np.stack([world.render_block_in_air(d.shape, d.rgb, d.position, d.yaw) for d in drops])
    rows = []
    released = replace(s.planner, order='cheapest', around=False, cost='subimage',
                       search=replace(s.planner.search, population=100, elites=10))
    for name, config in (('a block, released settings', released),
                         ('a block, ours', s.planner)):
        planner = StackPlanner(model, SHAPES, DROP_BOUNDS, stack_camera(), DEPTH, config)
        rows.append(_row(name, config.search.population * config.search.iterations, repeats,
                         lambda p=planner: p.plan(  # type: ignore[misc]
                             now, wanted, range(len(wanted.things)), draw, np.random.default_rng(seed),
                             torch.Generator().manual_seed(seed))))
    return rows


def _row(name: str, candidates: int, repeats: int, work: Callable[[], object]) -> Row:
    """Medians over repeats, after one call to warm up."""
    work()
    wall, cpu = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)

    def measured() -> torch.Tensor:
        work()
        return torch.zeros(())
    seconds = float(np.median(wall))
    return (name, candidates, round(seconds, 2), round(float(np.median(cpu)), 2), round(candidates / seconds),
            round(peak_memory(measured, torch.device('cpu'))))
