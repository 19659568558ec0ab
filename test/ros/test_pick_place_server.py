"""docs/PICK_PLACE_SERVER.md works: its server is taken out of the page, run, and treated as the planner does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Point
from harness import STATUS, Probe
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from object_centric_ros.action import PickPlace
from object_centric_ros.msg import ExecutedAction
from object_centric_ros.nodes.messages import nanoseconds

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'PICK_PLACE_SERVER.md'


stages: list[str] = []


@pytest.fixture(scope='module')
def client(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActionClient]:
    found = re.search(r'<!-- new: my_arm.py -->\n```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert found
    script = tmp_path_factory.mktemp('page') / 'my_arm.py'
    script.write_text(found.group(1))
    words = [sys.executable, str(script), '--ros-args', '-p', 'speed:=0.4']
    process = subprocess.Popen(words)
    probe.listen(ExecutedAction, 'executed_actions')
    probe.listen(JointState, 'joint_states')
    client = ActionClient(probe.node, PickPlace, 'pick_place')
    try:
        probe.wait(lambda: probe.heard['joint_states'], 60, 'joint states')
        yield client
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()


def goal(x: float = -0.1, frame: str = 'work_plane', **fields: float) -> PickPlace.Goal:
    return PickPlace.Goal(header=Header(frame_id=frame), entity_id=7, pick=Point(x=0.05, y=-0.08),
                          place=Point(x=x, y=0.1), **fields)


def send(client: ActionClient, probe: Probe, what: PickPlace.Goal) -> Any:
    stages.clear()
    return probe.ask(lambda: client.send_goal_async(what, lambda m: stages.append(m.feedback.stage)),
                     client.server_is_ready, 'pick_place').result()


def end(probe: Probe, handle: Any) -> tuple[str, PickPlace.Result]:
    answer = probe.call(handle.get_result_async(), 60, 'result of pick_place')
    return STATUS[answer.status], answer.result


def test_a_thing_is_carried_and_reported_before_the_end(client: ActionClient, probe: Probe) -> None:
    handle = send(client, probe, goal())
    second = end(probe, send(client, probe, goal()))
    assert second[0] == 'aborted' and 'under way' in second[1].message
    status, result = end(probe, handle)
    assert status == 'succeeded' and result.success
    np.testing.assert_allclose([result.achieved.x, result.achieved.y], [-0.1, 0.1], atol=1e-5)
    done = probe.wait(lambda: probe.heard['executed_actions'], 60, 'executed action')[-1]
    assert done.success and done.entity_id == 7 and done.header.frame_id == 'work_plane' and done.place.x == -0.1
    assert (done.finished.sec, done.finished.nanosec) > (done.started.sec, done.started.nanosec)
    home = probe.wait(lambda: np.allclose(probe.heard['joint_states'][-1].position[:3], (0.0, -0.35, 0.3)), 60, 'home')
    assert home


def test_the_gripper_keeps_to_the_greatest_speed(client: ActionClient, probe: Probe) -> None:
    done, states = len(probe.heard['executed_actions']), []
    heard = probe.node.create_subscription(JointState, 'joint_states', states.append, 10)
    assert end(probe, send(client, probe, goal(max_speed=0.2)))[0] == 'succeeded'
    action = probe.wait(lambda: probe.heard['executed_actions'][done:], 60, 'executed action')[-1]
    probe.node.destroy_subscription(heard)
    began, ended = nanoseconds(action.started), nanoseconds(action.finished)
    way = [s.position[:3] for s in states if began <= nanoseconds(s.header.stamp) <= ended]
    length = np.linalg.norm(np.diff(way, axis=0), axis=1).sum()
    assert length > 0.5 and length / (1e-9 * (ended - began)) <= 0.2


def test_a_cancel_is_obeyed_and_reported_as_a_failure(client: ActionClient, probe: Probe) -> None:
    before = len(probe.heard['executed_actions'])
    handle = send(client, probe, goal())
    probe.wait(lambda: 'reach' in stages, 60, 'first stage')
    handle.cancel_goal_async()
    status, result = end(probe, handle)
    assert status == 'canceled' and result.message == 'cancelled'
    probe.wait(lambda: len(probe.heard['executed_actions']) > before, 60, 'executed action')
    assert not probe.heard['executed_actions'][-1].success


@pytest.mark.parametrize('bad, words', [(goal(frame='base_link'), 'frame: expected work_plane'),
                                        (goal(x=0.4), 'place: expected within 0.2 m'),
                                        (goal(x=float('nan')), 'place: expected'),
                                        (goal(max_speed=-1.0), 'max_speed: expected m/s')])
def test_what_cannot_be_carried_out_is_refused_with_the_reason(client, probe, bad, words) -> None:
    before = len(probe.heard['executed_actions'])
    status, result = end(probe, send(client, probe, bad))
    assert status == 'aborted' and words in result.message and not result.success
    assert len(probe.heard['executed_actions']) == before
