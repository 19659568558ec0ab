"""Speed of making data: every data set names a world and preset that there are, and numbers that fit together."""

from __future__ import annotations

import argparse

import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.bench_bags import KINDS, measure_bag
from object_centric_ros.evaluation.bench_data import SETS, add_arguments, measure, run
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
