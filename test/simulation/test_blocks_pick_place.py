"""The pick-and-place world: the released goal pictures and recorded actions again, the pick rule, exact restarts."""

from __future__ import annotations

import numpy as np
import pytest
from golden import DATA

from object_centric_ros.errors import InputError
from object_centric_ros.simulation import blocks_stage
from object_centric_ros.simulation.blocks_goals import PickPlaceGoal, read_pick_place_goals
from object_centric_ros.simulation.blocks_pick_place import (
    DROP_Z,
    FIELDS,
    PICK_Z,
    REACH,
    WORKSPACE,
    PickPlaceConfig,
    PickPlaceWorld,
    make_batch,
)
from object_centric_ros.simulation.blocks_stack import StackWorld
from object_centric_ros.simulation.blocks_stage import Block
from object_centric_ros.simulation.tabletop import TabletopWorld

GOALS = DATA / 'op3' / 'pick_place_two_blocks.npz'
needs_goals = pytest.mark.skipif(not GOALS.is_file(), reason=f'no goal file {GOALS} (set OBJECT_CENTRIC_DATA)')


@pytest.fixture(scope='module')
def world() -> PickPlaceWorld:
    return PickPlaceWorld()


def _table(z: float = 0.6) -> list[Block]:
    return [Block('cube', (-1.5, 2, z), (0.9, 0.1, 0.1)), Block('cube', (1.5, 3, z), (0.1, 0.2, 0.9))]


def _iou(world: PickPlaceWorld, a: np.ndarray, b: np.ndarray) -> float:
    """Of the pixels that differ from the empty table."""
    blocks, state = (), world.state()
    world.set_blocks(blocks)
    empty = world.render().astype(int)
    world.restore(state)
    a, b = ((np.abs(x - empty) > 3).any(-1) for x in (a, b))
    return float((a & b).sum() / (a | b).sum())


@needs_goals
@pytest.mark.parametrize('index', range(10))
def test_golden_scenes_look_as_stored(world: PickPlaceWorld, index: int) -> None:
    goal = read_pick_place_goals(GOALS)[index]
    for blocks, image in ((goal.start, goal.frames[0]), (goal.goal, goal.goal_image)):
        world.set_blocks(blocks)
        picture = world.render()
        assert np.abs(picture.astype(int) - image).mean() <= 0.1
        assert _iou(world, picture, image) >= 0.99
        assert set(np.unique(world.render_labels())) == {0, 1, 2}


def _replay(world: PickPlaceWorld, goal: PickPlaceGoal) -> list[tuple[bool, bool]]:
    """Of each action, as long as the scene is the recorded one: was the place free, is the next frame the recorded."""
    world.set_blocks(goal.start)
    outcomes = []
    for action, frame in zip(goal.actions, goal.frames[1:], strict=True):
        block = world.picked(action[:3])
        others = world.positions() if block is None else np.delete(world.positions(), block, 0)
        free = block is None or bool(np.hypot(*(others[:, :2] - action[3:5]).T).min() > 1.7)
        world.step(action)
        outcomes.append((free, _iou(world, world.render(), frame) > 0.9))
        if not outcomes[-1][1]:
            break
    return outcomes


@needs_goals
def test_golden_recorded_actions_give_the_recorded_frames(world: PickPlaceWorld) -> None:
    outcomes = [o for goal in read_pick_place_goals(GOALS) for o in _replay(world, goal)]
    onto_free = [same for free, same in outcomes if free]
    assert len(onto_free) >= 25 and np.mean(onto_free) >= 0.95
    assert np.mean([same for _, same in outcomes]) >= 0.85


def test_a_pick_succeeds_by_the_rule_on_a_grid_of_offsets(world: PickPlaceWorld) -> None:
    world.set_blocks(_table())
    centre = world.positions()[0]
    for dx in np.linspace(-0.3, 0.3, 13):
        for dy in np.linspace(-0.3, 0.3, 13):
            for dz in (-0.25, -0.15, 0, 0.1, 0.25):
                offset = np.array([dx, dy, dz])
                expected = 0 if np.abs(offset).max() < REACH - 1e-9 else None
                if abs(np.abs(offset).max() - REACH) > 1e-6:
                    assert world.picked(centre + offset) == expected, offset


