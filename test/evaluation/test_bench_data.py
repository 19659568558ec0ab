"""Speed of making data: every data set names a world and preset that there are, and numbers that fit together."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from object_centric_ros.cli import main
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.bench_bags import KINDS, measure_bag
from object_centric_ros.evaluation.bench_data import SETS, add_arguments, measure, run
from object_centric_ros.evaluation.goal_pictures import Likeness, likenesses
from object_centric_ros.simulation.blocks_stack import StackWorld
from object_centric_ros.simulation.blocks_stage import Block
from object_centric_ros.simulation.generate import find_world


def test_the_sets_can_be_made() -> None:
    for data in SETS:
        world = find_world(data.world)
        world.config(**(world.presets[data.preset] if data.preset else {}))


def test_measuring() -> None:
    data = next(d for d in SETS if d.world == 'tetrominoes')
    rate = measure(data, workers=1, share=0.01)
    assert rate.frames == 600 and rate.made > rate.stored > 0 and rate.per_cpu > rate.stored_per_cpu > 0
    assert rate.gigabytes == pytest.approx(rate.size * 60_000 / 1e9)
    assert rate.hours == pytest.approx(60_000 / rate.stored / 3600)


@pytest.mark.parametrize('kind', KINDS)
def test_bags(kind: str) -> None:
    rate = measure_bag(kind, seconds=1.0)
    assert rate.images == 30 and rate.speed == pytest.approx(30 * rate.real_time)


@pytest.mark.parametrize('words', [['nowhere'], ['--share', '0'], ['--workers', '0']])
def test_impossible_measurements(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(InputError):
        run(parser.parse_args(words))


def test_goal_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world, rgb = StackWorld(), [0.9, 0.2, 0.1]
    scenes, images, labels = [], [], []
    for x in (-0.5, 0.5):
        block = {'shape': 'cube', 'position_m': [[x, 0, 1], [x, 0, 0.2]], 'axis_angle': [[0, 0, 1, 0]] * 2,
                 'rgb': [rgb] * 2}
        scenes.append({'blocks': [block]})
        for place in block['position_m']:
            world.set_blocks([Block('cube', tuple(place), tuple(rgb))])
            images.append(world.render())
            labels.append(world.render_labels())
    arrays = {'images': np.reshape(images, (2, 2, 64, 64, 3)), 'labels': np.reshape(labels, (2, 2, 64, 64))}
    np.savez(tmp_path / 'tower.npz', blocks=np.frombuffer(json.dumps(scenes).encode(), np.uint8), **arrays)
    np.savez(tmp_path / 'other.npz', z=np.zeros(3))
    assert likenesses(tmp_path / 'tower.npz') == [Likeness(0.0, 1.0, 1.0)] * 4
    assert main(['bench-data', '--goals', str(tmp_path)]) == 0
    arrays['images'][1, 0] = arrays['images'][0, 0]
    arrays['labels'][1, 0] = arrays['labels'][0, 0]
    np.savez(tmp_path / 'tower.npz', blocks=np.frombuffer(json.dumps(scenes).encode(), np.uint8), **arrays)
    capsys.readouterr()
    assert main(['bench-data', '--goals', str(tmp_path)]) == 1
    assert '4 pictures, 1 with' in capsys.readouterr().out
    assert main(['bench-data', '--goals', str(tmp_path / 'none')]) == 2
