"""What the arm must not do: forbidden places, commands without perception, blind repetition; and the stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Point
from harness import FakeCamera, Goals, Nodes, Probe
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionServer, GoalResponse
from rclpy.parameter import Parameter
from scripted import CAMERA
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from object_centric_ros.action import BuildGoal, PickPlace
from object_centric_ros.msg import EntityArray, EntityPlace, EntityRelation, ExecutedAction
from object_centric_ros.nodes.messages import nanoseconds
from object_centric_ros.simulation.arm import ArmIK
from object_centric_ros.simulation.tabletop_scene import TabletopConfig

SIM, PERCEPTION, PLANNER, COLLECTOR = 'tabletop_sim', 'entity_perception', 'pick_place_planner', 'interaction_collector'
FORBIDDEN = (0.05, 0.05, 0.15, 0.15)
PICTURE = np.full((480, 640, 3), 130, np.uint8)
PICTURE[200:250, 300:350] = (230, 30, 30)


@pytest.fixture(scope='module')
def goals(nodes: Nodes, probe: Probe) -> Goals:
    """Three nodes, of which the planner has a zone to keep out of."""
    nodes.start(SIM, seed=2, n_blocks=2, rate_hz=10.0, speed=2.0)
    nodes.start(PERCEPTION, scripted=True)
    nodes.start(PLANNER, scripted=True, settle_time=0.2, keep_out=str(list(FORBIDDEN)), heartbeat_timeout=1.0)
    probe.listen(EntityArray, 'entities')
    probe.listen(ExecutedAction, 'executed_actions')
    probe.wait(lambda: probe.heard['entities'] and len(probe.heard['entities'][-1].entities) == 2, 120, 'entities')
    return Goals(probe)


def ids(probe: Probe) -> list[int]:
    return [e.id for e in probe.heard['entities'][-1].entities]


def place(entity: int, x: float, y: float) -> BuildGoal.Goal:
    return BuildGoal.Goal(places=[EntityPlace(entity_id=entity, place=Point(x=x, y=y))])


def far_from_blocks(probe: Probe) -> tuple[float, float]:
    """A place that is allowed and free."""
    there = np.array([[e.position.x, e.position.y] for e in probe.heard['entities'][-1].entities])
    corners = np.array([(-0.1, -0.1), (-0.1, 0.1), (0.1, -0.1)])
    x, y = corners[np.linalg.norm(corners[:, None] - there[None], axis=-1).min(1).argmax()]
    return float(x), float(y)


def test_a_goal_in_a_forbidden_zone_is_refused(goals, probe):
    status, result = goals.run(place(ids(probe)[0], 0.1, 0.1))
    assert status == 'aborted' and 'is in the keep-out zone 0.05, 0.05, 0.15, 0.15' in result.message
    assert not probe.heard['executed_actions']


def test_a_command_into_a_forbidden_zone_is_not_sent(goals, probe):
    relation = EntityRelation(kind='within', entity_id=ids(probe)[0], region=[0.06, 0.06, 0.14, 0.14])
    status, result = goals.run(BuildGoal.Goal(relations=[relation]))
    assert status == 'aborted' and 'place at (0.100, 0.100) is in the keep-out zone' in result.message
    assert not probe.heard['executed_actions']
    probe.counted(PLANNER, 'commands_refused', 1, 60)


def by_service(probe: Probe) -> None:
    client = probe.node.create_client(Trigger, f'/{PLANNER}/stop')
    answer = probe.ask(lambda: client.call_async(Trigger.Request()), client.service_is_ready, 'stop').result()
    assert answer.success


def by_topic(probe: Probe) -> None:
    publisher = probe.node.create_publisher(Empty, 'stop', 10)
    probe.wait(publisher.get_subscription_count, 60, 'who obeys the stop')
    before = probe.count(PLANNER, 'stops')
    probe.again(lambda: publisher.publish(Empty()), lambda: probe.count(PLANNER, 'stops') > before, 60, 'stop')


@pytest.mark.parametrize('pull, words', [(by_service, 'stopped by the service stop'),
                                         (by_topic, 'stopped by the topic stop')])
def test_the_stop_ends_the_action_under_way(goals, probe, pull: Callable[[Probe], None], words):
    done = len(probe.heard['executed_actions'])
    handle = goals.send(place(ids(probe)[0], *far_from_blocks(probe)))
    probe.wait(lambda: any(f.stage == 'act' for f in goals.feedback), 60, 'command')
    pull(probe)
    status, result = goals.end(handle)
    assert status == 'aborted' and result.message == words
    stopped = probe.wait(lambda: probe.heard['executed_actions'][done:], 60, 'end of the action')
    assert len(stopped) == 1
    assert goals.run(place(ids(probe)[0], *far_from_blocks(probe)))[0] == 'succeeded'  # and it goes on when told to


def set_live(probe: Probe, node: str, **values: float) -> None:
    client = probe.node.create_client(SetParameters, f'/{node}/set_parameters')
    request = SetParameters.Request(parameters=[Parameter(k, value=v).to_parameter_msg() for k, v in values.items()])
    answer = probe.ask(lambda: client.call_async(request), client.service_is_ready, 'set_parameters').result()
    assert all(r.successful for r in answer.results), answer


def test_the_gripper_keeps_to_the_greatest_speed(goals, probe):
    limit, ik, states = 0.4, ArmIK(TabletopConfig()), []
    heard = probe.node.create_subscription(JointState, 'joint_states', states.append, 10)
    set_live(probe, PLANNER, max_speed=limit)
    entity = ids(probe)[0]
    status, result = goals.run(place(entity, *far_from_blocks(probe)), 120)
    set_live(probe, PLANNER, max_speed=0.0)
    assert status == 'succeeded', result
    probe.node.destroy_subscription(heard)
    done = probe.heard['executed_actions'][-1]
    began, ended = nanoseconds(done.started), nanoseconds(done.finished)
    way = [ik.palm(np.array(s.position[:6])) for s in states if began <= nanoseconds(s.header.stamp) <= ended]
    length = np.linalg.norm(np.diff(way, axis=0), axis=1).sum()
    assert length > 0.5 and length / (1e-9 * (ended - began)) <= limit


def test_a_stop_when_nothing_is_under_way_says_so(goals, probe):
    client = probe.node.create_client(Trigger, f'/{PLANNER}/stop')
    answer = probe.ask(lambda: client.call_async(Trigger.Request()), client.service_is_ready, 'stop').result()
    assert (answer.success, answer.message) == (True, 'nothing was under way')


def silent(probe: Probe, node: str, who: str) -> bool:
    return f'{who} gives no sign of life' in getattr(probe.statuses.get(node), 'message', '')


def test_perception_and_planner_miss_each_other(goals, nodes, probe):
    nodes.kill(PERCEPTION)
    probe.wait(lambda: silent(probe, PLANNER, PERCEPTION), 60, 'complaint of the planner')
    nodes.start(PERCEPTION, scripted=True)
    probe.wait(lambda: not silent(probe, PLANNER, PERCEPTION), 60, 'end of the complaint')
    nodes.kill(PLANNER)
    probe.wait(lambda: silent(probe, PERCEPTION, PLANNER), 60, 'complaint of perception')
    nodes.start(PLANNER, scripted=True, settle_time=0.2, heartbeat_timeout=1.0, belief_timeout=3.0)
    probe.wait(lambda: not silent(probe, PERCEPTION, PLANNER), 60, 'end of the complaint')


def test_who_is_deactivated_is_not_missed(goals, probe):
    probe.statuses.clear()
    assert probe.change_state(PERCEPTION, 'deactivate')
    status, result = goals.run(place(1, 0.0, 0.0))
    assert status == 'aborted' and 'entities at most 2 s old' in result.message
    assert not silent(probe, PLANNER, PERCEPTION)  # 3 s later


def test_the_collector_stops_and_keeps_its_bag(goals, nodes, probe, tmp_path):
    nodes.kill(PLANNER)
    process = nodes.start(COLLECTOR, folder=tmp_path, actions=50, targets='positions')
    done = len(probe.heard['executed_actions'])
    probe.wait(lambda: len(probe.heard['executed_actions']) > done, 120, 'an action')
    publisher = probe.node.create_publisher(Empty, 'stop', 10)
    probe.again(lambda: publisher.publish(Empty()), lambda: process.poll() is not None, 60, 'end of the collection')
    assert process.wait(60) == 1 and 'stopped: stopped by the topic stop' in nodes.log()
    assert (tmp_path / 'bag_0001' / 'metadata.yaml').exists()
    assert nodes.end() == [0, 0]


class FakeArm:
    """A PickPlace server that takes commands or not, and carries none of them out."""

    def __init__(self, probe: Probe, accepts: bool) -> None:
        self.asked: list[PickPlace.Goal] = []
        self._accepts = accepts
        self._server = ActionServer(probe.node, PickPlace, 'pick_place', self._execute, goal_callback=self._answer)

    def _answer(self, goal: PickPlace.Goal) -> GoalResponse:
        self.asked.append(goal)
        return GoalResponse.ACCEPT if self._accepts else GoalResponse.REJECT

    def _execute(self, handle: Any) -> PickPlace.Result:
        handle.abort()
        return PickPlace.Result(success=False, message='the gripper is jammed')

    def end(self) -> None:
        self._server.destroy()


def test_what_is_refused_or_fails_is_never_repeated_as_it_was(nodes, probe):
    nodes.start(PERCEPTION, scripted=True)
    nodes.start(PLANNER, scripted=True, settle_time=0.0)
    camera, goals = FakeCamera(probe, CAMERA), Goals(probe)
    camera.ready(60)
    for accepts, words in ((False, 'PickPlace rejected the command'), (True, '')):
        arm = FakeArm(probe, accepts)
        answer = goals.send(place(1, 0.1, 0.1)).get_result_async()
        probe.wait(lambda a=answer: camera.send(PICTURE) and a.done(), 60, 'end of the build')
        result = answer.result().result
        assert not result.success and words in result.message
        commands = [(g.entity_id, round(g.pick.x, 3), round(g.pick.y, 3), round(g.place.x, 3)) for g in arm.asked]
        assert 1 <= len(commands) <= 3 and len(set(commands)) == len(commands)
        assert accepts or len(commands) == 1
        arm.end()
    assert nodes.end() == [0, 0]
