"""Readings of a frame from several guesses: the likeliest wins, and a wrong prediction does not cost the ids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.entities import PickPlace
from object_centric_ros.tracking.hypotheses import Reading, guesses, likeliest
from object_centric_ros.tracking.tracker import EntityTracker


@pytest.fixture
def tracker() -> EntityTracker:
    return EntityTracker.load(device='cpu', threads=1)


def reading(loss: float, anew: bool) -> Reading:
    belief = Belief(*[torch.zeros(1, 1, 1)] * 3)
    return Reading(None if anew else belief, belief, Scene(torch.zeros(1, 1, 3, 2, 2), torch.zeros(1, 1, 2, 2)), loss)


def test_a_reading_from_nothing_has_to_be_better_by_the_margin() -> None:
    tracked, anew = reading(-100.0, False), reading(-130.0, True)
    assert likeliest([tracked, anew], 50.0) is tracked
    assert likeliest([tracked, anew], 20.0) is anew
    assert likeliest([tracked, reading(-101.0, False)], 50.0).loss == -101.0


def test_the_second_guess_moves_the_picked_slot_alone(tracker: EntityTracker) -> None:
    belief = tracker.model.start(1, 4, torch.Generator().manual_seed(0))
    belief = replace(belief, mean=torch.rand(belief.mean.shape) - 0.5)
    action = torch.tensor([[1.0, -0.2, 0.1, 0.3, 0.4]])
    predicted, alone = guesses(tracker.model, belief, action, 2)
    assert torch.equal(alone.mean[:, 2], predicted.mean[:, 2]) and not torch.equal(predicted.mean, belief.mean)
    others = [0, 1, 3]
    assert torch.equal(alone.mean[:, others], belief.mean[:, others])
    assert len(guesses(tracker.model, belief, action, None)) == 1


@pytest.mark.parametrize('wrong', ['shuffled', 'lost'])
def test_a_wrong_prediction_does_not_cost_the_ids(tracker: EntityTracker, monkeypatch: pytest.MonkeyPatch,
                                                  wrong: str) -> None:
    """The dynamics put every slot onto its neighbour's place, or all of them out of the image."""
    world = TabletopWorld()
    world.reset(4242, 3)
    for i in range(4):
        before = tracker.step(world.render(), stamp=0.1 * i)

    def predict(belief: Belief, action: Tensor | None = None) -> Belief:
        mean = belief.mean.clone()
        mean[:, 1:, :2] = belief.mean[:, 1:, :2].roll(1, 1) if wrong == 'shuffled' else 2.0
        return replace(belief, mean=mean)
    monkeypatch.setattr(tracker.model, 'predict', predict)
    picked = world.block_positions()[0]
    target = (-0.12, 0.12) if picked[0] > 0 else (0.12, -0.12)
    assert world.teleport_pick_place(picked[:2], np.array(target)).success
    tracker.step(world.render(), PickPlace((float(picked[0]), float(picked[1])), target), 1.0)
    for i in range(4):
        after = tracker.step(world.render(), stamp=1.1 + 0.1 * i)
    true = world.block_positions()
    world.close()
    assert {e.id for e in after.entities if e.visible} == {e.id for e in before.entities} == {1, 2, 3}
    moved = min(before.entities, key=lambda e: float(np.linalg.norm(np.subtract(e.position, picked))))
    for entity in before.entities:
        expected = true[0] if entity.id == moved.id else entity.position
        assert np.linalg.norm(np.subtract(after.entity(entity.id).position, expected)) < 0.015


def test_a_restart_waits_until_the_robot_is_out_of_the_picture(tracker: EntityTracker) -> None:
    world = TabletopWorld()
    world.reset(4242, 2)
    for i in range(4):
        tracker.step(world.render(), stamp=0.1 * i)
    xy = tuple(map(float, world.block_positions()[0, :2]))
    world.pose_arm_over(np.array(xy), np.random.default_rng(0))
    tracker.step(world.render(), PickPlace(xy, xy), 1.0, robot_moving=True)
    frames = tracker.config.settle_frames
    assert tracker.unsettled == frames
    world.home_arm()
    for i in range(frames):
        tracker.step(world.render(), stamp=1.1 + 0.1 * i)
        assert tracker.unsettled == frames - 1 - i
    world.close()


def test_a_model_whose_things_drift_predicts_every_frame(tracker: EntityTracker, monkeypatch: pytest.MonkeyPatch
                                                         ) -> None:
    image = np.full((480, 640, 3), 128, np.uint8)
    asked: list[Tensor | None] = []
    predict = tracker.model.predict
    monkeypatch.setattr(tracker.model, 'predict', lambda b, a=None: (asked.append(a), predict(b, a))[1])
    for i in range(3):
        tracker.step(image, stamp=0.1 * i)
    assert not asked
    monkeypatch.setattr(tracker.model, 'drifts', True)
    for i in range(2):
        tracker.step(image, stamp=0.3 + 0.1 * i)
    assert asked == [None, None]


def test_a_snapshot_of_another_scene_is_reconsidered(tracker: EntityTracker) -> None:
    world = TabletopWorld()
    world.reset(4242, 3)
    for i in range(4):
        before = tracker.step(world.render(), stamp=0.1 * i)
    state = tracker.state_dict()
    picked = world.block_positions()[0]
    target = np.array([-0.12, 0.12]) if picked[0] > 0 else np.array([0.12, -0.12])
    assert world.teleport_pick_place(picked[:2], target).success
    restored = EntityTracker.load(device='cpu', threads=1)
    restored.load_state_dict(state)
    restored.reconsider()
    for i in range(5):
        after = restored.step(world.render(), stamp=1.0 + 0.1 * i)
    true = world.block_positions()
    world.close()
    assert {e.id for e in after.entities if e.visible} == {e.id for e in before.entities}
    moved = min(before.entities, key=lambda e: float(np.linalg.norm(np.subtract(e.position, picked))))
    assert np.linalg.norm(np.subtract(after.entity(moved.id).position, true[0])) < 0.015
