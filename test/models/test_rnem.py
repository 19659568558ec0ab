"""R-NEM and its family: steps of EM, streams, and what every model of the house keeps to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from bouncing import bouncing_balls
from rnem_family import FAMILY, PRESETS, SIZES, differ, each, film, make, seeded
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.registry import build_model
from object_centric_ros.models.rnem import RNEM, RNEMBelief, RNEMConfig
from object_centric_ros.presets import load_preset


@pytest.mark.parametrize('name', sorted(PRESETS))
def test_presets(name: str) -> None:
    config = load_preset(name)
    assert isinstance(config, RNEMConfig)
    model = build_model(config)
    assert isinstance(model, RNEM)
    family = RNEMConfig(**FAMILY[PRESETS[name]])
    assert (config.interaction, config.m_step) == (family.interaction, family.m_step)
    images = torch.zeros(1, 2, 1, config.image_size, config.image_size)
    actions = torch.zeros(1, 2, 6) if config.action_size else None
    with torch.no_grad():
        last = model.unroll(images, actions, seeded())[-1]
    assert last.parameters.shape == (1, config.slots, *images.shape[2:])


def test_first_frame_is_seen_through_the_random_gamma() -> None:
    model = make()
    image = film(model)[0][:, 0]
    start = model.start(2, 3, seeded())
    assert model.cell is not None and model.cell.state(start.mean).max() < 1e-8
    belief = model.expect(start, image)
    assert torch.equal(belief.log_gamma, start.log_gamma)
    assert torch.allclose(belief.error, start.log_gamma.exp()[:, :, None] * image[:, None], atol=1e-6)


@each
def test_a_later_frame_is_an_em_step(kind: str) -> None:
    """E-step on the prediction, input gamma (x - psi), M-step, decode."""
    model = make(kind).double()
    images, actions = film(model)
    with torch.no_grad():
        a, b = model.unroll(images, actions, seeded())[2:4]
    psi = a.parameters.sigmoid() if model.config.likelihood == 'bernoulli' else a.parameters
    p = model.pixels.log_prob(images[:, 2, None], a.parameters).sum(2).exp()
    gamma = p / p.sum(1, keepdim=True)
    assert torch.allclose(a.log_gamma.exp(), gamma)
    assert torch.allclose(a.error, gamma[:, :, None] * (images[:, 2, None] - psi))
    with torch.no_grad():
        step = model.maximise(a, None if actions is None else actions[:, 3])
        drawn = model.decode(step.mean).colours
    assert torch.equal(step.parameters, b.parameters)
    assert torch.allclose(drawn, model.pixels.mean(b.parameters))


@pytest.mark.parametrize('seen', [True, False])
def test_the_input_has_no_gradient_through_gamma(seen: bool) -> None:
    """d error_k / d a_k is that of gamma (x - psi) with gamma held fixed (appendix A.1); in roll-outs x is ours too."""
    model = make().double()
    images, _ = film(model)
    with torch.no_grad():
        belief = model.unroll(images, None, seeded())[2]
    a = belief.parameters.clone().requires_grad_()
    after = replace(belief, parameters=a)
    after = model.expect(after, images[:, 2]) if seen else model.imagine(after)
    gamma, weight = after.log_gamma.exp()[:, :, None], torch.randn(a.shape, generator=seeded(), dtype=a.dtype)
    frame = images[:, 2, None] if seen else (gamma * a.sigmoid()).sum(1, keepdim=True)
    (found,) = torch.autograd.grad((weight * after.error).sum(), a)
    (wanted,) = torch.autograd.grad((weight * gamma.detach() * (frame - a.sigmoid())).sum(), a)
    assert not after.log_gamma.requires_grad and torch.allclose(found, wanted)


@pytest.mark.parametrize('likelihood', ['bernoulli', 'gaussian'])
def test_the_m_step_of_n_em_climbs_q(likelihood: str) -> None:
    """Its direction is the gradient of eq. 2, by finite differences; a short step raises Q."""
    model = make('N-EM', likelihood=likelihood).double()
    image = film(model, 1)[0][:, 0].double()
    belief = model.expect(model.start(1, 3, seeded()), image)
    gamma = belief.log_gamma.exp()

    def q(mean: Tensor) -> float:
        with torch.no_grad():
            return (gamma * model.pixels.log_prob(image[:, None], model._draw(mean)).sum(2)).sum().item()
    after = model.maximise(belief)
    direction = (after.mean - belief.mean) / model.config.step_size
    for index in range(0, belief.mean.numel(), 7):
        step = torch.zeros_like(belief.mean)
        step.view(-1)[index] = 1e-6
        numeric = (q(belief.mean + step) - q(belief.mean - step)) / 2e-6
        assert numeric == pytest.approx(direction.flatten()[index].item(), rel=1e-4, abs=1e-5)
    assert q(belief.mean + 1e-4 * direction) > q(belief.mean)


@each
def test_stream_without_predict_is_the_same_filter(kind: str) -> None:
    """`infer` owes a belief that was not predicted its M-step, so that trackers may leave the prediction to it."""
    model = make(kind)
    images, actions = film(model)
    with torch.no_grad():
        belief = other = model.infer(images[:, 0], generator=seeded())
        for t in range(1, images.shape[1]):
            action = None if actions is None else actions[:, t]
            belief = model.infer(images[:, t], belief, 1, action)
            other = model.infer(images[:, t], model.predict(other, action), 1, action)
        last = model.unroll(images, actions, seeded())[-1]
    assert isinstance(belief, RNEMBelief) and isinstance(other, RNEMBelief)
    assert differ(belief, last) < 1e-5 and differ(other, last) < 1e-5


def test_nothing_is_predicted_before_the_first_frame() -> None:
    model = make()
    start = model.start(1, 3, seeded())
    with torch.no_grad():
        assert differ(model.predict(start), start) == 0  # type: ignore[arg-type]


@each
def test_slots_are_alike(kind: str) -> None:
    """A permutation of the first gamma permutes the whole film; another K works with the same weights."""
    model = make(kind).double()
    images, actions = film(model, 1)
    order = torch.tensor([2, 0, 1, 4, 3])
    start = model.start(1, 5, seeded())
    with torch.no_grad():
        beliefs = [start, start.select(order[None])]
        for t, image in enumerate(images.unbind(1)):
            action = None if actions is None else actions[:, t]
            beliefs = [model.refine(x, image, action) for x in beliefs]  # type: ignore[misc]
    assert differ(beliefs[0].select(order[None]), beliefs[1]) < 1e-9
    assert differ(beliefs[0].select(order[None]), beliefs[0]) > 1e-3


@each
def test_rows_of_a_batch_do_not_see_each_other(kind: str) -> None:
    model = make(kind).double()
    images, actions = film(model, 3)
    start = model.start(3, None, seeded())
    beliefs = [start, start.map(lambda x: x[1:2])]
    with torch.no_grad():
        for t, image in enumerate(images.unbind(1)):
            for i, rows in enumerate((slice(None), slice(1, 2))):
                action = None if actions is None else actions[rows, t]
                beliefs[i] = model.refine(beliefs[i], image[rows], action)  # type: ignore[assignment]
    assert differ(beliefs[0].map(lambda x: x[1:2]), beliefs[1]) < 1e-9


@each
def test_masks_sum_to_one_and_black_is_empty(kind: str) -> None:
    model = make(kind)
    images, actions = film(model)
    with torch.no_grad():
        for belief in model.unroll(images, actions, seeded(), observed=3):
            scene = model.scene(belief)
            assert torch.allclose(scene.masks.sum(1), torch.ones_like(scene.masks[:, 0]), atol=1e-5)
            assert torch.allclose(scene.masks, belief.log_gamma.exp(), atol=1e-6)
            assert scene.empty is not None
            owner = belief.log_gamma.argmax(1)
            for k in range(model.config.slots):
                assert torch.equal(scene.empty[owner == k], (scene.colours[:, k].abs() <= 0.1).all(1)[owner == k])
        first = model.scene(model.infer(images[:, 0], generator=seeded()))
    if kind != 'N-EM':  # which starts from what a state of zero draws
        assert first.empty is not None and first.empty.all() and first.image.max() < 1e-6


@each
def test_same_seed_same_numbers(kind: str) -> None:
    model = make(kind).train()
    images, actions = film(model)
    runs = [model.episode_loss(images, actions, 0, seeded(s))[0].item() for s in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


@each
@pytest.mark.parametrize('value', [0.0, 1.0])
def test_finite_on_black_and_white(kind: str, value: float) -> None:
    model = make(kind).train()
    images, actions = film(model)
    loss, _ = model.episode_loss(torch.full_like(images, value), actions, 0, seeded())
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_other_precisions(kind: str, dtype: torch.dtype) -> None:
    model = make(kind)
    images, actions = film(model)
    exact = model.measure(images, actions, generator=seeded())['loss']
    model = model.to(dtype)
    other = model.measure(images.to(dtype), None if actions is None else actions.to(dtype), generator=seeded())['loss']
    assert torch.allclose(other.to(exact), exact, rtol=1e-4 if dtype == torch.float64 else 0.1)


def test_an_action_is_told_to_every_slot() -> None:
    model = make('actions')
    images, actions = film(model)
    assert actions is not None and model.action_format == 'discrete'
    with torch.no_grad():
        belief = model.unroll(images, actions, seeded())[1]
        by_action = [model.maximise(belief, torch.eye(3)[[i, i]]).mean for i in range(3)]
        nothing = [model.maximise(belief, a).mean for a in (None, torch.zeros(2, 3))]
    assert torch.equal(*nothing)
    assert all((by_action[i] - x).abs().amax((0, 2)).min() > 1e-4
               for i, x in ((0, by_action[1]), (1, by_action[2]), (0, nothing[0])))


def test_restored_states_draw_their_prediction() -> None:
    model = make()
    images, _ = film(model)
    with torch.no_grad():
        belief = model.unroll(images, None, seeded(), observed=3)[-1]
        again = model.restore(belief.mean, belief.std, belief.memory)
    assert isinstance(again, RNEMBelief) and differ(again, belief) < 1e-5


def test_what_a_camera_image_becomes() -> None:
    rgb = torch.full((1, 3, 4, 4), 0.45)
    rgb[0, :, 0, 0] = torch.tensor([0.9, 0.1, 0.1])
    rgb[0, :, 0, 1] = torch.tensor([0.1, 0.1, 0.1])
    bright, unlike = make().observe(rgb), make(observed='unlike', threshold=0.2).observe(rgb)
    assert bright.shape == (1, 1, 4, 4)
    assert bright.flatten().nonzero().flatten().tolist() == [0]
    assert unlike.flatten().nonzero().flatten().tolist() == [0, 1]
    assert torch.equal(make('Gaussian').observe(rgb), rgb)
    balls = torch.from_numpy(bouncing_balls(0, 1, 1, 16)[0][0])
    assert torch.equal(make().observe(balls.expand(-1, 3, -1, -1)), balls)


@pytest.mark.parametrize(('changes', 'what'), [
    ({'m_step': 'adam'}, 'm_step'), ({'interaction': 'all'}, 'interaction'), ({'likelihood': 'poisson'}, 'likelihood'),
    ({'m_step': 'lstm'}, 'interaction'), ({'m_step': 'gradient', 'interaction': 'none', 'action_size': 2}, 'action'),
    ({'noise': 1.0}, 'noise'), ({'slots': 0}, 'slots'), ({'background_slot': True}, 'background_slot'),
    ({'encoder_channels': (4,)}, 'encoder_channels'), ({'observed': 'dark'}, 'observed')])
def test_impossible_configurations(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        RNEMConfig(**(SIZES | changes))


def test_images_and_actions_that_do_not_fit() -> None:
    model = make('actions')
    images, actions = film(model)
    assert actions is not None
    with pytest.raises(InputError, match='image'):
        model.infer(images[:, 0].expand(-1, 3, -1, -1))
    with pytest.raises(InputError, match='action'):
        model.unroll(images, actions[..., :2])


def test_is_a_model_of_the_house() -> None:
    model: CycleModel = make()
    assert (model.predicts, model.plans, model.parks, model.action_format) == (True, False, False, 'none')
    assert not make('N-EM').predicts
    assert torch.isneginf(model.start(1).log_std).all()
