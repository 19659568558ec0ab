"""Processes that are killed, that run for long, and that must not hear each other."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import Point, PoseArray
from harness import Goals, Nodes, Probe
from sensor_msgs.msg import Image, JointState
from usage import Awake, Usage

from object_centric_ros.action import BuildGoal
from object_centric_ros.msg import EntityArray, EntityPlace
from object_centric_ros.nodes.messages import nanoseconds
from object_centric_ros.srv import ResetWorld

SIM, PERCEPTION, PLANNER = 'tabletop_sim', 'entity_perception', 'pick_place_planner'
CORNERS = np.array([(x, y) for x in (-0.11, 0.11) for y in (-0.11, 0.11)])


class Table:
    """Simulator, perception and planner with the shipped weights, and what they say."""

    def __init__(self, nodes: Nodes, probe: Probe, folder: Path, seed: int) -> None:
        self.nodes, self.probe = nodes, probe
        self.parameters: dict[str, dict[str, object]] = {
            SIM: {'seed': seed, 'n_blocks': 3, 'speed': 2.0},
            PERCEPTION: {'threads': 1, 'state_file': folder / 'state.safetensors', 'state_interval': 0.5},
            PLANNER: {'threads': 1}}
        for name in self.parameters:
            self.start(name)
        probe.listen(EntityArray, 'entities')
        probe.listen(JointState, 'joint_states')
        probe.listen(Image, 'image')
        probe.listen(PoseArray, 'ground_truth/blocks')

    def start(self, name: str) -> None:
        """Start a node as it was."""
        self.nodes.start(name, **self.parameters[name])

    def now(self) -> int:
        return int(self.probe.node.get_clock().now().nanoseconds)

    def newer(self, topic: str, moment: int, timeout: float = 120.0) -> float:
        """Wait for something that is stamped later than a moment (ns); returns the seconds since then."""
        heard = self.probe.heard
        self.probe.wait(lambda: heard[topic] and nanoseconds(heard[topic][-1].header.stamp) > moment, timeout, topic)
        return 1e-9 * (self.now() - moment)

    def all_seen(self, patience: float = 120.0) -> dict[int, np.ndarray]:
        """Positions by id, once all three blocks are visible; of those that are, when `patience` (s) is over."""
        moment, end = self.now(), time.monotonic() + patience

        def seen() -> dict[int, np.ndarray] | None:
            newest = self.probe.heard['entities'][-1] if self.probe.heard['entities'] else None
            if newest is None or nanoseconds(newest.header.stamp) < moment:
                return None
            visible = {e.id: np.array([e.position.x, e.position.y]) for e in newest.entities if e.visible}
            return visible if len(visible) == 3 or time.monotonic() > end else None
        return self.probe.wait(seen, patience + 60, 'entities')

    def another_scene(self, seed: int) -> None:
        """Begin anew with three blocks."""
        client = self.probe.node.create_client(ResetWorld, 'reset')
        request = ResetWorld.Request(seed=seed, n_blocks=3)
        self.probe.ask(lambda: client.call_async(request), client.service_is_ready, 'reset', 60)

    def goal(self, seen: dict[int, np.ndarray], turn: int) -> tuple[int, BuildGoal.Goal]:
        """An entity, and the goal to move it to a free corner."""
        entity = sorted(seen)[turn % len(seen)]
        others = np.array(list(seen.values()))
        x, y = CORNERS[np.linalg.norm(CORNERS[:, None] - others[None], axis=-1).min(1).argmax()]
        return entity, BuildGoal.Goal(places=[EntityPlace(entity_id=entity, place=Point(x=float(x), y=float(y)))])

    def under_way(self, goals: Goals, goal: BuildGoal.Goal) -> object:
        """The handle of a goal whose first command moves the arm."""
        handle = goals.send(goal)
        self.probe.wait(lambda: any(f.stage == 'act' for f in goals.feedback), 120, 'command')
        self.probe.wait(lambda: self.probe.heard['joint_states'], 60, 'joint states')
        home = np.array(self.probe.heard['joint_states'][-1].position[:6])
        self.probe.wait(lambda: np.abs(np.array(self.probe.heard['joint_states'][-1].position[:6]) - home).max() > 0.2,
                        60, 'motion')
        return handle

    def rests(self) -> None:
        """Wait until the arm has come to rest."""
        self.probe.wait(lambda: np.abs(self.probe.heard['joint_states'][-1].velocity).max() < 0.02, 60, 'arm at rest')


def spread(values: list[float]) -> str:
    return (f'median {np.median(values):.1f}, longest {max(values):.1f} s, within 5 s {sum(v <= 5 for v in values)} of '
            f'{len(values)}')


@pytest.mark.parametrize('name', [PERCEPTION, PLANNER, SIM])
def test_killed_in_the_middle_of_a_build(nodes: Nodes, probe: Probe, say: Callable[[str], None], tmp_path, request,
                                         name):
    kills, seed = request.config.getoption('--kills'), request.config.getoption('--robust-seed')
    table, goals = Table(nodes, probe, tmp_path, 5 + seed), Goals(probe)
    back: list[float] = []
    ends, kept = Counter[str](), 0
    for turn in range(kills):
        before = table.all_seen(30.0)
        if len(before) < 3:
            table.another_scene(100 + 50 * seed + turn)
            before = table.all_seen(30.0)
        entity, goal = table.goal(before, turn)
        handle = table.under_way(goals, goal)
        nodes.kill(name)
        moment = table.now()
        table.start(name)
        if name == SIM:
            back.append(table.newer('image', moment))
        elif name == PLANNER:
            probe.wait(lambda at=moment: probe.statuses.get(PLANNER) and active_since(probe, at), 120, 'planner')
            back.append(1e-9 * (table.now() - moment))
            table.rests()
            handle = goals.send(goal)
        else:
            back.append(table.newer('entities', moment))
        status, result = goals.end(handle, 200)
        assert status in ('succeeded', 'aborted') and (result.success or result.message), result
        ends['reached' if result.success else re.sub(r'[\d.]+', 'N', result.message)[:80]] += 1
        table.rests()
        after = table.all_seen(20.0)
        still = all(np.linalg.norm(after[i] - before[i]) < 0.04 for i in before if i != entity and i in after)
        kept += set(after) == set(before) and still
    ages = [float(a) for a in re.findall(r'seen ([\d.]+) s ago', nodes.log())]
    say(f'{name} killed {kills} times: back {spread(back)}; the same ids {kept} of {kills}; {dict(ends)}; '
        f'{len(ages)} commands on beliefs at most {max(ages):.2f} s old')
    assert max(ages) <= 2.0
    assert name == SIM or kept >= 0.9 * kills
    assert set(nodes.end()) == {0}


def active_since(probe: Probe, moment: int) -> bool:
    """Whether the planner has said on /diagnostics that it is active, in a message that is later than a moment (ns)."""
    status = probe.statuses.get(PLANNER)
    told = {v.key: v.value for v in status.values} if status else {}
    return told.get('state') == 'active' and probe.status_stamps.get(PLANNER, 0) > moment


def test_memory_threads_and_files_over_a_long_time(nodes: Nodes, probe: Probe, say: Callable[[str], None], tmp_path,
                                                   request):
    minutes = request.config.getoption('--minutes')
    table, goals = Table(nodes, probe, tmp_path, 5), Goals(probe)
    table.all_seen()
    awake, first, turn, half = Awake(), {}, 0, 0
    course: dict[str, list[float]] = {name: [] for name in nodes.running}  # MB, ten times in all
    while (passed := awake.seconds / 60) < minutes:
        for name, values in course.items():
            if passed >= len(values) * minutes / 10:
                values.append(round(Usage.of(nodes.running[name].pid).memory, 1))
        if not first and passed > min(5.0, minutes / 3):
            first, half = {name: Usage.of(p.pid) for name, p in nodes.running.items()}, turn
        seen = table.all_seen(20.0)
        if len(seen) < 3:
            table.another_scene(100 + turn)
            continue
        _, goal = table.goal(seen, turn)
        goals.end(goals.send(goal), 200)  # builds go on all the time, reached or not
        table.rests()
        turn += 1
    assert first and turn > half, 'too short a time'
    last = {name: Usage.of(p.pid) for name, p in nodes.running.items()}
    for name in last:
        grown = 100 * (last[name].memory / first[name].memory - 1)
        say(f'{name}: {first[name]} -> {last[name]} after {minutes:g} minutes and {turn} builds, {turn - half} of '
            f'them since the first value ({grown:+.1f} %), '
            f'shared memory {first[name].shared} -> {last[name].shared} files; course {course[name]} MB')
    for name in last:
        assert last[name].memory < 1.01 * first[name].memory, name
        assert last[name].threads <= first[name].threads + 1 and last[name].files <= first[name].files, name
        assert last[name].shared <= first[name].shared, name
    assert set(nodes.end()) == {0}


@pytest.mark.parametrize('apart', ['namespace', 'domain'])
def test_two_robots_do_not_see_each_other(tmp_path_factory, probe: Probe, say: Callable[[str], None], apart):
    small = {'rate_hz': 5.0, 'image_width': 160, 'image_height': 120}
    robots, probes = [], []
    domain = int(os.environ['ROS_DOMAIN_ID'])
    for number, blocks in ((0, 2), (1, 3)):
        robot = Nodes(tmp_path_factory.mktemp('robot'))
        environment = {'ROS_DOMAIN_ID': str(domain % 101 + number)} if apart == 'domain' else {}
        space = f'/robot_{number}' if apart == 'namespace' else ''
        words = {'__ns': space} if space else {}
        robot.start(SIM, environment=environment, remap=words, seed=3, n_blocks=blocks, **small)
        robot.start(PERCEPTION, scripted=True, environment=environment, remap=words)
        robots.append(robot)
        ears = Probe(domain % 101 + number) if apart == 'domain' else probe
        ears.listen(EntityArray, f'{space}/entities')
        probes.append((ears, f'{space}/entities', blocks))
    try:
        tell_apart(probes, say, apart)
    finally:
        ended = [robot.end() for robot in robots]
        for ears, _, _ in probes:
            if ears is not probe:
                ears.close()
    assert all(set(statuses) == {0} for statuses in ended)


def tell_apart(probes: list[tuple[Probe, str, int]], say: Callable[[str], None], apart: str) -> None:
    """Each of two topics comes from one perception, and they are not the same one."""
    all_sessions: set[int] = set()
    for ears, topic, blocks in probes:
        ears.wait(lambda e=ears, t=topic: len(e.heard[t]) >= 20, 120, 'entities')
        counts = Counter(len(m.entities) for m in ears.heard[topic])
        sessions = {m.session for m in ears.heard[topic]}
        say(f'{apart} of {blocks} blocks: entities seen {dict(counts)}, sessions {len(sessions)}')
        assert len(sessions) == 1
        all_sessions |= sessions
    assert len(all_sessions) == 2
