"""Going on from a snapshot: the same scene keeps its ids, another one does not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.nodes.state import load_state, save_state
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.resume import Resumption
from object_centric_ros.tracking.tracker import EntityTracker


@pytest.fixture(scope='module')
def tracker() -> EntityTracker:
    return EntityTracker.load(device='cpu', threads=1)


@pytest.fixture(scope='module')
def world() -> TabletopWorld:
    world = TabletopWorld()
    world.reset(3, 3)
    return world


@pytest.fixture(scope='module')
def saved(tracker: EntityTracker, world: TabletopWorld) -> dict:
    tracker.reset()
    image = world.render()
    for i in range(4):
        frame = tracker.step(image, stamp=0.1 * i)
    assert len(frame.entities) == 3
    return tracker.state_dict()


def ids(tracker: EntityTracker, image: np.ndarray, state: dict, stamp: float) -> tuple[bool, dict]:
    """(verdict, position by id) after a snapshot of an hour before was tried on an image."""
    tracker.reset()
    resumption = Resumption(tracker, state, stamp)
    for i in range(8):
        assert (verdict := resumption.verdict()) is None
        frame = tracker.step(image, stamp=stamp + 0.1 * i)
        if (verdict := resumption.verdict()) is not None:
            return verdict, {e.id: e.position for e in frame.entities if e.visible}
    raise AssertionError('no verdict')


def places(tracker: EntityTracker, saved: dict) -> dict:
    return {int(i): p for i, p in json.loads(saved['ledger'])['positions'].items()}


def test_the_same_scene_goes_on(tracker, world, saved):
    before = places(tracker, saved)
    verdict, now = ids(tracker, world.render(), saved, 3600.0)
    assert verdict and set(now) == set(before)
    assert all(np.linalg.norm(np.subtract(now[i], before[i])) < 0.01 for i in now)


def test_what_was_moved_meanwhile_is_found_again(tracker, saved):
    moved = TabletopWorld()
    moved.reset(3, 3)
    start = moved.block_positions()
    assert moved.teleport_pick_place(start[0, :2], (0.12, -0.13)).success
    before = places(tracker, saved)
    verdict, now = ids(tracker, moved.render(), saved, 3600.0)
    assert verdict and set(now) == set(before)
    of_block = min(before, key=lambda i: np.linalg.norm(np.subtract(before[i][:2], start[0, :2])))
    assert np.hypot(now[of_block][0] - 0.12, now[of_block][1] + 0.13) < 0.02


def test_an_empty_table_is_another_scene(tracker, saved):
    assert not ids(tracker, np.full((480, 640, 3), 128, np.uint8), saved, 3600.0)[0]


@pytest.mark.parametrize('seed', [40, 41, 42])
def test_other_things_elsewhere_are_another_scene(tracker, saved, seed):
    other = TabletopWorld()
    other.reset(seed, 2)
    assert not ids(tracker, other.render(), saved, 3600.0)[0]


def test_a_file_gives_back_what_was_written(tracker, world, saved, tmp_path):
    path = tmp_path / 'new' / 'state.safetensors'
    save_state(path, saved, 77, tracker.camera)
    state, session, camera, age = load_state(path)
    assert (session, camera.width) == (77, 640) and 0 <= age < 600 and set(state) == set(saved)
    assert [p.name for p in path.parent.iterdir()] == ['state.safetensors']
    assert ids(tracker, world.render(), state, 10.0)[0]


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: data[:100], lambda data: b'\xff' * 64,
    lambda data: data.replace(b'state/1', b'state/9'), lambda data: data.replace(b'"session":"77"', b'"session":"-7"')])
def test_a_damaged_file_is_one_clear_error(tracker, saved, tmp_path, damage):
    path = tmp_path / 'state.safetensors'
    save_state(path, saved, 77, tracker.camera)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match='state_file: expected'):
        load_state(path)


def test_a_snapshot_that_does_not_fit_leaves_a_tracker_that_works(tracker, world, saved):
    for wrong in ({**saved, 'mean': saved['mean'][:, :2]}, {**saved, 'ledger': '[]'}, {**saved, 'model_id': 'other'},
                  {**saved, 'mean': saved['mean'] * np.nan}):
        with pytest.raises(InputError, match='tracker state'):
            Resumption(tracker, wrong, 1.0)
        assert tracker.belief is None
    assert len([tracker.step(world.render(), stamp=0.1 * i) for i in range(4)][-1].entities) == 3
