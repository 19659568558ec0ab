"""The tracker on the simulated table with the weights that the package ships."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.entities import PickPlace, TrackedFrame
from object_centric_ros.tracking.tracker import EntityTracker, choose_device

BLOCKS = 3


@pytest.fixture(scope='module')
def world() -> TabletopWorld:
    world = TabletopWorld()
    world.reset(4242, BLOCKS)
    return world


@pytest.fixture
def tracker() -> EntityTracker:
    return EntityTracker.load(device='cpu', threads=1)


def watch(tracker: EntityTracker, image: NDArray[np.uint8], frames: int, start: float = 0.0) -> TrackedFrame:
    for i in range(frames):
        frame = tracker.step(image, stamp=start + 0.1 * i)
    return frame


def places(frame: TrackedFrame) -> NDArray[np.float64]:
    return np.array([e.position for e in frame.entities if e.visible])


def worst_distance(frame: TrackedFrame, world: TabletopWorld) -> float:
    """Largest distance (m) of a block to its nearest entity."""
    return float(np.linalg.norm(world.block_positions()[:, None] - places(frame)[None], axis=-1).min(1).max())


def test_finds_every_block_where_it_is(tracker: EntityTracker, world: TabletopWorld) -> None:
    frame = watch(tracker, world.render(), 4)
    assert len(places(frame)) == BLOCKS
    assert worst_distance(frame, world) < 0.012
    assert set(np.unique(frame.label_image)) == {0, *(e.id for e in frame.entities)}
    assert np.allclose(frame.masks.sum(0), 1, atol=1e-4)


def test_what_is_predicted_is_seen_and_asking_changes_nothing(tracker: EntityTracker) -> None:
    world = TabletopWorld()
    world.reset(4243, 3)
    assert tracker.predicted() is None
    frame = watch(tracker, world.render(), 4)
    still = tracker.predicted()
    assert still is not None and still.shape == (64, 64, 3)
    assert np.square(still / 255 - frame.image / 255).mean() < 0.002
    block, place = world.block_positions()[0, :2], (0.0, 0.2)
    action = PickPlace((float(block[0]), float(block[1])), place)
    quiet = copy.deepcopy(tracker)
    expected = tracker.predicted(action)
    assert world.teleport_pick_place(block, place).success
    after = tracker.step(world.render(), action, 1.0)
    assert expected is not None
    errors = [np.square(picture / 255 - after.image / 255).mean() for picture in (expected, still)]
    assert errors[0] < 0.5 * errors[1], 'the action was not predicted'
    unasked = quiet.step(world.render(), action, 1.0)
    np.testing.assert_array_equal(places(after), places(unasked))


def test_bfloat16_tells_the_same_things_at_the_same_places(tracker: EntityTracker, world: TabletopWorld) -> None:
    exact = watch(tracker, world.render(), 4)
    reduced = watch(EntityTracker.load(device='cpu', threads=1, precision='bfloat16'), world.render(), 4)
    assert [e.id for e in reduced.entities] == [e.id for e in exact.entities]
    assert np.abs(places(reduced) - places(exact)).max() < 0.002
    assert (reduced.label_image != exact.label_image).mean() < 0.005
    assert np.sqrt(np.square(reduced.reconstruction - exact.reconstruction).mean()) < 0.01


def test_follows_a_pick_and_place_and_keeps_the_ids(tracker: EntityTracker, world: TabletopWorld) -> None:
    before = watch(tracker, world.render(), 4)
    with world.kept():
        picked = world.block_positions()[0]
        target = np.array([-0.12, 0.12]) if picked[0] > 0 else np.array([0.12, -0.12])
        world.pose_arm_over(picked[:2], np.random.default_rng(0))
        for i in range(5):
            tracker.step(world.render(), stamp=1 + 0.1 * i, robot_moving=True)
        world.home_arm()
        assert world.teleport_pick_place(picked[:2], target).success
        action = PickPlace((float(picked[0]), float(picked[1])), (float(target[0]), float(target[1])))
        tracker.step(world.render(), action, 2.0)
        after = watch(tracker, world.render(), 4, 2.1)
        assert {e.id for e in after.entities if e.visible} == {e.id for e in before.entities}
        assert worst_distance(after, world) < 0.015
        nearest = min(before.entities, key=lambda e: float(np.linalg.norm(np.array(e.position) - picked)))
        assert np.linalg.norm(np.array(after.entity(nearest.id).position[:2]) - target) < 0.015


def test_a_still_scene_gives_a_still_belief(tracker: EntityTracker, world: TabletopWorld) -> None:
    image = world.render()
    early, late = watch(tracker, image, 10), watch(tracker, image, 40, 1.0)
    assert [e.id for e in early.entities] == [e.id for e in late.entities]
    assert np.abs(places(early) - places(late)).max() < 0.005


def test_an_empty_table_has_no_entities(tracker: EntityTracker) -> None:
    grey = np.full((480, 640, 3), 128, np.uint8)
    assert watch(tracker, grey, 4).entities == ()


def test_goes_on_from_a_snapshot(tracker: EntityTracker, world: TabletopWorld) -> None:
    image = world.render()
    watch(tracker, image, 4)
    other = EntityTracker.load(device='cpu', threads=1)
    other.load_state_dict(tracker.state_dict())
    a, b = tracker.step(image, stamp=1.0), other.step(image, stamp=1.0)
    assert [(e.id, e.position) for e in a.entities] == [(e.id, pytest.approx(e.position, abs=1e-4)) for e in b.entities]
    with pytest.raises(InputError, match='of model'):
        other.load_state_dict({'model_id': 'another'})
    with pytest.raises(InputError, match='tensors of a belief and a ledger'):
        other.load_state_dict({'model_id': other.model_id, 'mean': np.zeros(3)})
    other.load_state_dict({})
    assert other.belief is None


def test_compiled_parts_give_the_same(tracker: EntityTracker, world: TabletopWorld) -> None:
    compiled = EntityTracker.load(device='cpu', threads=1, compiler='eager')
    image = world.render()
    a, b = watch(tracker, image, 3), watch(compiled, image, 3)
    assert places(a) == pytest.approx(places(b), abs=1e-3)


def test_bad_input_is_refused_and_survived(tracker: EntityTracker, world: TabletopWorld) -> None:
    image = world.render()
    with pytest.raises(InputError, match=r'uint8 \[480, 640, 3\], got uint8 \[64, 64, 3\]'):
        tracker.step(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match='uint8'):
        tracker.step(image.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match='finite seconds'):
        tracker.step(image, stamp=float('nan'))
    with pytest.raises(InputError, match='finite positions'):
        PickPlace((float('inf'), 0.0), (0.0, 0.0))
    assert len(watch(tracker, image, 3).entities) == BLOCKS


def test_unknown_device_and_entity(tracker: EntityTracker, world: TabletopWorld) -> None:
    with pytest.raises(InputError, match='device'):
        choose_device('tpu')
    with pytest.raises(InputError, match='entity id: expected one of'):
        watch(tracker, world.render(), 3).entity(77)
