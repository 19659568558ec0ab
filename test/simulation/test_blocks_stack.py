"""The stacking world: the released goal pictures again, physics, drops, training pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from golden import DATA

from object_centric_ros.errors import InputError
from object_centric_ros.simulation import blocks_stack, blocks_stage, blocks_view
from object_centric_ros.simulation.blocks_goals import read_stack_goals
from object_centric_ros.simulation.blocks_stack import (
    DROP_BOUNDS,
    SETTLE_S,
    STAGE,
    StackConfig,
    StackWorld,
    make_batch,
    upright_block,
)
from object_centric_ros.simulation.blocks_stage import SHAPES, Block

GOALS = DATA / 'op3' / 'stack_goals'
STRUCTURES = ('bridge', 'double-bridge', 'double-bridge-close', 'double-bridge-close-topfar', 'pyramid',
              'pyramid-triangle', 'spike', 'stacked', 'tall-bridge', 'three-shapes', 'towers')
needs_goals = pytest.mark.skipif(not GOALS.is_dir(), reason=f'no goal files in {GOALS} (set OBJECT_CENTRIC_DATA)')
RED = (0.9, 0.1, 0.1)


@pytest.fixture(scope='module')
def world() -> StackWorld:
    return StackWorld()


@needs_goals
@pytest.mark.parametrize('structure', STRUCTURES)
def test_golden_goal_scenes_look_as_stored(world: StackWorld, structure: str) -> None:
    goals = read_stack_goals(GOALS / f'{structure}.npz')
    assert len(goals) == 5
    for goal in goals:
        for blocks, image, labels in zip(goal.blocks, goal.images, goal.labels, strict=True):
            world.set_blocks(blocks)
            error = np.abs(world.render().astype(int) - image).mean()
            mine = world.render_labels()
            iou = ((mine > 0) & (labels > 0)).sum() / ((mine > 0) | (labels > 0)).sum()
            assert error <= 0.8 and iou >= 0.99 and (mine != labels).mean() <= 0.005, (error, iou)


@needs_goals
def test_golden_structures_stand(world: StackWorld) -> None:
    for structure in STRUCTURES:
        goal = read_stack_goals(GOALS / f'{structure}.npz')[0]
        world.set_blocks(goal.blocks[1])
        before = world.positions()
        world.settle(2.0)
        assert np.abs(world.positions() - before).max() < 0.1, structure


def test_same_seed_same_bits_in_any_batch() -> None:
    config = StackConfig(min_blocks=1, max_blocks=4)
    seeds = [(5, i) for i in range(4)]
    whole = make_batch(config, seeds)
    again = [make_batch(config, [seed]) for seed in reversed(seeds)]
    for i, one in enumerate(reversed(again)):
        for name, values in whole.items():
            assert np.array_equal(values[i], one[name][0], equal_nan=values.dtype.kind == 'f'), name
    assert not np.array_equal(whole['frames'][0], whole['frames'][1])


def test_pairs_hold_what_the_configuration_says() -> None:
    config = StackConfig(min_blocks=2, max_blocks=4)
    pairs = make_batch(config, [(1, i) for i in range(6)])
    n = (pairs['shapes'] < 255).sum(1)
    assert n.min() >= 2 and n.max() <= 4
    for i, count in enumerate(n):
        drop, last = pairs['drop'][i], count - 1
        assert SHAPES[int(drop[:3].argmax())] == SHAPES[pairs['shapes'][i, last]] and drop[:3].sum() == 1
        assert np.array_equal(drop[3:6], pairs['positions'][i, 0, last])
        assert np.array_equal(drop[10:], pairs['colours'][i, last])
        assert np.isnan(pairs['positions'][i, :, count:]).all() and np.isfinite(pairs['positions'][i, :, :count]).all()
        assert pairs['positions'][i, 1, last, 2] <= drop[5] + 1e-3
        assert pairs['labels'][i].max() <= count
        near = pairs['positions'][i, 1, :count]
        assert (near[:, 2] > -0.5).all()


@pytest.mark.parametrize('seed', range(3))
def test_drops_touch_nothing(world: StackWorld, seed: int) -> None:
    rng = np.random.default_rng(seed)
    world.reset(rng, 3)
    for _ in range(5):
        block = world.sample_drop(rng, world.blocks)
        assert not world.overlaps(block)
    low = replace(block, position=(0.0, -0.25, -0.4))
    assert world.overlaps(low)
    inside = Block('cube', world.blocks[0].position, RED)
    assert world.overlaps(inside)
    with pytest.raises(InputError, match='touches nothing'):
        world.drop(inside)


def test_a_step_is_the_drop_of_a_training_pair(world: StackWorld) -> None:
    config = StackConfig(min_blocks=3, max_blocks=3, timestep=world.timestep)
    pair = make_batch(config, [(4, 0)])
    world.set_blocks([Block(SHAPES[shape], tuple(place), tuple(rgb), tuple(turn)) for shape, place, rgb, turn in zip(
        pair['shapes'][0], pair['positions'][0, 0].astype(float), pair['colours'][0].astype(float),
        pair['quaternions'][0, 0].astype(float), strict=True)][:2])
    world.step(pair['drop'][0])
    assert len(world.blocks) == 3
    assert np.abs(world.positions() - pair['positions'][0, 1]).max() < 0.05
    with pytest.raises(InputError, match='13 numbers'):
        world.step(np.zeros(4))


def test_drop_bounds_are_used_where_nothing_is_below(world: StackWorld) -> None:
    world.set_blocks([])
    rng = np.random.default_rng(0)
    places = np.array([world.sample_drop(rng).position for _ in range(40)])
    low, high = np.array(DROP_BOUNDS).T
    assert (places >= low).all() and (places <= high).all()
    assert (np.ptp(places, axis=0) > 0.7 * (high - low)).all()


def test_a_dropped_cube_falls_by_gravity_and_rests_on_another(world: StackWorld) -> None:
    world.set_blocks([])
    world.drop(upright_block('cube', RED, (0, -0.25, 1.0)))
    assert np.allclose(world.positions()[0], [0, -0.25, -0.1], atol=2e-3)
    world.add_block(upright_block('cube', (0, 0, 1), (0.1, -0.25, 2.5)))
    world.settle(0.3)
    assert world.positions()[1, 2] == pytest.approx(2.5 - 9.81 * 0.3 ** 2 / 2, abs=5e-3)
    world.settle(SETTLE_S)
    assert np.allclose(world.positions()[1], [0.1, -0.25, 0.7], atol=0.02)


def test_stopping_at_rest_changes_nothing_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    world, finals = StackWorld(), []
    for speed in (blocks_stage.REST_SPEED, 0.0):  # no speed is below zero
        monkeypatch.setattr(blocks_stage, 'REST_SPEED', speed)
        scenes = []
        for x in (-1.0, 0.0, 0.3):
            world.set_blocks([upright_block('cube', RED, (0, -0.25, 0)),
                              upright_block('horizontal_rectangle', (0, 1, 0), (x, -0.25, 1))])
            world.settle(SETTLE_S)
            scenes.append((world.positions(), world.render(), world._data.time))
        finals.append(scenes)
    for (early, picture, time), (late, same_picture, full) in zip(*finals, strict=True):
        assert np.abs(early - late).max() < 1e-7 and np.array_equal(picture, same_picture)
        assert time <= full + 1e-9
    assert any(early[2] < 2 for early in finals[0]) and all(late[2] > 3.99 for late in finals[1])


def test_block_in_air_is_what_a_drop_begins_with(world: StackWorld) -> None:
    world.reset(4, 3)
    before, state = world.render(), world.state()
    shown = world.render_block_in_air('tetrahedron', (0.2, 0.9, 0.3), (1.5, -0.3, 2.0), 0.4)
    assert np.array_equal(world.render(), before) and not np.array_equal(shown, before)
    world.add_block(upright_block('tetrahedron', (0.2, 0.9, 0.3), (1.5, -0.3, 2.0), 0.4))
    assert np.array_equal(world.render(), shown)
    world.settle(1.0)
    after = world.render()
    other = StackWorld()
    other.restore(state)
    assert np.array_equal(other.render(), before)
    other.add_block(upright_block('tetrahedron', (0.2, 0.9, 0.3), (1.5, -0.3, 2.0), 0.4))
    other.settle(1.0)
    assert np.array_equal(other.render(), after) and np.array_equal(other.positions(), world.positions())


def test_labels_are_the_blocks(world: StackWorld) -> None:
    blocks = [upright_block(shape, rgb, (x, -0.25, 1)) for shape, rgb, x in
              zip(SHAPES, ((1, 0, 0), (0, 1, 0), (0, 0, 1)), (-1.2, 0, 1.4), strict=True)]
    world.set_blocks(blocks)
    picture, labels = world.render(), world.render_labels()
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    for i in range(3):
        inside = picture[labels == i + 1].astype(int)
        assert (inside.sum(0).argmax()) == i
        u = np.nonzero(labels == i + 1)[1].mean() + 0.5
        front = 5 - (-0.25 + 0.4)
        assert abs(u - (32 + blocks[i].position[0] / (front * np.tan(np.pi / 8)) * 32)) < 2
    area = [(labels == i + 1).sum() for i in range(3)]
    assert area[1] > 1.6 * area[0] > 2 * area[2]


def test_halved_is_a_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    weights = np.zeros((6, 12))
    for i in range(6):
        for j in range(12):
            weights[i, j] = max(0, 1 - abs(j + 0.5 - (2 * i + 1)) / 2)
    weights /= weights.sum(1, keepdims=True)
    expected = np.einsum('ij,jkc,lk->ilc', weights, picture.astype(float), weights)
    assert np.abs(blocks_view.halved(picture) - expected).max() <= 1.01
    labels = np.zeros((12, 12), np.uint8)
    labels[4, 7] = 3
    assert np.argwhere(blocks_view.halved_labels(labels) == 3).tolist() == [[1, 3], [1, 4], [2, 3], [2, 4]]


def test_two_stages_and_a_closed_view_do_not_disturb_each_other(world: StackWorld) -> None:
    world.reset(1, 3)
    before = world.render()
    other = blocks_view.BlocksView(replace(STAGE, drawn=64, upside_down=False))
    assert other.colours(world.blocks).shape == (64, 64, 3)
    assert np.array_equal(world.render(), before)
    other.close()
    assert np.array_equal(world.render(), before)


@pytest.mark.parametrize('wrong', [{'min_blocks': 0}, {'min_blocks': 4, 'max_blocks': 3}, {'on_top': 1.5},
                                   {'drop_s': 0.0}, {'max_blocks': 99}])
def test_impossible_configurations(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        StackConfig(**wrong)  # type: ignore[arg-type]


def test_bad_input() -> None:
    with pytest.raises(InputError, match='timestep'):
        StackWorld(timestep=0.1)
    with pytest.raises(InputError, match='shape'):
        Block('ball', (0, 0, 0), RED)
    with pytest.raises(InputError, match='rgb'):
        Block('cube', (0, 0, 0), (2, 0, 0))
    with pytest.raises(InputError, match='position'):
        Block('cube', (0, np.nan, 0), RED)
    with pytest.raises(InputError, match='quaternion'):
        Block('cube', (0, 0, 0), RED, (1, 1, 0, 0))
    with pytest.raises(InputError, match='number of blocks'):
        StackWorld().reset(0, 10)


@pytest.fixture
def goal_file(tmp_path) -> Iterator[dict]:  # type: ignore[type-arg, no-untyped-def]
    block = {'name': 'cube_0', 'shape': 'cube', 'position_m': [[0, 0, 1], [0, 0, 0]],
             'axis_angle': [[0, 0, 1, 0.5], [0, 0, 0, 0]], 'scale': [0.4, 0.4], 'rgb': [[1, 0, 0], [1, 0, 0]]}
    yield {'path': tmp_path / 'goal.npz', 'scenes': [{'file': '0.p', 'blocks': [block]}],
           'images': np.zeros((1, 2, 64, 64, 3), np.uint8), 'labels': np.zeros((1, 2, 64, 64), np.uint8)}


def _write(parts: dict, text: str | None = None, **arrays: np.ndarray) -> None:
    import json
    blocks = np.frombuffer((text or json.dumps(parts['scenes'])).encode(), np.uint8)
    np.savez(parts['path'], **{'images': parts['images'], 'labels': parts['labels'], 'blocks': blocks, **arrays})


def test_goal_files_are_read_and_refused(goal_file: dict) -> None:
    _write(goal_file)
    goal = read_stack_goals(goal_file['path'])[0]
    assert goal.blocks[0][0].quaternion == pytest.approx((np.cos(0.25), 0, 0, np.sin(0.25)))
    assert goal.blocks[1][0].quaternion == (1, 0, 0, 0)
    for text, arrays, says in (('{', {}, 'JSON'), ('{}', {}, 'a list'), (None, {'labels': np.zeros((2, 2))}, 'labels'),
                               ('[{"blocks": [{"shape": "cube"}]}]', {}, 'position_m')):
        _write(goal_file, text, **arrays)
        with pytest.raises(InputError, match=says):
            read_stack_goals(goal_file['path'])
    np.savez(goal_file['path'], images=goal_file['images'])
    with pytest.raises(InputError, match="\\['labels', 'blocks'\\]"):
        read_stack_goals(goal_file['path'])
    goal_file['path'].write_bytes(b'PK\x03\x04 torn')
    with pytest.raises(InputError, match='NumPy archive'):
        read_stack_goals(goal_file['path'])
    with pytest.raises(InputError, match='NumPy archive'):
        read_stack_goals(goal_file['path'].with_name('none.npz'))


def test_meta_names_no_actions() -> None:
    assert blocks_stack.meta(StackConfig())['action_format'] == 'none'
    assert set(make_batch(StackConfig(max_blocks=1), [(0, 0)])) == set(blocks_stack.FIELDS)
