"""Every model tracks by configuration alone: a file of weights is loaded, frames go in, entities come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_models import every_model, small

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.checkpoint import save_model
from object_centric_ros.tracking.entities import PickPlace, TrackedFrame
from object_centric_ros.tracking.tracker import EntityTracker

CAMERA = PinholeCamera.looking_at((0, -0.88, 1.0), (0, 0, 0.045), 23, 160, 120)
each_model = pytest.mark.parametrize(('name', 'variant'), every_model())


def frame(shift: int = 0) -> NDArray[np.uint8]:
    """Two blocks on a gray table, as the camera sees them."""
    image = np.full((120, 160, 3), 120, np.uint8)
    image[40:58, 50 + shift:68 + shift] = 210, 40, 30
    image[66:84, 90:108] = 30, 60, 220
    return image


@pytest.fixture
def tracker(name: str, variant: str, tmp_path: Path) -> EntityTracker:
    path = tmp_path / f'{name}.safetensors'
    save_model(path, small(name, variant), {'camera': CAMERA.to_dict()})
    return EntityTracker.load(str(path), device='cpu', threads=1)


def sound(found: TrackedFrame, tracker: EntityTracker) -> None:
    size = tracker.model.config.image_size
    assert found.masks.shape[1:] == (size, size) and found.label_image.shape == (size, size)
    for array in (found.masks, found.colours, found.reconstruction):
        assert np.isfinite(array).all()
    assert np.allclose(found.masks.sum(0), 1, atol=1e-3)
    for state in [e.state for e in found.entities] + list(found.background):
        assert np.isfinite(state.mean).all() and np.isfinite(state.std).all() and np.isfinite(state.memory).all()
    assert all(np.isfinite([*e.position, *e.centroid, e.confidence]).all() for e in found.entities)
    assert tracker.belief is not None
    assert all(torch.isfinite(v).all() for k, v in tracker.belief.tensors().items() if k != 'log_std')


@each_model
def test_tracks(tracker: EntityTracker) -> None:
    assert tracker.model_id.split('-')[0] == tracker.model.config.name
    for t in range(3):
        sound(tracker.step(frame(t), stamp=0.1 * t), tracker)
    sound(tracker.step(frame(3), stamp=0.4, robot_moving=True), tracker)
    sound(tracker.step(frame(20), PickPlace((-0.05, 0.05), (0.0, 0.05)), 0.5), tracker)
    for t in range(2):
        sound(tracker.step(frame(20), stamp=0.6 + 0.1 * t), tracker)


@each_model
def test_carries_the_belief(tracker: EntityTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later frame is inferred from the belief of the one before, also by models of single images."""
    begun = []
    infer = tracker.model.infer

    def watch(image: torch.Tensor, belief: object = None, *args: object, **options: object) -> object:
        begun.append(belief)
        return infer(image, belief, *args, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(tracker.model, 'infer', watch)
    tracker.step(frame())
    before = tracker.belief
    tracker.step(frame(1), stamp=0.1)
    assert begun[0] is None and begun[-1] is not None and before is not None
    carried = begun[-1].tensors()  # type: ignore[attr-defined]
    guessed = tracker.model.predict(before, None).tensors()
    assert all(torch.equal(v, before.tensors()[k]) or torch.equal(v, guessed[k]) for k, v in carried.items())


@each_model
def test_goes_on_from_a_snapshot(tracker: EntityTracker, name: str, variant: str, tmp_path: Path) -> None:
    for t in range(3):
        tracker.step(frame(t), stamp=0.1 * t)
    state = tracker.state_dict()
    other = EntityTracker.load(str(tmp_path / f'{name}.safetensors'), device='cpu')
    other.load_state_dict(state)
    assert tracker.belief is not None and other.belief is not None
    for key, value in tracker.belief.tensors().items():
        assert torch.equal(other.belief.tensors()[key], value), key
    sound(other.step(frame(3), stamp=0.4), other)
    with pytest.raises(InputError, match='of model'):
        other.load_state_dict({**state, 'model_id': 'another'})


@each_model
def test_same_frames_same_entities(tracker: EntityTracker) -> None:
    runs = []
    for _ in range(2):
        tracker.reset()
        runs.append([tracker.step(frame(t), stamp=0.1 * t) for t in range(3)])
    for a, b in zip(*runs, strict=True):
        assert np.array_equal(a.masks, b.masks) and [e.id for e in a.entities] == [e.id for e in b.entities]


def test_a_model_trained_without_a_camera_needs_one(tmp_path: Path) -> None:
    """Models of bouncing balls and sprites know no camera."""
    path = tmp_path / 'model.safetensors'
    save_model(path, small('parts', 'attention'), {})
    with pytest.raises(InputError, match='camera: expected one with the model file'):
        EntityTracker.load(str(path), device='cpu')
    tracker = EntityTracker.load(str(path), CAMERA, device='cpu')
    sound(tracker.step(frame()), tracker)
