"""The demo over real DDS: it builds a goal, writes everything down, names what fails, and leaves nothing behind."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from harness import SCRIPTED
from rosbags.highlevel import AnyReader

from object_centric_ros.errors import InputError
from object_centric_ros.nodes import demo
from object_centric_ros.nodes.demo_pictures import SIDE, plan_panels, video_frame
from object_centric_ros.nodes.demo_trial import sample_task
from object_centric_ros.nodes.drawing import draw_plan
from object_centric_ros.nodes.processes import NodeGroup
from object_centric_ros.simulation.tabletop import TabletopWorld


def options(*words: object) -> argparse.Namespace:
    """Options as the command line would give them."""
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args([str(w) for w in words])


def scripted(group: NodeGroup, args: argparse.Namespace) -> None:
    """Start nodes that need no training."""
    group.start('tabletop_sim', {'seed': args.seed, 'n_blocks': args.blocks, 'speed': args.speed, 'rate_hz': args.rate})
    group.start('entity_perception', {'overlay_rate': 10.0}, program=[str(SCRIPTED), 'entity_perception'])
    group.start('pick_place_planner', program=[str(SCRIPTED), 'pick_place_planner'])


def test_goals_are_built_judged_and_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, 'start_nodes', scripted)
    (tmp_path / 'mine.txt').write_text('stays')
    args = options('--out', tmp_path, '--trials', 2, '--blocks', 2, '--moved', 1, '--no-stack', '--speed', 6.0,
                   '--seed', 3)
    status = demo.run(args)
    said = capsys.readouterr()
    assert status == 0, said.out + said.err
    assert '2 of 2 goals reached by ground truth' in said.out
    assert 'Trial 2 of 2, seed 4' in said.out and 'moves entity' in said.out
    assert {p.name for p in tmp_path.iterdir()} >= {'report.html', 'demo.mp4', 'bag', 'logs', 'mine.txt'}
    text = (tmp_path / 'report.html').read_text()
    assert 'http' not in text.replace('http-equiv', '') and text.count('What the planner imagined') == 2
    with AnyReader([tmp_path / 'bag']) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        first = next(reader.messages([c for c in reader.connections if c.topic == '/image']))
        image = reader.deserialize(first[2], first[0].msgtype)
    assert (image.height, image.width) == (480, 640)  # type: ignore[attr-defined]
    for topic in ('/image', '/camera_info', '/joint_states', '/entities', '/label_image', '/overlay', '/plan',
                  '/executed_actions', '/ground_truth/blocks', '/demo/progress'):
        assert counts[topic] > 0, topic


def test_a_node_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    def blind(group: NodeGroup, args: argparse.Namespace) -> None:
        group.start('tabletop_sim', {'n_blocks': args.blocks})
        group.start('entity_perception', {'checkpoint': '/nowhere/model.safetensors'})
        group.start('pick_place_planner', program=[str(SCRIPTED), 'pick_place_planner'])

    monkeypatch.setattr(demo, 'start_nodes', blind)
    assert demo.run(options('--out', tmp_path, '--patience', 12)) == 1
    said = capsys.readouterr().err
    assert 'entity_perception is running, but entities (entities) did not come' in said
    assert 'existing .safetensors file' in said  # the end of its log


def mine(marker: str) -> list[int]:
    """Processes that have the marker in their environment."""
    found = []
    for folder in Path('/proc').iterdir():
        try:
            if folder.name.isdigit() and f'DEMO_TEST={marker}'.encode() in (folder / 'environ').read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_its_nodes(tmp_path: Path, number: signal.Signals) -> None:
    marker = tmp_path.name
    demo_process = subprocess.Popen(
        [sys.executable, '-c', 'from object_centric_ros.cli import main; raise SystemExit(main())', 'demo', '--out',
         str(tmp_path), '--checkpoint', __file__],
        env=os.environ | {'DEMO_TEST': marker}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert demo_process.stdout is not None
    logs = tmp_path / 'logs' / 'tabletop_sim.log'
    try:
        while demo_process.poll() is None and not (logs.is_file() and 'blocks' in logs.read_text()):
            with suppress(subprocess.TimeoutExpired):
                demo_process.wait(0.1)
        assert len(mine(marker)) > 1
        demo_process.send_signal(number)
        assert demo_process.wait(60) == 130, demo_process.stdout.read()
    finally:
        demo_process.kill()
        demo_process.wait(10)
        demo_process.stdout.close()
    assert mine(marker) == []


@pytest.mark.parametrize('words', [('--blocks', 6), ('--moved', 5), ('--trials', 0), ('--speed', 0), ('--require', 2),
                                   ('--checkpoint', '/nowhere.safetensors')])
def test_options_that_cannot_work_are_refused(tmp_path: Path, words: tuple) -> None:
    with pytest.raises(InputError, match=words[0]):
        demo.run(options('--out', tmp_path / 'out', *words))
    assert not (tmp_path / 'out').exists()


def test_verdict_needs_the_required_share() -> None:
    class Reached:
        def __init__(self, reached: bool) -> None:
            self.reached = reached

    trials = [Reached(i < 18) for i in range(20)]
    assert demo.verdict(trials, options('--trials', 20)) == 0  # type: ignore[arg-type]
    assert demo.verdict(trials, options('--trials', 20, '--require', 0.95)) == 1  # type: ignore[arg-type]
    assert demo.verdict(trials[:19] + trials[:1], options('--trials', 20, '--moved', 3)) == 0  # type: ignore[arg-type]
    assert demo.verdict(trials[:5], options('--trials', 20)) == 1  # type: ignore[arg-type]  # a run that was cut short


def test_the_same_seed_is_the_same_task() -> None:
    world = TabletopWorld()
    goals = [sample_task(world, seed, 4, 2, True) for seed in (5, 6, 5)]
    assert goals[0].description == goals[2].description != goals[1].description
    np.testing.assert_array_equal(goals[0].positions, goals[2].positions)
    assert len(goals[0].moved) == 2


def test_plan_pictures_are_taken_apart_and_filmed() -> None:
    frames = np.stack([np.full((64, 64, 3), v, np.uint8) for v in (10, 60, 110)])
    panels = plan_panels(draw_plan(np.full((64, 64, 3), 200, np.uint8), frames))
    assert panels.shape == (4, SIDE, SIDE, 3)
    assert [int(p[32, 32, 0]) for p in panels] == [200, 10, 60, 110]
    frame = video_frame(np.zeros((240, 320, 3), np.uint8), np.zeros((480, 640, 3), np.uint8), panels[2], 'title', ['a'])
    assert frame.shape == (480, 880, 3)
