"""interaction_collector with the simulator: what it records is what it counts, whatever happens to it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from harness import Nodes, Probe

from object_centric_ros import cli
from object_centric_ros.datasets.collection import Collection
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.msg import EntityArray, ExecutedAction

SIM, PERCEPTION, COLLECTOR = 'tabletop_sim', 'entity_perception', 'interaction_collector'
FAST = {'speed': 12.0, 'n_blocks': 3, 'rate_hz': 10.0, 'image_width': 160, 'image_height': 120}
SLOW = FAST | {'speed': 2.0}


@pytest.fixture(scope='module')
def robot(nodes: Nodes, probe: Probe) -> None:
    """The simulator, perception by colour, and ears."""
    nodes.start(SIM, **SLOW)
    nodes.start(PERCEPTION, scripted=True)
    probe.listen(ExecutedAction, 'executed_actions')
    probe.listen(EntityArray, 'entities')
    probe.wait(lambda: probe.heard['entities'], 200, 'entities')


def start(nodes: Nodes, folder: Path, **parameters: object) -> subprocess.Popen:
    return nodes.start(COLLECTOR, folder=folder, **parameters)


def told(probe: Probe, name: str) -> int:
    """A fact on /diagnostics; -1 before there is one."""
    status = probe.statuses.get(COLLECTOR)
    return int({v.key: v.value for v in status.values}.get(name, -1)) if status else -1


def begun(probe: Probe, folder: Path, actions: int) -> None:
    """Wait until the collector has begun so many actions."""
    path = folder / 'progress.json'
    probe.wait(lambda: json.loads(path.read_text())['next_action'] >= actions, 120, f'action {actions}')


def converted(folder: Path, tmp_path: Path) -> list[EpisodeStore]:
    """The bags as episodes of one action each, by the command that people use."""
    stores = []
    for i, bag in enumerate(sorted(folder.glob('bag_*'))):
        out = tmp_path / f'{i}.h5'
        assert cli.main(['data', 'convert', str(bag), '--out', str(out), '--steps', '2', '--size', '64']) == 0
        stores.append(EpisodeStore(out))
    return stores


def test_killed_in_the_middle_it_goes_on_and_every_action_becomes_an_episode(robot, nodes, probe, tmp_path):
    folder, heard = tmp_path / 'play', len(probe.heard['executed_actions'])
    start(nodes, folder, actions=5)
    probe.wait(lambda: told(probe, 'actions') >= 2, 300, 'two actions')
    begun(probe, folder, 4)
    nodes.kill(COLLECTOR)
    assert not (folder / 'bag_0001' / 'metadata.yaml').exists()
    again = start(nodes, folder, actions=5)  # at once: the arm is still moving, and this is waited for
    assert again.wait(400) == 0, nodes.log()
    assert json.loads((folder / 'progress.json').read_text())['refused'] == 0
    assert '5 of 5 actions in 2 bags' in nodes.log() and 'recovered after a recording that was killed' in nodes.log()
    stores = converted(folder, tmp_path)
    assert len(stores) == 2 and sum(len(s) for s in stores) == 5 and len(stores[0]) >= 2
    commands = np.concatenate([s.read(slice(0, len(s)), ['actions'])['actions'][:, 0] for s in stores])
    assert len(np.unique(commands, axis=0)) == 5  # nothing was repeated
    done = [(a.pick.x, a.pick.y, a.place.x, a.place.y) for a in probe.heard['executed_actions'][heard:]]
    assert all(np.abs(np.array(done) - c).sum(1).min() < 1e-6 for c in commands)
    assert np.abs(commands).max() <= 0.195


def test_what_is_complete_is_left_alone(robot, nodes, tmp_path):
    with Collection(tmp_path, seed=0) as collection:
        collection.new_bag().mkdir()
        (collection.bags[0] / 'metadata.yaml').touch()
        collection.count(True)
    assert start(nodes, tmp_path, actions=1).wait(200) == 0
    assert '1 of 1 actions in 1 bags' in nodes.log()
    assert [p.name for p in tmp_path.glob('bag_*')] == ['bag_0001']


def test_positions_need_no_perception_and_ctrl_c_finishes_the_bag(robot, nodes, probe, tmp_path):
    nodes.kill(PERCEPTION)
    folder = tmp_path / 'play'
    process = start(nodes, folder, actions=50, targets='positions', seed=1)
    probe.wait(lambda: told(probe, 'actions_wanted') == 50 and told(probe, 'actions') >= 1, 300, 'an action')
    begun(probe, folder, 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert '50 actions in 1 bags' in nodes.log() and 'interrupted' in nodes.log()
    with Collection(folder, seed=1) as collection:
        assert collection.recovered == [] and collection.executed >= 1
        executed = collection.executed
    (store,) = converted(folder, tmp_path)
    assert executed <= len(store) <= executed + 1  # the last one may have come to its end, but not to be counted


def test_without_fresh_entities_nothing_is_done(robot, nodes, probe, tmp_path):
    count = len(probe.heard['executed_actions'])
    assert start(nodes, tmp_path, actions=2, observation_timeout=1.5).wait(200) == 1
    assert 'stopped: entities: expected one at most 2 s old' in nodes.log()
    assert len(probe.heard['executed_actions']) == count
    nodes.start(PERCEPTION, scripted=True)
    probe.wait(lambda: probe.heard['entities'], 200, 'entities')


def test_refused_actions_are_counted_and_end_it(robot, nodes, tmp_path):
    far = start(nodes, tmp_path / 'far', actions=9, targets='positions', max_failures=2,
                work_area='[0.5, 0.5, 0.6, 0.6]', report_timeout=0.3)
    assert far.wait(200) == 1
    assert '0 of 9 actions in 1 bags' in nodes.log() and '2 were refused' in nodes.log()
    assert 'stopped: 2 actions in a row failed; the last: pick position: expected x, y within 0.20 m' in nodes.log()
    progress = json.loads((tmp_path / 'far' / 'progress.json').read_text())
    assert (progress['next_action'], progress['refused']) == (2, 2)


@pytest.mark.parametrize('parameters, words', [
    ({'work_area': '[0.1, 0.0, -0.1, 0.1]'}, 'x_min < x_max'), ({'topics': 'image'}, 'image and executed_actions'),
    ({'max_failures': 0}, 'parameter max_failures: expected integer >= 1')])
def test_impossible_parameters_are_refused_at_once(nodes, tmp_path, parameters, words):
    assert start(nodes, tmp_path / 'play', **parameters).wait(200) == 2
    assert words in nodes.log() and not (tmp_path / 'play').exists()


def test_without_an_arm_it_says_so(robot, nodes, tmp_path):
    nodes.kill(SIM)
    assert start(nodes, tmp_path, actions=2, server_timeout=1.0, observation_timeout=2.0).wait(200) == 1
    assert 'PickPlace server: expected available within 1 s' in nodes.log() or 'expected a publisher' in nodes.log()
    assert not list(tmp_path.glob('bag_*/*'))
