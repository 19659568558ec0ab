"""The planner with the shipped weights: goals from images and places, built in the simulator without ROS."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from object_centric_ros.errors import InputError
from object_centric_ros.models.registry import build_model
from object_centric_ros.planning.commands import Command, Outcome
from object_centric_ros.planning.goals import Goal
from object_centric_ros.planning.imagination import Imagination
from object_centric_ros.planning.loop import BuildLoop
from object_centric_ros.planning.planner import Planner
from object_centric_ros.planning.relations import Relation
from object_centric_ros.presets import load_preset
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.entities import Entity, PickPlace, TrackedFrame
from object_centric_ros.tracking.tracker import EntityTracker


@pytest.fixture(scope='module')
def planner() -> Planner:
    return Planner.load(device='cpu', threads=1)


class Table:
    """A world watched by a tracker, as the loop sees it."""

    def __init__(self, seed: int, blocks: int) -> None:
        self.world = TabletopWorld()
        self.world.reset(seed, blocks)
        self.tracker = EntityTracker.load(device='cpu', threads=1)
        self.stamp, self.action = 0.0, None

    def observe(self) -> TrackedFrame:
        self.stamp += 0.1
        frame = self.tracker.step(self.world.render(), self.action, self.stamp)
        self.action = None
        return frame

    def settled(self) -> TrackedFrame:
        return [self.observe() for _ in range(4)][-1]

    def act(self, command: Command) -> Outcome:
        result = self.world.pick_place(command.pick[:2], command.place[:2])
        self.action = PickPlace(command.pick[:2], command.place[:2])
        return Outcome(result.success, result.message)


@pytest.fixture(scope='module')
def table() -> Table:
    return Table(7004, 3)


@pytest.mark.parametrize(('seed', 'blocks', 'draw'), [
    (7009, 3, 9),
    pytest.param(119, 4, [119, 0, 7], id='on a block at the edge of the work area'),
])
def test_builds_the_goal_of_an_image_with_a_stack(planner: Planner, seed: int, blocks: int, draw: int | list[int]
                                                  ) -> None:
    table = Table(seed, blocks)
    goal = table.world.goal(np.random.default_rng(draw), 2, 2)
    wanted = planner.goal_from_image(table.world.render_goal(goal))
    outcome = BuildLoop(planner, wanted, table.observe, table.act).run()
    reached, errors = table.world.goal_reached(goal)
    assert outcome.success and reached, (outcome.message, errors)
    assert outcome.steps <= 4


def test_builds_what_relations_say(planner: Planner) -> None:
    table = Table(7009, 3)
    a, b, c = (e.id for e in table.settled().entities)
    goal = planner.goal_from_relations([Relation('on', a, b), Relation('left_of', c, b)])
    outcome = BuildLoop(planner, goal, table.observe, table.act).run()
    assert outcome.success and outcome.steps <= 4, (outcome.message, outcome.remarks)
    true = table.world.block_positions()
    ids = {e.id: int(np.linalg.norm(true - np.array(e.position), axis=1).argmin())
           for e in table.settled().entities if e.visible}
    top, base, side = (true[ids[i]] for i in (a, b, c))
    assert np.linalg.norm(top[:2] - base[:2]) < 0.03 and top[2] - base[2] == pytest.approx(0.06, abs=0.01)
    assert side[0] < base[0] - 0.05


def test_a_goal_that_holds_needs_no_command(planner: Planner, table: Table) -> None:
    goal = planner.goal_from_image(table.world.render())
    plan = planner.plan(table.settled(), goal)
    assert plan.reached and plan.commands == () and len(plan.imagined) == 1


def test_places_for_entities(planner: Planner, table: Table) -> None:
    frame = table.settled()
    entity = frame.entities[0]
    target = (-0.1, -0.1) if entity.position[0] > 0 else (0.1, -0.1)
    plan = planner.plan(frame, planner.goal_from_places({entity.id: target}))
    assert [c.entity_id for c in plan.commands] == [entity.id]
    assert plan.commands[0].place[:2] == pytest.approx(target) and plan.costs[-1] < plan.costs[0]


def test_same_seed_same_plan(planner: Planner, table: Table) -> None:
    goal = planner.goal_from_image(table.world.render_goal(table.world.goal(3, 1, False)))
    frame = table.settled()
    assert planner.plan(frame, goal, 1).commands == planner.plan(frame, goal, 1).commands


def test_imagined_pictures_are_close_to_what_happens(planner: Planner) -> None:
    table = Table(7003, 3)
    goal = planner.goal_from_image(table.world.render_goal(table.world.goal(1, 1, False)))
    frame = table.settled()
    plan = planner.plan(frame, goal, 1)
    table.act(plan.commands[0])
    after = table.settled()
    imagined, copied = (np.square(picture.astype(float) - after.image).mean()
                        for picture in (plan.imagined[1], frame.image))
    assert imagined < 0.5 * copied


def test_bad_goals_are_refused(planner: Planner, table: Table) -> None:
    with pytest.raises(InputError, match='at least one entity'):
        planner.goal_from_image(np.full((480, 640, 3), 128, np.uint8))
    with pytest.raises(InputError, match='got uint8'):
        planner.goal_from_image(np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(InputError, match='region of entity 1'):
        planner.goal_from_relations([Relation('within', 1, region=(0.5, 0.5, 0.6, 0.6))])
    with pytest.raises(InputError, match='place of entity 1'):
        planner.goal_from_places({1: (0.5, 0.0)})
    with pytest.raises(InputError, match='goal: entity id: expected among'):
        planner.plan(table.settled(), Goal.from_places({99: (0.0, 0.0)}))


def test_latents_of_another_model_are_refused(planner: Planner, table: Table) -> None:
    frame = dataclasses.replace(table.settled(), model_id='other')
    with pytest.raises(InputError, match='latents of model'):
        planner.plan(frame, Goal.from_places({1: (0.0, 0.0)}))


@pytest.mark.parametrize('preset', ['slot_attention_small', 'obai_dsprites'])
def test_models_that_do_not_know_pick_and_place_cannot_plan(preset: str) -> None:
    model = build_model(load_preset(preset))
    with pytest.raises(InputError, match='what a pick-and-place does'):
        Planner(model, {'camera': Planner.load(device='cpu', threads=1).camera.to_dict()}, device='cpu')


def test_a_model_without_a_camera_needs_one() -> None:
    model = build_model(load_preset('op3_released_pick_place'))
    with pytest.raises(InputError, match='camera: expected one with the model file'):
        Planner(model, {}, device='cpu')
    camera = Planner.load(device='cpu', threads=1).camera
    assert Planner(model, {}, camera, device='cpu').camera is camera


def test_imagines_with_another_papers_model() -> None:
    """Untrained OP3: begins from what travels between processes, predicts one slot's move, composes the pictures."""
    torch.manual_seed(0)
    model = build_model(load_preset('op3_released_pick_place')).eval()
    camera = Planner.load(device='cpu', threads=1).camera
    tracker = EntityTracker(model, {'camera': camera.to_dict()}, device='cpu')
    world = TabletopWorld()
    world.reset(7004, 2)
    tracker.step(world.render(), stamp=0.0)
    frame = tracker.step(world.render(), stamp=0.1)
    world.close()
    state = frame.background[1]
    entity = Entity(1, state, 0.9, True, (0.1, 0.0, 0.03), (300.0, 200.0), (0.0, 0.0, 9.0, 9.0), 80.0, (1.0, 0.0, 0.0))
    others = tuple(s for s in frame.background if s is not state)
    imagination = Imagination(model, camera, 0.03)
    now = imagination.begin(dataclasses.replace(frame, entities=(entity,), background=others))
    assert now.offset == len(others) == 3 and now.logits.shape[0] == 4
    after = imagination.apply(now, 0, np.array([-0.1, 0.1]), 0.03)
    assert not torch.equal(after.logits[3], now.logits[3]) and torch.equal(after.logits[:3], now.logits[:3])
    assert torch.allclose(after.scene().masks.sum(1), torch.ones(1, 64, 64), atol=1e-5)