def test_random_picks_rarely_hit(world: PickPlaceWorld) -> None:
    world.set_blocks(_table())
    rng = np.random.default_rng(0)
    picks = np.column_stack([rng.uniform(*bounds, 100_000) for bounds in WORKSPACE])
    hits = [world.picked(p) for p in picks[:20_000]]
    for block in range(2):
        expected = (2 * REACH) ** 2 / np.prod([high - low for low, high in WORKSPACE])
        assert np.mean([h == block for h in hits]) == pytest.approx(expected, abs=0.0025)
        assert expected == pytest.approx(0.0107, abs=1e-4)


def test_what_is_picked_lands_where_it_is_placed_and_the_rest_stays(world: PickPlaceWorld) -> None:
    world.set_blocks(_table())
    assert world.pick_place((-1.5, 2.1), (0.2, 1.5)) == 0
    assert np.allclose(world.positions(), [[0.2, 1.5, 0.6], [1.5, 3, 0.6]], atol=2e-3)
    assert world.pick_place((0.2, 1.5, PICK_Z), (1.5, 3, 0.3)) == 0
    assert np.allclose(world.positions(), [[1.5, 3, 1.8], [1.5, 3, 0.6]], atol=5e-3)
    assert world.pick_place((-2, 2), (0, 0)) is None
    assert np.allclose(world.positions(), [[1.5, 3, 1.8], [1.5, 3, 0.6]], atol=5e-3)


def test_the_lower_block_can_be_drawn_from_a_stack(world: PickPlaceWorld) -> None:
    world.set_blocks([_table()[0], Block('cube', (-1.5, 2, 1.8), (0, 1, 0))])
    assert world.pick_place((-1.5, 2), (1.0, 2.0)) == 0
    assert np.allclose(world.positions(), [[1, 2, 0.6], [-1.5, 2, 0.6]], atol=5e-3)


def test_restored_worlds_go_on_bit_for_bit() -> None:
    first, second = PickPlaceWorld(), PickPlaceWorld()
    first.reset(3, 3)
    first.pick_place(first.positions()[0], first.positions()[1] + [0.3, 0.2, 0])
    first.add_block(Block('cube', (0, 2, DROP_Z), (1, 1, 1)))
    first.settle(0.4)  # in the air
    second.restore(first.state())
    for world in (first, second):
        world.settle(1.0)
        world.pick_place((0, 2), (1, 1))
    assert np.array_equal(first.positions(), second.positions())
    assert first.blocks == second.blocks and np.array_equal(first.render(), second.render())


def test_worlds_of_one_process_do_not_mind_each_other() -> None:
    def alone(seed: int) -> np.ndarray:
        world = PickPlaceWorld()
        world.reset(seed)
        world.pick_place(world.positions()[0], (0, 2))
        return world.render()

    expected = [alone(seed) for seed in range(2)]
    worlds, tower, table = [PickPlaceWorld(), PickPlaceWorld()], StackWorld(), TabletopWorld()
    tower.reset(0)
    picture = tower.render()
    for seed, world in enumerate(worlds):
        world.reset(seed)
    table.render(64, 64)
    for world in worlds:
        world.pick_place(world.positions()[0], (0, 2))
    assert all(np.array_equal(world.render(), image) for world, image in zip(worlds, expected, strict=True))
    table.close()
    assert all(np.array_equal(world.render(), image) for world, image in zip(worlds, expected, strict=True))
    assert np.array_equal(tower.render(), picture)


@needs_goals
def test_restart_from_a_goal_file_is_exact() -> None:
    goal = read_pick_place_goals(GOALS)[0]
    results = []
    for warm_up in (0, 2):
        world = PickPlaceWorld()
        for seed in range(warm_up):
            world.reset(seed, 2)
        world.set_blocks(goal.start)
        assert np.array_equal(world.positions(), [b.position for b in goal.start])
        for action in goal.actions:
            world.step(action)
        results.append(world.positions())
    assert np.array_equal(*results)


