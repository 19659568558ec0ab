"""Lifecycle and parameters of the nodes as processes: every transition, and what goes wrong in one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Point
from harness import FakeCamera, Goals, Nodes, Probe
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from scripted import CAMERA
from std_msgs.msg import Header

from object_centric_ros.action import BuildGoal
from object_centric_ros.msg import EntityArray, EntityPlace

PICTURE = np.full((480, 640, 3), 130, np.uint8)
PICTURE[200:250, 300:350] = (230, 30, 30)
PERCEPTION, PLANNER, COLLECTOR = 'entity_perception', 'pick_place_planner', 'interaction_collector'


class Managed:
    """A lifecycle node under test."""

    def __init__(self, probe: Probe, name: str) -> None:
        self._probe, self._clients = probe, {}
        self.name = name

    def call(self, kind: type, service: str, request: Any) -> Any:
        """The answer of one of its services."""
        if service not in self._clients:
            self._clients[service] = self._probe.node.create_client(kind, f'/{self.name}/{service}')
        client = self._clients[service]
        return self._probe.ask(lambda: client.call_async(request), client.service_is_ready, service, 60).result()

    @property
    def state(self) -> str:
        return self.call(GetState, 'get_state', GetState.Request()).current_state.label

    def change(self, label: str) -> bool:
        return self._probe.change_state(self.name, label)

    def set(self, name: str, value: Any) -> str:
        """Set a parameter; the reason of a refusal, empty if it was taken."""
        message: ParameterMessage = Parameter(name, value=value).to_parameter_msg()
        (result,) = self.call(SetParameters, 'set_parameters', SetParameters.Request(parameters=[message])).results
        return '' if result.successful else result.reason

    def comes(self, state: str) -> None:
        """Wait for a state."""
        self._probe.wait(lambda: self.state == state, 60, f'{self.name} {state}')


@pytest.fixture(scope='module')
def perception(nodes: Nodes, probe: Probe) -> Managed:
    nodes.start(PERCEPTION, scripted=True, autostart=False)
    probe.listen(EntityArray, 'entities')
    return Managed(probe, PERCEPTION)


@pytest.fixture(scope='module')
def camera(perception: Managed, probe: Probe) -> FakeCamera:
    return FakeCamera(probe, CAMERA)


def sees(camera: FakeCamera, probe: Probe, timeout: float = 60) -> EntityArray:
    """What perception says of an image that is sent now."""
    sent: list[Header] = []
    return probe.again(lambda: sent.append(camera.send(PICTURE)),
                       lambda: next((m for m in probe.heard['entities'] if m.header in sent), None), timeout, 'them')


def told(probe: Probe, name: str) -> str:
    """A value on /diagnostics."""
    return {v.key: v.value for v in probe.statuses[PERCEPTION].values}.get(name, '')


def test_it_goes_through_its_states_when_told_and_only_then(perception, camera, probe):
    subscribed = camera._images.get_subscription_count
    assert perception.state == 'unconfigured' and not subscribed()
    assert not perception.change('activate')  # not possible: refused, and the node lives
    assert not perception.change('fly')
    assert perception.change('configure') and perception.state == 'inactive' and not subscribed()
    assert perception.change('activate')
    camera.ready()
    first = sees(camera, probe)
    assert perception.state == 'active' and len(first.entities) == 1
    assert not perception.change('cleanup')
    assert perception.change('deactivate') and perception.state == 'inactive'
    probe.wait(lambda: not subscribed(), 60, 'end of the subscription')
    assert perception.change('activate')
    assert sees(camera, probe).session != first.session
    assert perception.change('deactivate') and perception.change('cleanup') and perception.state == 'unconfigured'
    assert perception.change('configure') and perception.change('activate')
    assert sees(camera, probe).model_id == 'scripted-1'


def test_parameters_of_an_active_node(perception, camera, probe):
    assert 'expected a node that is inactive or unconfigured (deactivate it first), got state active' in (
        perception.set('retire_after', 3.0))
    assert perception.set('overlay_rate', 2.0) == '' and perception.set('overlay_rate', 2) == ''
    assert 'overlay_rate' in perception.set('overlay_rate', -1.0)
    assert "'model', 'input'" in perception.set('label_image_size', 'huge')
    assert 'read-only' in perception.set('autostart', True)
    sees(camera, probe)


def test_another_model_without_losing_the_process(perception, camera, nodes, probe):
    process = nodes.running[PERCEPTION]
    assert sees(camera, probe).model_id == 'scripted-1'
    assert perception.change('deactivate') and perception.set('checkpoint', 'missing') == ''
    assert not perception.change('activate') and perception.state == 'inactive'
    probe.wait(lambda: 'no model: checkpoint: expected' in probe.statuses[PERCEPTION].message, 60, 'complaint')
    assert perception.set('checkpoint', 'scripted-9') == '' and perception.change('activate')
    assert sees(camera, probe).model_id == 'scripted-9'
    assert process.poll() is None
    probe.wait(lambda: told(probe, 'state') == 'active' and told(probe, 'model_id') == 'scripted-9', 60, 'diagnostics')


def test_an_error_that_nobody_foresaw_ends_unconfigured_and_is_recovered_from(perception, camera, probe):
    assert perception.change('deactivate') and perception.set('checkpoint', 'crash') == ''
    assert not perception.change('activate') and perception.state == 'unconfigured'
    probe.counted(PERCEPTION, 'lifecycle_errors')
    assert perception.set('checkpoint', '') == '' and perception.change('configure') and perception.change('activate')
    sees(camera, probe)


def test_a_model_that_fails_again_and_again_is_loaded_anew(perception, camera, probe):
    assert perception.change('deactivate') and perception.set('checkpoint', 'fails-late') == ''
    assert perception.change('activate')
    for times in (1, 2):
        probe.wait(lambda n=times: camera.send(PICTURE) and probe.count(PERCEPTION, 'recoveries') >= n, 60, 'recovery')
        perception.comes('active')


def test_shut_down_it_ends(perception, nodes):
    process = nodes.running[PERCEPTION]
    perception.comes('active')
    assert perception.change('shutdown')
    assert process.wait(60) == 0


def test_the_planner_refuses_goals_unless_it_is_active(nodes, probe):
    nodes.start(PLANNER, scripted=True, autostart=False)
    planner, goals = Managed(probe, PLANNER), Goals(probe)
    goal = BuildGoal.Goal(places=[EntityPlace(entity_id=1, place=Point())])
    status, result = goals.run(goal)
    assert status == 'aborted' and 'expected the state active, got unconfigured' in result.message
    assert planner.change('configure') and planner.change('activate')
    assert planner.set('belief_timeout', 50.0) == ''
    handle = goals.send(goal)
    probe.wait(lambda: goals.feedback, 60, 'a build that waits for entities')
    assert planner.change('deactivate')
    status, result = goals.end(handle)
    assert status == 'aborted' and 'the planner was deactivated' in result.message
    assert planner.change('activate') and planner.set('belief_timeout', 0.1) == ''
    status, result = goals.run(goal)
    assert status == 'aborted' and 'expected entities at most 2 s old' in result.message


def test_the_collector_waits_until_it_is_told(nodes, probe, tmp_path: Path):
    process: subprocess.Popen = nodes.start(COLLECTOR, autostart=False, folder=tmp_path / 'play', server_timeout=0.5)
    collector = Managed(probe, COLLECTOR)
    assert collector.state == 'unconfigured' and not (tmp_path / 'play').exists()
    assert collector.set('folder', str(tmp_path / 'other')) == ''
    assert collector.change('configure') and (tmp_path / 'other').exists()
    assert collector.change('cleanup') and collector.change('configure') and collector.change('activate')
    assert process.wait(60) == 1 and 'PickPlace server' in nodes.log()  # there is no arm


def test_qos_is_overridden_by_parameters(nodes, probe):
    nodes.start(PERCEPTION, scripted=True, **{'qos_overrides./image.subscription.reliability': 'reliable',
                                              'qos_overrides./image.subscription.depth': 3})

    def profiles() -> list[Any]:
        return [s.qos_profile for s in probe.node.get_subscriptions_info_by_topic('/image')]

    profile = probe.wait(profiles, 60, 'subscription')[0]
    assert profile.reliability.name == 'RELIABLE'
    assert set(nodes.end()) == {0}
