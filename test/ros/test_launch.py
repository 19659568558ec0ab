"""collect.launch.py as people start it; only where the packages launch and launch_ros are installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def test_collecting_is_stopped_and_goes_on(tmp_path: Path) -> None:
    folder, log = tmp_path / 'play', tmp_path / 'log'
    quick = tmp_path / 'tabletop_sim.yaml'
    quick.write_text('/**: {ros__parameters: {speed: 6.0, rate_hz: 10.0, image_width: 160, image_height: 120}}\n')
    words = [sys.executable, '-c', PROGRAM, str(ROOT / 'launch' / 'collect.launch.py'), f'folder:={folder}',
             'targets:=positions', 'sim:=true', f'tabletop_sim_params:={quick}']
    prefix = os.pathsep.join(filter(None, (sys.prefix, os.environ.get('AMENT_PREFIX_PATH'))))

    def collect(actions: int) -> subprocess.Popen:
        with log.open('ab') as file:
            return subprocess.Popen([*words, f'actions:={actions}'], stdout=file, stderr=subprocess.STDOUT,
                                    env=os.environ | {'AMENT_PREFIX_PATH': prefix})

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
