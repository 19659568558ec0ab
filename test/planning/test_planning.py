"""Costs, feasibility, search and the loop, without a trained model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from object_centric_ros.errors import InputError
from object_centric_ros.planning.cem import search
from object_centric_ros.planning.commands import Command, Outcome, Plan
from object_centric_ros.planning.costs import assignment_cost, picture_distances
from object_centric_ros.planning.feasibility import free_place, landing, squarely, supports
from object_centric_ros.planning.goals import Goal
from object_centric_ros.planning.loop import BuildLoop
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.planning.verification import DISTURBED, DONE, LOST, MISSED, SLID, from_another_side, verify
from object_centric_ros.tracking.entities import Entity, SlotState

CONFIG = PlannerConfig()
TABLE = np.array([[0.0, 0.0, 0.03], [0.1, 0.1, 0.03], [0.1, 0.1, 0.09]])


def test_picture_distance_is_zero_for_the_same_and_one_for_nothing() -> None:
    goal = torch.rand(2, 12)
    pictures = torch.stack([goal[0], torch.zeros(12), goal[1]])[None]
    distance = picture_distances(goal, pictures)[0]
    assert distance[0, 0] < 1e-5 and distance[1, 2] < 1e-5
    assert torch.allclose(distance[:, 1], torch.ones(2))


def test_what_is_not_seen_does_not_count() -> None:
    whole, goal, seen = torch.rand(1, 1, 12) + 0.5, torch.zeros(1, 12), torch.zeros(1, 12)
    goal[0, :6], seen[0, :6] = whole[0, 0, :6], 1.0
    assert float(picture_distances(goal, whole)) > 0.3
    assert float(picture_distances(goal, whole, seen)) < 1e-5


def test_assignment_uses_each_entity_once() -> None:
    costs, pairs = assignment_cost(np.array([[[0.0, 0.9], [0.1, 0.8]]], np.float32))
    assert pairs == [{0: 0, 1: 1}] and costs[0] == pytest.approx(0.8)
    lacking, _ = assignment_cost(np.array([[[0.2], [0.1]]], np.float32))
    assert lacking[0] == pytest.approx(1.1)


def test_supports() -> None:
    assert supports(TABLE, CONFIG) == [None, None, 1]


def test_landing() -> None:
    places = np.array([[-0.1, 0.0], [0.05, 0.0], [0.1, 0.1], [0.1, 0.13], [0.3, 0.0]])
    fine, height = landing(TABLE, 0, places, CONFIG)
    assert fine.tolist() == [True, True, True, False, False]
    assert height[[0, 2]] == pytest.approx([0.03, 0.15])
    assert squarely(TABLE, 0, np.array([0.11, 0.095]), CONFIG) == pytest.approx([0.1, 0.1])
    assert squarely(TABLE, 0, np.array([-0.1, 0.0]), CONFIG) == pytest.approx([-0.1, 0.0])


def test_free_place_is_clear_and_none_on_a_full_table() -> None:
    rng = np.random.default_rng(0)
    place = free_place(TABLE, 0, [(-0.1, -0.1)], CONFIG, rng)
    assert place is not None
    assert np.linalg.norm(TABLE[1:, :2] - place, axis=1).min() >= CONFIG.clearance
    assert np.linalg.norm(place - np.array([-0.1, -0.1])) >= CONFIG.clearance
    grid = np.stack(np.meshgrid(np.linspace(-0.17, 0.17, 8), np.linspace(-0.17, 0.17, 8)), -1).reshape(-1, 2)
    crowd = np.column_stack([grid, np.full(len(grid), 0.03)])
    assert free_place(crowd, 0, [], CONFIG, rng) is None


def test_search_finds_the_right_entity_and_place() -> None:
    target = np.array([0.08, -0.05])

    def score(which: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.where(which == 2, np.minimum(1, np.linalg.norm(places - target, axis=1) / 0.1), 1.5)
    entity, place, cost, count = search([0, 2, 3], score, CONFIG, np.random.default_rng(0))
    assert entity == 2 and cost < 0.1 and place == pytest.approx(target, abs=0.01)
    assert count == CONFIG.population * CONFIG.iterations
    again = search([0, 2, 3], score, CONFIG, np.random.default_rng(0))
    assert again[0] == entity and np.array_equal(again[1], place)


def test_search_where_nothing_is_possible() -> None:
    _, _, cost, _ = search([0], lambda which, places: np.full(len(which), np.inf), CONFIG, np.random.default_rng(0))
    assert cost == np.inf


def test_goals_want_exactly_one_kind() -> None:
    with pytest.raises(InputError, match='entities of a goal image, places'):
        Goal()
    with pytest.raises(InputError, match='finite'):
        Goal.from_places({1: (float('nan'), 0.0)})


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match='elites'):
        PlannerConfig(elites=500)
    with pytest.raises(InputError, match='work_area'):
        PlannerConfig(work_area=(0.1, 0, 0, 0.1))


class Script:
    """A planner whose plans are given; the scene itself does not matter to the loop."""

    def __init__(self, *plans: Plan) -> None:
        self.plans = list(plans)
        self.config = PlannerConfig()

    def plan(self, frame: object, goal: Goal) -> Plan:
        return self.plans.pop(0)


def a_plan(reached: bool = False, commands: int = 1) -> Plan:
    command = Command(1, (0, 0, 0.03), (0.1, 0, 0.03))
    images = np.zeros((commands + 1, 4, 4, 3), np.uint8)
    return Plan((command,) * commands, (1.0,) * (commands + 1), images, 0.1, reached, 10, 0.1)


class Frame:
    """Enough of a frame for the loop."""

    def __init__(self, *entities: Entity) -> None:
        self.entities = entities


def run(*plans: Plan, result: Outcome | None = None, cancelled: bool = False,
        max_plans: int = 0) -> tuple[Outcome, list[Command]]:
    done: list[Command] = []

    def act(command: Command) -> Outcome:
        done.append(command)
        return result or Outcome(True, '')
    loop = BuildLoop(Script(*plans), Goal.from_places({1: (0.1, 0.0)}), Frame, act, cancelled=lambda: cancelled,
                     max_plans=max_plans)  # type: ignore[arg-type]
    return loop.run(), done


def test_loop_stops_when_reached() -> None:
    outcome, done = run(a_plan(), a_plan(reached=True))
    assert outcome.success and outcome.steps == 1 and len(done) == 1


def test_goal_that_holds_needs_no_command() -> None:
    outcome, done = run(a_plan(reached=True))
    assert outcome.success and outcome.steps == 0 and not done


def test_loop_gives_up_after_two_plans_a_thing() -> None:
    outcome, done = run(*[a_plan() for _ in range(9)])
    assert not outcome.success and 'not reached after 2 plans' in outcome.message and len(done) == 2


def test_loop_gives_up_when_nothing_helps_and_says_what_failed() -> None:
    failed = Outcome(False, 'nothing between the fingers')
    outcome, _ = run(a_plan(), a_plan(commands=0), a_plan(commands=0), result=failed, max_plans=5)
    assert not outcome.success and 'no command' in outcome.message and 'nothing between the fingers' in outcome.message


def test_loop_gives_up_when_nothing_gets_better() -> None:
    outcome, done = run(*[a_plan() for _ in range(9)], max_plans=9)
    assert not outcome.success and 'nothing has come closer' in outcome.message
    assert len(done) == PlannerConfig().patience


def seen(name: int, *xy: float, visible: bool = True) -> Entity:
    state = SlotState(name, np.zeros(2), np.zeros(2), np.zeros(0))
    return Entity(name, state, 0.9, visible, (*xy, 0.03), (0.0, 0.0), (0.0, 0.0, 1.0, 1.0), 9.0, (1.0, 0.0, 0.0))


@pytest.mark.parametrize(('kind', 'after'), [
    (DONE, [seen(1, 0.11, 0.0), seen(2, -0.1, 0.0)]),
    (MISSED, [seen(1, 0.01, 0.01), seen(2, -0.1, 0.0)]),
    (SLID, [seen(1, 0.1, 0.05), seen(2, -0.1, 0.0)]),
    (LOST, [seen(1, 0.1, 0.0, visible=False), seen(2, -0.1, 0.0)]),
    (LOST, [seen(2, -0.1, 0.0)]),
    (DISTURBED, [seen(1, 0.1, 0.0), seen(2, -0.1, 0.06)]),
    (DONE, [seen(1, 0.1, 0.0), seen(2, -0.1, 0.06, visible=False)]),
])
def test_what_became_of_a_command(kind: str, after: list[Entity]) -> None:
    before = [seen(1, 0.0, 0.0), seen(2, -0.1, 0.0)]
    assert verify(Command(1, (0.0, 0.0, 0.03), (0.1, 0.0, 0.03)), before, after, CONFIG).kind == kind


def test_another_side_is_away_from_the_neighbour_first_and_never_outside() -> None:
    command = Command(1, (0.0, 0.0, 0.03), (0.1, 0.0, 0.03))
    crowd = [seen(1, 0.0, 0.0), seen(2, 0.07, 0.0), seen(3, 0.0, -0.15)]
    assert from_another_side(command, 0, crowd, CONFIG) == command
    sides = {from_another_side(command, tries, crowd, CONFIG).pick[:2] for tries in (1, 2, 3, 4)}
    assert len(sides) == 4
    assert from_another_side(command, 1, crowd, CONFIG).pick == pytest.approx((-CONFIG.retry_offset, 0.0, 0.03))
    edge = Command(1, (-0.195, 0.0, 0.03), (0.1, 0.0, 0.03))
    assert from_another_side(edge, 1, crowd, CONFIG).pick[0] >= CONFIG.work_area[0] - CONFIG.margin


def test_what_is_missed_is_picked_from_another_side_and_then_given_up() -> None:
    frame, picks = Frame(seen(1, 0.0, 0.0)), []

    def act(command: Command) -> Outcome:
        picks.append(command.pick)
        return Outcome(False, 'nothing between the fingers')
    plans = [dataclasses.replace(a_plan(), costs=(1.0 - 0.1 * n, 0.0)) for n in range(9)]
    loop = BuildLoop(Script(*plans), Goal.from_places({1: (0.1, 0.0)}), lambda: frame, act, max_plans=9)
    outcome = loop.run()
    assert not outcome.success and outcome.message.startswith('entity 1 was missed 3 times')
    assert 'nothing between the fingers' in outcome.message and outcome.steps == len(outcome.remarks) == 3
    assert len(set(picks)) == 3 and picks[0] == (0, 0, 0.03)


def test_loop_waits_while_nothing_is_seen() -> None:
    frames = [Frame(seen(1, 0.0, 0.0, visible=False))] * 20 + [Frame(seen(1, 0.0, 0.0))] * 9
    planned = []

    class Watched(Script):
        def plan(self, frame: object, goal: Goal) -> Plan:
            planned.append(any(e.visible for e in frame.entities))  # type: ignore[attr-defined]
            return super().plan(frame, goal)
    loop = BuildLoop(Watched(a_plan(reached=True)), Goal.from_places({1: (0.1, 0.0)}), lambda: frames.pop(0),
                     lambda command: Outcome(True, ''))
    assert loop.run().success and planned == [True] and len(frames) == 8


def test_loop_is_cancelled() -> None:
    outcome, done = run(a_plan(), cancelled=True)
    assert not outcome.success and outcome.message == 'cancelled' and not done
