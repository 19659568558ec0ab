"""What a goal picture shows: blocks of which little is seen, colours that are close, and what stays unexplained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from object_centric_ros.evaluation.benchmark_tabletop import Table, sampled_goal
from object_centric_ros.models.belief import Belief
from object_centric_ros.planning.goal_images import missing
from object_centric_ros.planning.goals import Goal, GoalEntity
from object_centric_ros.planning.imagination import Imagined
from object_centric_ros.planning.loop import BuildLoop
from object_centric_ros.planning.matching import alike
from object_centric_ros.planning.planner import Planner
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.tracker import EntityTracker

GREEN, ORANGE, YELLOW, DULL = (0.2, 0.8, 0.1), (0.83, 0.5, 0.05), (0.8, 0.73, 0.09), (0.75, 0.6, 0.07)


@pytest.fixture(scope='module')
def planner() -> Planner:
    return Planner.load(device='cpu', threads=1)


def test_a_block_of_which_the_goal_shows_a_sliver_is_put_there(planner: Planner) -> None:
    world = TabletopWorld()
    world.reset(5008, 4)
    goal = sampled_goal(world, 5008, 2, 2)
    wanted = planner.goal_from_image(world.render_goal(goal))
    assert len(wanted.entities) == 4 and not wanted.unexplained
    scene = Table(world, EntityTracker.load(device='cpu', threads=1))
    outcome = BuildLoop(planner, wanted, scene.observe, scene.act).run()
    reached, errors = world.goal_reached(goal)
    assert outcome.success and reached, (outcome.message, errors)


def test_what_the_goal_shows_and_no_entity_explains_must_be_seen(planner: Planner) -> None:
    """A tower is built as the goal shows it; what the goal also shows behind the tower is not there."""
    world = TabletopWorld()
    world.reset(7004, 3)
    scene = Table(world, EntityTracker.load(device='cpu', threads=1))
    frame = [scene.observe() for _ in range(4)][-1]
    holds = planner.goal_from_image(world.render())
    assert planner.plan(frame, holds).reached
    assert holds.image is not None
    image = holds.image.copy()
    image[2:8, 40:46] = 255, 0, 0
    hidden = replace(holds, image=image, unexplained=((43.0, 5.0),))
    plan = planner.plan(frame, hidden)
    assert not plan.reached and not plan.commands and '(43, 5)' in plan.remark
    outcome = BuildLoop(planner, hidden, scene.observe, scene.act).run()
    assert not outcome.success and '(43, 5)' in outcome.message and outcome.steps == 0


def test_what_is_missing_is_what_the_scene_shows_otherwise() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    image[10:16, 20:28] = 30, 200, 30
    entity = GoalEntity((0.0, 0.0, 0.03), GREEN, np.zeros((3, 64, 64), np.float32))
    goal = Goal((entity,), image=image, unexplained=((24.0, 13.0), (63.9, 63.9)))
    assert missing(goal, image, 0.08) == ()
    assert missing(goal, np.full_like(image, 128), 0.08) == ((24.0, 13.0),)
    assert missing(goal, np.roll(image, 2, 1), 0.08) == ()  # a little to the side
    assert missing(goal, np.roll(image, 12, 1), 0.08) == ((24.0, 13.0),)
    assert missing(replace(goal, unexplained=()), np.zeros_like(image), 0.08) == ()


def scene_of(*hues: tuple[float, float, float]) -> Imagined:
    n = len(hues)
    belief = Belief(torch.zeros(1, n, 2), torch.zeros(1, n, 2), torch.zeros(1, n, 0))
    return Imagined(belief, torch.zeros(n, 4, 4), torch.zeros(n, 3, 4, 4), np.zeros((n, 3)), tuple(range(n)), hues)


def goal_of(*colours: tuple[float, float, float]) -> Goal:
    return Goal(tuple(GoalEntity((0.0, 0.0, 0.03), c, np.zeros((3, 4, 4), np.float32)) for c in colours))


def test_close_colours_are_kept_apart_where_each_has_its_own_counterpart() -> None:
    config = PlannerConfig()
    same, difference = alike(scene_of(YELLOW, ORANGE, GREEN), goal_of(ORANGE, YELLOW, GREEN), config)
    assert difference[0, 0] < config.colour_tolerance  # close enough to be taken for each other otherwise
    assert same.tolist() == [[False, True, False], [True, False, False], [False, False, True]]
    # Without a yellow goal the yellow thing may be meant, and so may one between the two.
    assert alike(scene_of(YELLOW, GREEN), goal_of(ORANGE, GREEN), config)[0].tolist() == [[True, False], [False, True]]
    assert alike(scene_of(DULL, ORANGE), goal_of(ORANGE, YELLOW), config)[0][:, 0].all()
    # Things of one colour all stay possible.
    assert alike(scene_of(GREEN, GREEN), goal_of(GREEN, GREEN), config)[0].all()
