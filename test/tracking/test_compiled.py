"""Recorded streaming steps: the same numbers, buffers that nobody shares, shapes of their own, and what cannot be."""

from __future__ import annotations

import logging
from typing import Any, cast

import numpy as np
import pytest
import torch
from small_models import action_for, every_model, pictures, small

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.tracking.compiled import MOST, Recorded, RecordedModel, cuda_graph, recorded, run_again, tensors
from object_centric_ros.tracking.tracker import EntityTracker

CPU = torch.device('cpu')
DEVICES = [pytest.param('cpu', id='cpu'),
           pytest.param('cuda', id='cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU'))]


def stream(model: Any, plain: CycleModel, device: str, frames: int = 3) -> list[torch.Tensor]:
    """What a model makes of some frames, decoded and held against them."""
    generator, found = torch.Generator(device).manual_seed(1), []
    with torch.no_grad():
        images = [pictures(plain, 1, seed).to(device) for seed in range(frames)]
        belief = plain.infer(images[0], generator=generator)
        for image in images[1:]:
            belief = model.infer(image, model.predict(belief), 1, None, generator)
            scene = model.scene(belief)
            found += [*tensors(belief), *tensors(scene), *model.loss(belief, scene, image)]
    return found


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('name', 'variant'), every_model())
def test_replays_give_the_same_numbers(name: str, variant: str, device: str) -> None:
    model = small(name, variant).eval().requires_grad_(False).to(device)
    wrapped = RecordedModel(model, cuda_graph if device == 'cuda' else run_again)
    expected, got = stream(model, model, device), stream(wrapped, model, device)
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4) if device == 'cuda' else torch.equal(a, b)
    assert wrapped.reasons == []
    assert [len(f.recordings) for f in (wrapped._infer, wrapped._scene, wrapped._loss)] == [1, 1, 1]


def test_a_whole_frame_is_one_recording() -> None:
    model = small('op3', 'released').eval().requires_grad_(False)
    wrapped, image, action = RecordedModel(model, run_again), pictures(model, 1), action_for(model, 1)
    belief = model.start(1, 3)
    for _ in range(2):
        a, b = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
        with torch.no_grad():
            found = model.infer(image, model.predict(belief, action), 2, action, a)
            expected = [*tensors(found), *tensors(model.scene(found))]
        got = list(tensors(wrapped.frame(image, belief, 2, action, b)))
        assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))
        assert torch.equal(a.get_state(), b.get_state())
    assert wrapped.reasons == [] and len(wrapped._frame.recordings) == 1


def twice(x: torch.Tensor, belief: Belief | None, factor: float, generator: torch.Generator | None) -> Any:
    """Twice x and some noise; the belief as it is."""
    noise = torch.randn(x.shape, generator=generator) if generator is not None else 0
    return (2 * factor * x + noise, belief)


def test_results_belong_to_the_caller() -> None:
    f = Recorded(twice, CPU, run_again)
    x = torch.ones(2, 3)
    first = f(x, None, 1.0)[0]
    assert torch.equal(f(2 * x, None, 1.0)[0], 4 * x) and torch.equal(first, 2 * x)
    first.zero_()
    assert torch.equal(f(x, None, 1.0)[0], 2 * x) and torch.equal(x, torch.ones(2, 3))


def test_each_shape_and_value_has_a_recording() -> None:
    f = Recorded(twice, CPU, run_again)
    beliefs = [Belief(*torch.rand(3, 1, k, 4)) for k in (2, 3)]
    for belief in (*beliefs, *beliefs, None):
        got = f(torch.ones(2), belief, 1.0)
        assert torch.equal(got[0], torch.full((2,), 2.0))
        assert belief is None or torch.equal(got[1].mean, belief.mean)
    assert torch.equal(f(torch.ones(2), None, 3.0)[0], torch.full((2,), 6.0))
    assert torch.equal(f(torch.ones(5), None, 3.0)[0], torch.full((5,), 6.0))
    assert len(f.recordings) == 5
    for n in range(1, MOST + 4):
        f(torch.ones(n), None, 1.0)
    assert len(f.recordings) == MOST


