"""Scoring of ids, with trackers that are right or wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.persistence import block_ids, follow, persistence
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.entities import PickPlace, TrackedFrame


class Oracle:
    """A tracker that reads the world's labels; `shuffle` gives new ids at every frame, `blind` none."""

    def __init__(self, world: TabletopWorld, shuffle: bool = False, blind: bool = False) -> None:
        self.world, self.shuffle, self.blind = world, shuffle, blind
        self.frames = 0
        self.actions: list[PickPlace] = []

    def reset(self) -> None:
        """Begin anew."""
        self.frames = 0

    def step(self, image: NDArray[np.uint8], action: PickPlace | None = None, stamp: float = 0.0,
             robot_moving: bool = False) -> TrackedFrame:
        """Labels of the world as a frame."""
        assert image.shape == (480, 640, 3)
        self.frames += 1
        self.actions += [action] if action else []
        labels = self.world.model_labels(64).astype(np.uint16)
        labels[labels == 255] = 0
        labels[labels > 0] += 10 * self.frames if self.shuffle else 0
        if self.blind:
            labels[:] = 0
        none = np.zeros((0, 64, 64), np.float32)
        return TrackedFrame(stamp, 'oracle', (), (), labels, none, none, none, image, 0.0)


def test_block_ids_majority_and_conflicts() -> None:
    true = np.zeros((64, 64), np.uint8)
    true[:10, :10], true[20:30, :10], true[40:44, :4] = 1, 2, 3
    labels = np.zeros((64, 64), np.uint16)
    labels[:10, :10] = 7
    labels[20:26, :10] = 7
    assert block_ids(true, labels, 3) == {1: 7, 2: 0}  # 7 holds more of block 1; block 3 is too small to count
    labels[20:30, :10] = 8
    assert block_ids(true, labels, 3) == {1: 7, 2: 8}
    labels[:] = 0
    assert block_ids(true, labels, 3) == {1: 0, 2: 0}


@pytest.fixture(scope='module')
def world() -> TabletopWorld:
    return TabletopWorld()


def test_a_perfect_tracker_keeps_every_id(world: TabletopWorld) -> None:
    tracker = Oracle(world)
    result = follow(tracker, world, seed=1, blocks=3, actions=2)  # type: ignore[arg-type]
    assert result.held == 2 and result.actions >= 2 and result.frames == tracker.frames
    assert result.kept == result.visible == result.found > 0
    assert len(tracker.actions) == 2  # the tracker hears of the actions that moved something


@pytest.mark.parametrize(('shuffle', 'found'), [(True, True), (False, False)])
def test_lost_and_swapped_ids_are_not_kept(world: TabletopWorld, shuffle: bool, found: bool) -> None:
    tracker = Oracle(world, shuffle=shuffle, blind=not shuffle)
    result = follow(tracker, world, seed=1, blocks=2, actions=1)  # type: ignore[arg-type]
    assert result.kept == 0 and (result.found > 0) == found


def test_episodes_with_the_arm_and_bad_execution(world: TabletopWorld) -> None:
    tracker = Oracle(world)
    result = follow(tracker, world, seed=2, blocks=2, actions=1, execution='arm', fps=4.0)  # type: ignore[arg-type]
    assert result.kept == result.visible
    with pytest.raises(InputError, match='teleport or arm'):
        follow(tracker, world, seed=2, blocks=2, execution='wishing')  # type: ignore[arg-type]


def test_block_counts_take_turns() -> None:
    class Blind(Oracle):
        def __init__(self) -> None:
            pass

        def reset(self) -> None:
            """Nothing to forget."""

        def step(self, image: NDArray[np.uint8], *_: object, **__: object) -> TrackedFrame:  # type: ignore[override]
            """An empty frame."""
            none = np.zeros((0, 64, 64), np.float32)
            return TrackedFrame(0.0, 'blind', (), (), np.zeros((64, 64), np.uint16), none, none, none, image, 0.0)

    results = persistence(Blind(), 3, 1, seed=5, blocks=(2, 3))  # type: ignore[arg-type]
    assert [r.blocks for r in results] == [2, 3, 2]
    assert [r.seed for r in results] == [5, 6, 7]
