"""Parameters: declared from dataclasses, checked, and the same in code and in config/."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from object_centric_ros.errors import InputError
from object_centric_ros.nodes import parameter_tables, transport
from object_centric_ros.nodes.entity_perception import PerceptionSettings
from object_centric_ros.nodes.interaction_collector import CollectorSettings
from object_centric_ros.nodes.parameters import declare, qos_from_parameters, watch
from object_centric_ros.nodes.pick_place_planner import PlannerSettings
from object_centric_ros.nodes.tabletop_sim import SimSettings

CONFIG = Path(__file__).parents[2] / 'config'


@pytest.fixture(scope='module')
def context() -> Iterator[rclpy.Context]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=int.from_bytes(os.urandom(2), 'big') % 100 + 1)
    yield context
    context.try_shutdown()


def declared(context: rclpy.Context, settings: type, **values: object):
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    node = Node('probe', context=context, parameter_overrides=overrides, start_parameter_services=False)
    try:
        return declare(node, settings), node.describe_parameters([f.name for f in dataclasses.fields(settings)])
    finally:
        node.destroy_node()


@pytest.mark.parametrize('settings', [PerceptionSettings, PlannerSettings, SimSettings, CollectorSettings])
def test_defaults_and_descriptors(context, settings):
    values, descriptors = declared(context, settings)
    assert values == settings()
    assert all(d.description and d.additional_constraints for d in descriptors)
    fixed = {f.name for f in dataclasses.fields(settings) if f.metadata['change'] == 'never'}
    assert {d.name for d in descriptors if d.read_only} == fixed


@pytest.mark.parametrize('name, settings', [('entity_perception', PerceptionSettings), ('tabletop_sim', SimSettings),
                                            ('pick_place_planner', PlannerSettings),
                                            ('interaction_collector', CollectorSettings)])
def test_the_parameter_files_are_complete_and_show_the_defaults(context, name, settings):
    text = (CONFIG / f'{name}.yaml').read_text()
    shown = yaml.safe_load(text)['/**']['ros__parameters']
    assert shown == {k: list(v) if isinstance(v, tuple) else v for k, v in vars(settings()).items() if v != ()}
    for field in dataclasses.fields(settings):
        assert f'{field.name}: ' in text
    arguments = ['--ros-args', '--params-file', str(CONFIG / f'{name}.yaml')]
    node = Node(name, namespace='robot', context=context, cli_args=arguments, start_parameter_services=False)
    assert declare(node, settings) == settings()
    node.destroy_node()


def test_the_tables_of_the_readme_are_those_of_the_descriptors(tmp_path, capsys):
    readme = CONFIG.parent / 'README.md'
    assert parameter_tables.main([str(readme), '--check']) == 0, capsys.readouterr().err
    assert all(f'<!-- parameters of {name} -->\n| parameter |' in readme.read_text() for name in parameter_tables.NODES)
    old = tmp_path / 'README.md'
    old.write_text(readme.read_text().replace('| `seed` | int | 0 |', '| `seed` | int | 1 |'))
    assert parameter_tables.main([str(old), '--check']) == 1 and 'out of date' in capsys.readouterr().err
    assert parameter_tables.main([str(old)]) == 0 and old.read_text() == readme.read_text()


@pytest.mark.parametrize('change, words', [
    ({'speed': 99.0}, 'speed.*range'), ({'speed': 'fast'}, 'parameter speed: expected number >= 0.05 <= 50, got .fast'),
    ({'seed': 5}, 'read-only')])
def test_a_change_is_checked_and_refused_with_the_reason(context, change, words):
    node = Node('probe', context=context, start_parameter_services=False)
    seen = [declare(node, SimSettings)]
    watch(node, SimSettings, seen.append)
    (result,) = node.set_parameters([Parameter(name, value=value) for name, value in change.items()])
    assert not result.successful and re.search(words, result.reason) and len(seen) == 1
    (result,) = node.set_parameters([Parameter('speed', value=3.0)])
    assert result.successful and seen[-1].speed == 3.0 and node.set_parameters([Parameter('use_sim_time', value=False)])
    node.destroy_node()


def test_what_needs_rest_is_refused_while_the_node_is_busy(context):
    node, busy = Node('probe', context=context, start_parameter_services=False), ['active']
    seen = [declare(node, PerceptionSettings)]
    watch(node, PerceptionSettings, seen.append, lambda: busy[0])
    (result,) = node.set_parameters([Parameter('checkpoint', value='other.safetensors')])
    assert not result.successful and 'deactivate it first), got state active' in result.reason
    assert node.set_parameters([Parameter('max_rate', value=5.0)])[0].successful and seen[-1].max_rate == 5.0
    busy[0] = ''
    assert node.set_parameters([Parameter('checkpoint', value='other.safetensors')])[0].successful
    assert (seen[-1].checkpoint, seen[-1].max_rate) == ('other.safetensors', 5.0)
    node.destroy_node()


def test_qos_that_makes_no_sense_is_one_clear_error(context):
    override = [Parameter('qos_overrides./image.publisher.reliability', value='perhaps')]
    node = Node('probe', context=context, parameter_overrides=override, start_parameter_services=False)
    with pytest.raises(InputError, match=r'qos_overrides of image: expected .*best_effort, got .*perhaps'), \
            qos_from_parameters('image') as options:
        node.create_publisher(Image, 'image', 1, qos_overriding_options=options)
    node.destroy_node()


def test_numbers_are_taken_for_what_they_are(context):
    values, _ = declared(context, SimSettings, speed=3)
    assert values.speed == 3.0 and isinstance(values.speed, float)
    values, _ = declared(context, PerceptionSettings, camera_position=[0, 1, 2])
    assert values.camera_position == (0.0, 1.0, 2.0)


@pytest.mark.parametrize('settings, name, value, words', [
    (SimSettings, 'speed', 'fast', 'number >= 0.05'), (SimSettings, 'n_blocks', 9, '<= 5'),
    (SimSettings, 'n_blocks', 2.5, 'integer'), (SimSettings, 'rate_hz', float('nan'), 'number'),
    (PerceptionSettings, 'label_image_size', 'huge', "'model', 'input'"),
    (PerceptionSettings, 'camera_position', [1.0, 2.0], 'of length 0 or 3'),
    (PlannerSettings, 'work_area', 1.0, 'list of numbers')])
def test_what_does_not_fit_names_the_parameter(context, settings, name, value, words):
    with pytest.raises(InputError, match=f'parameter {name}: expected .*{words}'):
        declared(context, settings, **{name: value})


@pytest.fixture
def bare(monkeypatch, tmp_path):
    for name in (*transport.PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS', 'RMW_IMPLEMENTATION', 'OMP_WAIT_POLICY',
                 'OMP_NUM_THREADS', 'MUJOCO_GL', 'HOME', 'ROS_LOG_DIR'):
        monkeypatch.setenv(name, '')  # so that what the test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_the_transport_for_images_is_set_unless_the_user_chose(bare):
    transport.prepare()
    assert Path(os.environ['FASTRTPS_DEFAULT_PROFILES_FILE']).name == 'fastdds.xml'
    assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE' and os.environ['ROS_LOG_DIR']


@pytest.mark.parametrize('name, value', [('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4'),
                                         ('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp'),
                                         ('FASTDDS_DEFAULT_PROFILES_FILE', '/mine.xml')])
def test_a_choice_of_the_user_stays(bare, name, value):
    bare.setenv(name, value)
    transport.prepare()
    assert 'FASTRTPS_DEFAULT_PROFILES_FILE' not in os.environ and os.environ[name] == value


def test_shared_memory_of_dead_processes_is_removed_and_that_of_living_ones_stays(tmp_path):
    for name in ('fastrtps_dead', 'fastrtps_alive', 'fastrtps_young', 'fastrtps_port7411'):
        (tmp_path / name).touch()
        (tmp_path / f'{name}_el').touch()
        if name != 'fastrtps_young':
            os.utime(tmp_path / f'{name}_el', (1.0, 1.0))
    with (tmp_path / 'fastrtps_alive_el').open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        assert transport.remove_dead_segments(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith('_el')) == [
        'fastrtps_alive', 'fastrtps_port7411', 'fastrtps_young']


def test_threads(bare):
    assert transport.threads_for(3) == 3
    assert 1 <= transport.threads_for(0) <= 4
    bare.setenv('OMP_NUM_THREADS', '7')
    assert transport.threads_for(0) == 7