def test_noise_follows_the_callers_generator() -> None:
    f = Recorded(twice, CPU, run_again)
    x = torch.zeros(4)
    for seed in (0, 0, 7):
        ours, theirs = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
        for _ in range(3):
            assert torch.equal(f(x, None, 1.0, generator=ours)[0], torch.randn(4, generator=theirs))
    assert len(f.recordings) == 1


def test_gradients_inside(caplog: pytest.LogCaptureFixture) -> None:
    def slope(x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            return torch.autograd.grad((y ** 3).sum(), y)[0]
    f = Recorded(slope, CPU, run_again)
    for x in (torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])):
        got = f(x.requires_grad_())
        assert torch.allclose(got, 3 * x.detach() ** 2) and not got.requires_grad
    assert not caplog.records


def test_what_cannot_be_recorded_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def refuses(*_: Any) -> Any:
        raise RuntimeError('operation not permitted when stream is capturing\nand more')
    f = Recorded(twice, CPU, refuses)
    with caplog.at_level(logging.WARNING):
        for n in (1.0, 2.0, 3.0):
            generator, other = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
            got = f(torch.full((3,), n), None, 1.0, generator=generator)[0]
            assert torch.equal(got, 2 * n + torch.randn(3, generator=other))
    assert len(caplog.records) == 1 and f.reasons == [caplog.messages[0]]
    assert 'twice' in f.reasons[0] and f.reasons[0].endswith('operation not permitted when stream is capturing')


def test_a_replay_that_does_not_follow_its_input_is_refused() -> None:
    def frozen(function: Any, generator: torch.Generator, restore: Any) -> Any:
        return function(), lambda: None
    f = Recorded(twice, CPU, frozen)
    assert torch.equal(f(torch.ones(2), None, 1.0)[0], torch.full((2,), 2.0))
    assert torch.equal(f(torch.zeros(2), None, 1.0)[0], torch.zeros(2))
    assert 'other numbers' in f.reasons[0]


def test_on_a_cpu_nothing_is_recorded_unless_asked() -> None:
    model = small('op3', 'paper').eval().requires_grad_(False)
    assert recorded(model) is model
    wrapped, expected = RecordedModel(model), stream(model, model, 'cpu')
    assert all(torch.equal(a, b) for a, b in zip(stream(wrapped, model, 'cpu'), expected, strict=True))
    assert wrapped.reasons == [] and wrapped.config is model.config


@pytest.mark.parametrize(('name', 'variant'), every_model())
def test_reduced_precision_comes_out_as_float32(name: str, variant: str) -> None:
    model = small(name, variant).eval().requires_grad_(False)
    reduced = recorded(model, 'bfloat16')
    results = stream(reduced, model, 'cpu')
    assert not any(x.isnan().any() for x in results)
    assert not any(x.is_floating_point() and x.dtype != torch.float32 for x in results)
    assert any(not torch.equal(a, b) for a, b in zip(results, stream(model, model, 'cpu'), strict=True))


def test_an_unknown_precision() -> None:
    with pytest.raises(InputError, match='precision: expected float32 or bfloat16, got float8'):
        recorded(small('op3', 'paper'), 'float8')


def test_tracks_with_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('object_centric_ros.tracking.tracker.recorded',
                        lambda model, _, graphs: RecordedModel(model, run_again) if graphs else model)
    camera = PinholeCamera(64, 64, 60.0, 60.0, 32.0, 32.0, np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0]))
    frames = [(255 * torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(i))).byte().numpy() for i in (0, 1)]
    trackers = [EntityTracker(small('op3', 'paper'), {}, camera, graphs=graphs) for graphs in (True, False)]
    for i, image in enumerate(frames * 2):
        a, b = (tracker.step(image, stamp=i / 30) for tracker in trackers)
        assert (a.masks == b.masks).all() and (a.reconstruction == b.reconstruction).all()
    model = cast(Any, trackers[0].model)
    assert isinstance(model, RecordedModel) and model.reasons == [] and model._infer.recordings