def test_same_seed_same_bits_in_any_batch() -> None:
    config = PickPlaceConfig(steps=3, max_blocks=3)
    seeds = [(5, i) for i in range(3)]
    whole = make_batch(config, seeds)
    assert set(whole) == set(FIELDS)
    for i in (2, 0, 1):
        one = make_batch(config, [seeds[i]])
        for name, values in whole.items():
            assert np.array_equal(values[i], one[name][0], equal_nan=values.dtype.kind == 'f'), name
    assert np.array_equal(whole['actions'], whole['pick_place'][..., [0, 1, 3, 4]])
    there = ~np.isnan(whole['positions'][:, 1:])
    moved = np.abs(np.diff(whole['positions'], axis=1)).max((2, 3), initial=0, where=there)
    assert ((moved > 0.05) <= whole['success']).all()


def test_stopping_at_rest_changes_nothing_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    config, seeds = PickPlaceConfig(steps=3), [(9, i) for i in range(12)]
    early = make_batch(config, seeds)
    monkeypatch.setattr(blocks_stage, 'REST_SPEED', 0.0)  # no speed is below zero
    full = make_batch(config, seeds)
    assert np.nanmax(np.abs(early['positions'] - full['positions'])) < 1e-6
    assert np.array_equal(early['frames'], full['frames']) and np.array_equal(early['labels'], full['labels'])


def test_actions_are_mixed_as_in_the_paper(world: PickPlaceWorld) -> None:
    world.set_blocks(_table())
    rng = np.random.default_rng(1)
    actions = np.array([world.sample_action(rng) for _ in range(4000)])
    positions = world.positions()
    hits = np.array([world.picked(a[:3]) is not None for a in actions])
    onto = (np.abs(actions[:, None, 3:5] - positions[:, :2]).max(-1) < 1e-9).any(1)
    assert hits.mean() == pytest.approx(0.7 + 0.3 * 0.0213 * 0.9, abs=0.02)
    assert onto.mean() == pytest.approx(0.4, abs=0.025) and hits[onto].all()
    offsets = np.abs(actions[hits, None, :3] - positions).max(-1).min(1)
    assert offsets.max() < REACH and np.quantile(offsets, 0.9) <= 0.1 + 1e-9


def test_colours_vary_and_frames_match_labels() -> None:
    episodes = make_batch(PickPlaceConfig(steps=2), [(2, i) for i in range(3)])
    assert np.ptp(episodes['colours'], axis=0).max() > 0.2
    for frame, labels, colours in zip(episodes['frames'][:, 0], episodes['labels'][:, 0], episodes['colours'],
                                      strict=True):
        for i, colour in enumerate(colours):
            seen = frame[labels == i + 1].astype(float)
            if len(seen):
                shade = seen @ colour / (colour @ colour) / 255
                assert np.abs(seen - 255 * shade[:, None] * colour).max() < 2 and shade.max() <= 0.76
        assert (np.abs(frame[labels == 0].astype(int) - 63) >= 62).all()  # black sky, gray floor


@pytest.mark.parametrize('wrong', [{'steps': 1}, {'min_blocks': 3}, {'max_blocks': 9}, {'to_block': 0.9},
                                   {'to_anywhere': -0.1}])
def test_impossible_configurations(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        PickPlaceConfig(**wrong)  # type: ignore[arg-type]


def test_bad_input(world: PickPlaceWorld) -> None:
    world.set_blocks(_table())
    for pick, place in (((0,), (0, 0)), ((0, np.nan), (0, 0)), ((0, 0), (0, 0, 0, 0))):
        with pytest.raises(InputError, match='point'):
            world.pick_place(pick, place)
    with pytest.raises(InputError, match='action'):
        world.step([0, 0, 0])
    with pytest.raises(InputError, match='number of blocks'):
        world.reset(0, 0)
