"""Launch files as people start them; only where the packages launch and launch_ros are installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import Probe
from rcl_interfaces.srv import GetParameters

from object_centric_ros import cli
from object_centric_ros.datasets.episodes import EpisodeStore

pytest.importorskip('launch', reason='ros2 launch is not installed')
pytest.importorskip('launch_ros', reason='ros2 launch is not installed')

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService(noninteractive=True)
arguments = [word.split(':=', 1) for word in sys.argv[2:]]
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)]))
raise SystemExit(service.run())
"""


def environment(**more: str) -> dict[str, str]:
    prefix = os.pathsep.join(filter(None, (sys.prefix, os.environ.get('AMENT_PREFIX_PATH'))))
    return os.environ | {'AMENT_PREFIX_PATH': prefix} | more


def launch(name: str, *arguments: str) -> list[str]:
    return [sys.executable, '-c', PROGRAM, str(ROOT / 'launch' / f'{name}.launch.py'), *arguments]


def test_both_nodes_for_a_robot_of_ones_own(tmp_path: Path, probe: Probe) -> None:
    """Topics and the action are renamed, the camera's file counts before the others; Ctrl-C ends all in order."""
    camera = tmp_path / 'camera.yaml'
    camera.write_text('/**: {ros__parameters: {camera_position: [0.0, -0.9, 1.0], '
                      'camera_orientation: [0.9315, 0.0, 0.0, -0.3637]}}\n')
    words = launch('pick_place', 'namespace:=left', 'image:=/cam/image', 'pick_place:=/arm/pick_place',
                   f'camera_file:={camera}', 'device:=cpu')
    with (tmp_path / 'log').open('wb') as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment())
    ask = probe.node.create_client(GetParameters, '/left/pick_place_planner/get_parameters')
    try:
        assert ask.wait_for_service(60), (tmp_path / 'log').read_text()
        request = GetParameters.Request(names=['camera_position', 'device', 'autostart'])
        position, device, autostart = probe.call(ask.call_async(request), 60, 'answer').values
        assert list(position.double_array_value) == [0.0, -0.9, 1.0]
        assert (device.string_value, autostart.bool_value) == ('cpu', True)
        wanted = {'/cam/image', '/arm/pick_place/_action/feedback'}
        probe.wait(lambda: wanted <= {name for name, _ in probe.node.get_topic_names_and_types()}, 60, 'renamed topics')
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, (tmp_path / 'log').read_text()


def test_the_end_of_a_bag_ends_its_replay(tmp_path: Path) -> None:
    """`ros2 bag play` is given the topics that perception listens to; a stand-in for ros2 ends after a moment."""
    ros2 = tmp_path / 'ros2'
    ros2.write_text('#!/bin/sh\necho "ros2 $*"; sleep 1\n')
    ros2.chmod(0o755)
    done = subprocess.run(launch('replay', 'bag:=first', 'image:=/cam/image', 'record:=answers'), capture_output=True,
                          text=True, timeout=120, check=False,
                          env=environment(PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert 'ros2 bag play first --clock --rate 1.0 --topics /cam/image /camera_info' in said
    assert 'ros2 bag record -s mcap -o answers entities label_image overlay' in said


def test_collecting_is_stopped_and_goes_on(tmp_path: Path) -> None:
    folder, log = tmp_path / 'play', tmp_path / 'log'
    quick = tmp_path / 'tabletop_sim.yaml'
    quick.write_text('/**: {ros__parameters: {speed: 6.0, rate_hz: 10.0, image_width: 160, image_height: 120}}\n')
    words = launch('collect', f'folder:={folder}', 'targets:=positions', 'sim:=true', f'tabletop_sim_params:={quick}')

    def collect(actions: int) -> subprocess.Popen:
        with log.open('ab') as file:
            return subprocess.Popen([*words, f'actions:={actions}'], stdout=file, stderr=subprocess.STDOUT,
                                    env=environment())

    progress = folder / 'progress.json'
    first = collect(99)
    until = time.monotonic() + 120
    while not (progress.exists() and json.loads(progress.read_text())['next_action'] >= 4):
        assert first.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 0, log.read_text()
    done = json.loads(progress.read_text())['bags']['bag_0001']['executed']
    assert 3 <= done < 99
    assert collect(done + 3).wait(120) == 0, log.read_text()  # ends by itself
    assert f'{done + 3} of {done + 3} actions in 2 bags' in log.read_text()
    assert cli.main(['data', 'convert', str(folder), '--out', str(tmp_path / 'play.h5'), '--steps', '2', '--size',
                     '64']) == 0
    with EpisodeStore(tmp_path / 'play.h5') as store:
        assert len(store) in (done + 3, done + 4)  # the one that was stopped may have come to its end
        assert store.meta['source'] == ['bag_0001', 'bag_0002'] and store.action_format == 'pick_place_xy'
