"""Goals and worlds with which something is wrong: each ends as it is written down here (docs/BENCHMARKS.md)."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.benchmark_tabletop import Table
from object_centric_ros.planning.commands import Command, Outcome
from object_centric_ros.planning.loop import BuildLoop
from object_centric_ros.planning.planner import Planner
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.entities import TrackedFrame
from object_centric_ros.tracking.tracker import EntityTracker


@pytest.fixture(scope='module')
def planner() -> Planner:
    return Planner.load(device='cpu', threads=1)


def table(seed: int, blocks: int) -> Table:
    world = TabletopWorld()
    world.reset(seed, blocks)
    return Table(world, EntityTracker.load(device='cpu', threads=1))


def seen(scene: Table) -> TrackedFrame:
    return [scene.observe() for _ in range(4)][-1]


def within(planner: Planner, command: Command) -> bool:
    x0, y0, x1, y1 = planner.config.work_area
    return bool(x0 <= command.place[0] <= x1 and y0 <= command.place[1] <= y1)


def test_a_goal_of_more_things_than_there_are_is_not_reached_and_ends_with_a_reason(planner: Planner) -> None:
    more, scene, commands = table(7004, 4), table(7003, 2), []
    wanted = planner.goal_from_image(more.world.render())
    assert len(wanted.entities) == 4

    def act(command: Command) -> Outcome:
        commands.append(command)
        return scene.act(command)
    outcome = BuildLoop(planner, wanted, scene.observe, act).run()
    assert not outcome.success and outcome.message
    assert len(commands) <= 2 * wanted.size and all(within(planner, c) for c in commands)


def test_a_goal_of_more_places_than_slots_is_refused(planner: Planner) -> None:
    frame = seen(table(7003, 2))
    slots = frame.masks.shape[0]
    places = {i: (-0.15 + 0.3 * i / slots, 0.0) for i in range(slots + 1)}
    with pytest.raises(InputError, match='goal: entity id'):
        planner.plan(frame, planner.goal_from_places(places))


def test_an_empty_table_as_goal_is_refused(planner: Planner) -> None:
    scene = table(7003, 2)
    scene.world.set_blocks(np.array([[0.6, 0.6, 0.03], [0.6, 0.7, 0.03]]), np.zeros(2))
    with pytest.raises(InputError, match='at least one entity'):
        planner.goal_from_image(scene.world.render())


def test_a_place_where_another_block_stands_is_freed_first(planner: Planner) -> None:
    scene = table(7003, 3)
    frame = seen(scene)
    first, second = frame.entities[:2]
    goal = planner.goal_from_places({first.id: second.position[:2]})
    before = scene.world.block_positions()
    a, b = (int(np.linalg.norm(before - np.array(e.position), axis=1).argmin()) for e in (first, second))
    outcome = BuildLoop(planner, goal, scene.observe, scene.act, max_plans=5).run()
    after = scene.world.block_positions()
    assert outcome.success and np.linalg.norm(after[a, :2] - before[b, :2]) < 0.03, outcome.message
    assert abs(after[a, 2] - 0.03) < 0.01 or np.linalg.norm(after[b, :2] - before[b, :2]) < 0.03


@pytest.mark.parametrize('silent', ['eyes', 'arm'])
def test_a_world_that_stops_answering_ends_the_build_with_its_error(planner: Planner, silent: str) -> None:
    scene, commands = table(7004, 3), []
    goal = planner.goal_from_image(scene.world.render_goal(scene.world.goal(3, 1, False)))

    def act(command: Command) -> Outcome:
        commands.append(command)
        if silent == 'arm':
            raise TimeoutError('the arm does not answer')
        return scene.act(command)

    def observe() -> TrackedFrame:
        if commands:
            raise TimeoutError('no frames')
        return scene.observe()
    with pytest.raises(TimeoutError, match='no frames' if silent == 'eyes' else 'the arm does not answer'):
        BuildLoop(planner, goal, observe, act).run()
    assert len(commands) == 1
