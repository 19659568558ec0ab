"""The tabletop with the arm: some blocks go elsewhere, one of them onto another; the shipped weights, in one process.

The same planner, tracker and loop as the nodes run, without the middleware: perception sees a picture whenever the
loop asks for one, after the arm has come to rest. The judge reads the simulator at the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.benchmark_run import Job, Record, Result, share, table
from object_centric_ros.planning.commands import Command, Outcome
from object_centric_ros.planning.loop import BuildLoop
from object_centric_ros.planning.planner import Planner
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.simulation.tabletop_goals import GoalSpec
from object_centric_ros.tracking.entities import PickPlace, TrackedFrame
from object_centric_ros.tracking.tracker import EntityTracker

TRIES = 20
PERIOD = 0.1
"""Between two pictures (s)."""
LOOKS = 6
"""Pictures of the scene before the first plan."""


class Table:
    """The simulated table as the loop sees it: pictures in, commands out.

    Args:
        world: with the scene.
        tracker: a fresh one.
    """

    def __init__(self, world: TabletopWorld, tracker: EntityTracker) -> None:
        self.world, self.tracker = world, tracker
        self.action: PickPlace | None = None
        self.stamp, self.commands, self.hits = 0.0, 0, 0

    def observe(self) -> TrackedFrame:
        """The next picture, explained."""
        self.stamp += PERIOD
        frame = self.tracker.step(self.world.render(), self.action, self.stamp)
        self.action = None
        return frame

    def act(self, command: Command) -> Outcome:
        """The arm picks and places."""
        pick, place = command.pick[:2], command.place[:2]
        result = self.world.pick_place(pick, place)
        self.action = PickPlace(pick, place)
        self.commands, self.hits = self.commands + 1, self.hits + result.success
        return Outcome(result.success, result.message)


def sampled_goal(world: TabletopWorld, seed: int, moved: int, stack: int) -> GoalSpec:
    """The goal that the demo draws for this scene, with a tower of `stack` blocks; other draws where there is none.

    Raises:
        InputError: no draw gives a goal.
    """
    for attempt in range(TRIES):
        try:
            return world.goal(np.random.default_rng([seed, attempt, 7]), moved, stack)
        except InputError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError


def tabletop_work(job: Job) -> Result:
    """Build one goal."""
    settings, seed = job['settings'], job['seed']
    planner, weights, world = _planner(), _weights(), _world()
    world.reset(seed, settings['blocks'])
    goal, start = sampled_goal(world, seed, settings['moved'], settings['stack']), world.render()
    picture, started = world.render_goal(goal), time.perf_counter()
    planner.seed = seed
    wanted = planner.goal_from_image(picture)
    scene = Table(world, EntityTracker(*weights, device='cpu', seed=seed))
    for _ in range(LOOKS):
        scene.observe()
    outcome = BuildLoop(planner, wanted, scene.observe, scene.act).run()
    reached, errors = world.goal_reached(goal)
    record: dict[str, Any] = {
        'goal': job['goal'], 'seed': seed, 'settings': settings, 'moved': settings['moved'],
        'final': {'reached': float(reached), 'in_place': float((errors <= 0.03).mean())},
        'worst_mm': round(1000 * float(errors.max()), 1), 'believed': outcome.success, 'actions': scene.commands,
        'hits': scene.hits, 'reason': outcome.message or 'the goal holds', 'entities': len(wanted.entities),
        'planning_s': round(sum(p.seconds for p in outcome.history), 3), 'plans': len(outcome.history),
        'seconds': round(time.perf_counter() - started, 2), 'description': goal.description}
    return record, {'start': start, 'goal': picture, 'result': world.render()}


def tabletop_jobs(moved: Sequence[int], blocks: int, stack: int, episodes: int, seed: int, label: str) -> list[Job]:
    """One job for each goal, with a tower of `stack` blocks; more blocks where more are moved."""
    if not all(1 <= m <= 5 for m in moved) or not 2 <= blocks <= 5:
        raise InputError('--moved and --blocks', '1 to 5, and 2 to 5', (list(moved), blocks))
    if stack not in (0, 2, 3) or not all(stack <= m + 1 for m in moved):
        raise InputError('--stack', '0, 2 or 3, all but one of its blocks moved', f'{stack}, moved {list(moved)}')
    return [{'goal': f'{m}-{seed + i}' + (f'-stack{stack}' if stack != 2 else ''), 'seed': seed + i,
             'settings': {'label': label, 'moved': m, 'blocks': max(m, blocks), 'stack': stack}}
            for m in moved for i in range(episodes)]


def tabletop_table(records: Sequence[Record]) -> str:
    """Goals reached by the simulator's rule (each moved block within 3 cm, half a block, on every axis)."""
    header = ('setting', 'blocks', 'moved', 'stack', 'goals', 'reached %', 'se', 'blocks in place %',
              'actions per moved block', 'picks that hit %', 'right about it %', 'median worst error mm',
              'seconds each')
    rows = []
    for key in sorted({_kind(r) for r in records}):
        some = [r for r in records if _kind(r) == key]
        actions, hits = (sum(r[k] for r in some) for k in ('actions', 'hits'))
        rows.append((*key, len(some), *share([r['final']['reached'] for r in some]),
                     share([r['final']['in_place'] for r in some])[0], round(actions / (key[2] * len(some)), 2),
                     f'{100 * hits / actions:.1f} ({hits}/{actions})' if actions else '-',
                     share([r['believed'] == (r['final']['reached'] == 1) for r in some])[0],
                     round(float(np.median([r['worst_mm'] for r in some])), 1),
                     round(float(np.mean([r['seconds'] for r in some])), 1)))
    return table(header, rows)


def _kind(record: Record) -> tuple[str, int, int, int]:
    s = record['settings']
    return s['label'], s['blocks'], s['moved'], s['stack']


@cache
def _planner() -> Planner:
    return Planner.load(device='cpu')


@cache
def _weights() -> tuple[Any, dict[str, Any]]:
    planner = _planner()
    return planner.model, planner.record


@cache
def _world() -> TabletopWorld:
    return TabletopWorld()
