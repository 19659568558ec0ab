"""Single-step stacking by each cost, with the authors' weights where they lie beside the checkout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.benchmark import model_of
from object_centric_ros.evaluation.benchmark_stack import DEPTH, StackSettings, stage_camera
from object_centric_ros.evaluation.reference import data_folder
from object_centric_ros.planning.blocks_fit import Draw, Drop
from object_centric_ros.planning.blocks_inference import Explained, Inference
from object_centric_ros.planning.blocks_stack import StackConfig, StackPlanner
from object_centric_ros.planning.cem import SearchConfig, Space
from object_centric_ros.planning.costs import OBJECTIVES
from object_centric_ros.simulation.blocks_stack import DROP_BOUNDS, StackWorld, upright_block

RED, BLUE = (0.8, 0.2, 0.2), (0.2, 0.2, 0.8)


@pytest.fixture(scope='module')
def pair() -> tuple[Inference, StackWorld, Explained, Explained]:
    """A goal of two cubes far apart, and the scene with the red one."""
    try:
        model = model_of('stack', str(data_folder(None)))
    except InputError:
        pytest.skip('the authors\' weights (shared/data/op3) are not here')
    torch.set_num_threads(1)
    world, generator = StackWorld(), torch.Generator().manual_seed(0)
    inference = Inference(model, world.render(), StackSettings().inference)
    red, blue = upright_block('cube', RED, (-0.8, DEPTH, 0.4), 0.0), upright_block('cube', BLUE, (0.8, DEPTH, 0.4), 0.0)
    world.set_blocks([red, blue])
    goal = inference.explain(world.render(), 4, generator)
    world.set_blocks([red])
    return inference, world, inference.explain(world.render(), 3, generator), goal


def draw_in(world: StackWorld) -> Draw:
    def draw(drops: Sequence[Drop]) -> NDArray[np.uint8]:
        return np.stack([world.render_block_in_air(d.shape, d.rgb, d.position, d.yaw) for d in drops])
    return draw


@pytest.mark.parametrize('cost', OBJECTIVES)
def test_a_block_is_cheaper_over_its_place_than_elsewhere(pair: tuple, cost: str) -> None:
    inference, world, now, goal = pair
    planner = StackPlanner(inference.model, ['cube'], DROP_BOUNDS, stage_camera(), DEPTH, StackConfig(
        cost=cost, around=False, search=SearchConfig('cem', 1, 1, 1)))
    shades = goal.scene.colours[0, list(goal.things)] * goal.scene.masks[0, list(goal.things), None]
    blue, costs = int((shades[:, 2] - shades[:, 0]).sum((1, 2)).argmax()), []
    for x in (0.8, 0.0):
        drop = np.array([x, DEPTH, 0.5, *BLUE])
        planner.space = Space(drop, drop)
        plan = planner.plan(now, goal, [blue], draw_in(world), np.random.default_rng(0),
                            torch.Generator().manual_seed(0))
        assert plan.target == blue and plan.drop.position[0] == x
        costs.append(plan.cost)
    assert costs[0] < costs[1]


@pytest.mark.parametrize('cost', ['subimage', 'composite'])
def test_of_two_left_the_one_that_a_block_fills_is_told(pair: tuple, cost: str) -> None:
    inference, world, _, goal = pair
    world.set_blocks([])
    empty = inference.explain(world.render(), 2, torch.Generator().manual_seed(0))
    planner = StackPlanner(inference.model, ['cube'], DROP_BOUNDS, stage_camera(), DEPTH, StackConfig(
        cost=cost, order='cheapest', search=SearchConfig('cem', 20, 4, 2, spread=0.01)))
    plan = planner.plan(empty, goal, [0, 1], draw_in(world), np.random.default_rng(0), torch.Generator().manual_seed(0))
    at = goal.scene.masks[0, goal.things[plan.target]].sum(0)
    left = bool(at[:len(at) // 2].sum() > at[len(at) // 2:].sum())
    # The camera looks along -y: what is at +x is on the right.
    assert left == (plan.drop.position[0] < 0)
