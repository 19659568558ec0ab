"""What every flat world promises: seeds, the same bits in any batch, and fields that are as they say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from object_centric_ros.simulation import balls, sprites
from object_centric_ros.simulation.worlds import WORLDS

FLAT = [(name, preset) for name in ('balls', 'sprites', 'tetrominoes', 'invaders') for preset in WORLDS[name].presets]


def make(name: str, preset: str, seeds: list[tuple[int, int]]) -> dict[str, Any]:
    if name == 'invaders':
        pytest.importorskip('ale_py', reason='Space Invaders needs the optional package ale-py')
    world = WORLDS[name]
    return world.make_batch(world.config(**world.presets[preset]), seeds)


@pytest.mark.parametrize(('name', 'preset'), FLAT)
def test_bits_depend_on_seeds_only(name: str, preset: str) -> None:
    count = 4 if name == 'invaders' else 40
    seeds = [(5, i) for i in range(count)]
    whole = make(name, preset, seeds)
    for indices in ([3], list(range(1, count, 2)), list(range(count - 1, -1, -1))):
        part = make(name, preset, [seeds[i] for i in indices])
        assert part.keys() == whole.keys()
        for field, values in part.items():
            assert values.dtype == whole[field].dtype
            np.testing.assert_array_equal(values, whole[field][indices], err_msg=field)
    other = make(name, preset, [(6, i) for i in range(count)])
    assert all((other['frames'][i] != whole['frames'][i]).any() for i in range(count))
    assert len({frame.tobytes() for frame in whole['frames']}) == count


@pytest.mark.parametrize(('name', 'preset'), FLAT)
def test_fields_are_as_declared(name: str, preset: str) -> None:
    out, world = make(name, preset, [(0, i) for i in range(3)]), WORLDS[name]
    n, t, h, w, c = out['frames'].shape
    assert n == 3 and h == w and c in (1, 3) and out['frames'].dtype == np.uint8
    assert out['labels'].shape == (n, t, h, w) and out['labels'].dtype == np.uint8
    for field, values in out.items():
        shape = re.match(r'\[(.*?)\]', world.fields[field])
        assert shape, field
        symbols = shape[1].split(', ')
        assert values.ndim == len(symbols) + 1, field
        for symbol, size in zip(symbols, values.shape[1:], strict=True):
            known = {'T': t, 'T-1': t - 1, 'S': h}.get(symbol)
            assert size == (known if known is not None else int(symbol) if symbol.isdigit() else size), field
        assert values.dtype in (np.uint8, np.int16, np.uint16, np.float32), field
    if 'positions' in out:
        assert out['positions'].dtype == np.float32 and np.isfinite(out['positions'][..., 0, :]).all()


def test_interactive_worlds_and_episodes_are_the_same_thing() -> None:
    for name in ('balls', 'sprites'):
        world = {'balls': balls.BallsWorld, 'sprites': sprites.SpritesWorld}[name]()
        out = WORLDS[name].make_batch(world.config, [(1, 0), (1, 1)])
        world.reset([(1, 0), (1, 1)])
        np.testing.assert_array_equal(world.render()['frames'], out['frames'][:, 0])
        world.step()
        np.testing.assert_array_equal(world.render()['frames'], out['frames'][:, 1])
        world.reset([(1, 1), (1, 0)])
        np.testing.assert_array_equal(world.render()['labels'], out['labels'][::-1, 0])
