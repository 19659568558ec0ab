"""OBAI: the paper's sizes, its loss against sampling, inference over windows of frames, plans."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from obai_squares import SMALL, moving_squares, scaled, seeded, small, window_of
from torch import Tensor
from torch.distributions import Normal

from object_centric_ros.errors import InputError
from object_centric_ros.models.action_field import place_actions, sample_assignment
from object_centric_ros.models.obai import OBAI, OBAIBelief
from object_centric_ros.models.obai_config import OBAIConfig
from object_centric_ros.models.preferences import Preference, plan_actions
from object_centric_ros.models.scale import softplus_log_std
from object_centric_ros.presets import load_preset


def test_layers_are_those_of_the_tables() -> None:
    """Appendix B.1 and B.2: 34 channels into the decoder; 16 into the refinement, 800 flat, 256, 128, 64; 10, 32, 4."""
    config = load_preset('obai_dsprites')
    assert isinstance(config, OBAIConfig)
    model = OBAI(config)
    shapes = [tuple(layer.weight.shape) for layer in model.decoder.layers]
    assert shapes == [(32, 34, 5, 5), *[(32, 32, 5, 5)] * 3, (4, 32, 5, 5)]
    refiner = model.refiner
    assert [tuple(c.weight.shape) for c in refiner.convolutions] == [(32, 16, 5, 5), (32, 32, 5, 5), (32, 32, 5, 5)]
    assert refiner.layer is not None and tuple(refiner.layer.weight.shape) == (128, 800)
    assert tuple(refiner.recurrence.weight_ih.shape) == (4 * 128, 256)
    assert [tuple(h.weight.shape) for h in refiner.heads] == [(64, 128)]
    assert model.action_refiner is not None
    assert tuple(model.action_refiner.recurrence.weight_ih.shape) == (4 * 32, 10)
    assert [tuple(h.weight.shape) for h in model.action_refiner.heads] == [(4, 32)]
    assert tuple(model.dynamics.effect.shape) == (16, 2)
    assert (config.beta, config.sigma_image, config.sigma_state, config.sigma_action) == (5.0, 0.3, 0.1, 0.3)


def test_tabletop_is_a_stream_without_actions() -> None:
    config = load_preset('obai_tabletop')
    assert isinstance(config, OBAIConfig) and not config.joint
    model = OBAI(config)
    assert (model.action_format, model.predicts, model.plans) == ('none', True, False)
    with torch.no_grad():
        scene = model.scene(model.infer(torch.rand(1, 3, 64, 64, generator=seeded()), generator=seeded()))
    assert scene.colours.shape == (1, 7, 3, 64, 64)


def test_loss_of_a_window_is_the_free_energy_of_the_paper() -> None:
    """Eq. 15 for three frames, with every expectation but that of the image sampled straight from eq. 5-7."""
    model = small().double()
    belief, images, fields = window_of(model, 3)
    noise = torch.randn(belief.mean.shape, generator=seeded(3), dtype=torch.float64)
    with torch.no_grad():
        look = model.look(belief, images, noise, fields, 3, 0.5, seeded(4))
        scene = model.scene(belief, noise)
        sample = sample_assignment(scene.log_masks, 0.5, seeded(4))
        n, g = 100_000, seeded(5)

        def draw(mean: Tensor, log_std: Tensor) -> Tensor:
            return mean + log_std.exp() * torch.randn(n, *mean.shape, generator=g, dtype=torch.float64)
        action_log_std = softplus_log_std(belief.action_scale)
        x, a = draw(belief.mean, belief.log_std), draw(belief.action_mean, action_log_std)
        total = Normal(belief.mean, belief.log_std.exp()).log_prob(x).sum((1, 2, 3))
        total = total - Normal(0.0, 1.0).log_prob(x[:, 0]).sum((1, 2))
        s, rate = x.chunk(2, -1)
        for t in (1, 2):
            told = (sample[t - 1][:, None] * fields[0, t][None]).sum((2, 3))
            total += Normal(belief.action_mean[t], action_log_std[t].exp()).log_prob(a[:, t]).sum((1, 2))
            total -= Normal(told, 0.3).log_prob(a[:, t]).sum((1, 2))
            pushed = rate[:, t - 1] + a[:, t] @ model.dynamics.effect.T
            total -= Normal(pushed, 0.1).log_prob(rate[:, t]).sum((1, 2))
            total -= Normal(s[:, t - 1] + rate[:, t], 0.1).log_prob(s[:, t]).sum((1, 2))
        component = Normal(scene.colours, 0.3).log_prob(images[:, None]).sum(2).exp()
        reconstruction = (scene.masks * component).sum(1).log().sum()
    kl = look.loss.item() + 5.0 * reconstruction.item()
    assert abs(kl - total.mean().item()) < 5 * total.std().item() / n ** 0.5
    assert total.std().item() / n ** 0.5 < 0.01 * kl


@pytest.mark.parametrize('frames', [1, 3])
def test_gradients_of_a_window_equal_finite_differences(frames: int) -> None:
    model = small().double()
    belief, images, fields = window_of(model, frames)
    noise = torch.randn(belief.mean.shape, generator=seeded(3), dtype=torch.float64)

    def loss(at: OBAIBelief) -> tuple[float, tuple[Tensor, ...]]:
        with torch.no_grad():
            look = model.look(at, images, noise, fields, frames, 0.5, seeded(4))
        return look.loss.item(), look.gradients
    _, gradients = loss(belief)
    for name, gradient in zip(('mean', 'scale', 'action_mean', 'action_scale'), gradients, strict=True):
        value = getattr(belief, name)
        for row in range(frames):
            step = torch.zeros_like(value)
            step[row, 1, -1] = 1e-5
            numeric = (loss(replace(belief, **{name: value + step}))[0]
                       - loss(replace(belief, **{name: value - step}))[0]) / 2e-5
            assert numeric == pytest.approx(gradient[row, 1, -1].item(), rel=1e-4, abs=1e-5), (name, row)


def test_a_window_of_one_frame_is_the_stream() -> None:
    model = small()
    belief, images, _ = window_of(model, 1)
    noise = torch.randn(belief.mean.shape, generator=seeded(3))
    with torch.no_grad():
        look = model.look(belief, images, noise)
        loss, _, _ = model.loss(belief, model.scene(belief, noise), images)
        assert torch.allclose(look.loss, loss)
        refined = model.refine(belief, images, None, noise)
    for key, value in model.update(belief, look).tensors().items():
        assert torch.allclose(value, refined.tensors()[key], atol=1e-5), key


@pytest.mark.parametrize('joint', [True, False])
def test_windows_permute_with_their_slots_and_do_not_know_their_batch(joint: bool) -> None:
    model = small(joint=joint)
    frames = 3 if joint else 1
    belief, images, _ = window_of(model, frames, 2)
    noise = torch.randn(belief.mean.shape, generator=seeded(3))
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        new = model.update(belief, model.look(belief, images, noise, None, frames))
        permuted = belief.select(order.expand(len(images), -1))
        other = model.update(permuted, model.look(permuted, images, noise[:, order], None, frames))
        one = slice(0, frames)
        row = belief.map(lambda x: x[one])
        alone = model.update(row, model.look(row, images[one], noise[one], None, frames))
    assert torch.allclose(new.mean[:, order], other.mean, atol=1e-5)
    assert not torch.allclose(new.mean, other.mean, atol=1e-3)
    assert torch.allclose(new.mean[one], alone.mean, atol=1e-5)


def test_action_beliefs_do_not_mix_slots_or_batch() -> None:
    """With actions and an assignment that is almost certain, so that its noise decides nothing."""
    model = small()
    belief, images, fields = window_of(model, 2, 2)
    noise = torch.randn(belief.mean.shape, generator=seeded(3))
    decode = model.decode

    def sharp(z: Tensor) -> object:
        scene = decode(z)
        return replace(scene, mask_logits=1e4 * scene.mask_logits)
    model.decode = sharp  # type: ignore[method-assign, assignment]
    order, one = torch.tensor([2, 0, 1]), slice(0, 2)
    with torch.no_grad():
        new = model.update(belief, model.look(belief, images, noise, fields, 2, 0.1, seeded()))
        permuted = belief.select(order.expand(4, -1))
        other = model.update(permuted, model.look(permuted, images, noise[:, order], fields, 2, 0.1, seeded()))
        row = belief.map(lambda x: x[one])
        alone = model.update(row, model.look(row, images[one], noise[one], fields[:1], 2, 0.1, seeded()))
    assert torch.allclose(new.action_mean[:, order], other.action_mean, atol=1e-4)
    assert torch.allclose(new.action_mean[one], alone.action_mean, atol=1e-4)
    assert not torch.allclose(new.action_mean[1], belief.action_mean[1], atol=1e-4)  # it is refined
    assert torch.equal(new.action_mean[0], belief.action_mean[0])  # before a first frame nothing acted


def test_prediction_follows_the_dynamics() -> None:
    """s' += D a, s += s' with a the sum of the field over the slot's pixels; nothing told is no action."""
    model = small().double()
    belief = window_of(model, 1)[0]
    field = torch.randn(1, 2, 32, 32, generator=seeded(), dtype=torch.float64)
    with torch.no_grad():
        told = torch.einsum('bkhw,bchw->bkc', model.scene(belief).masks, field)
        s, rate = belief.mean.chunk(2, -1)
        for action, pushed in ((None, rate), (field, rate + told @ model.dynamics.effect.T)):
            predicted = model.predict(belief, action)
            assert torch.allclose(predicted.mean, torch.cat([s + pushed, pushed], -1))
            spread = 0.09 * (model.dynamics.effect ** 2).sum(1) if action is not None else 0.0
            v, v_rate = (2 * belief.log_std).exp().chunk(2, -1)
            v_rate = v_rate + 0.01 + spread
            assert torch.allclose((2 * predicted.log_std).exp(), torch.cat([v + v_rate + 0.01, v_rate], -1))
            # The prediction is the prior; a factorised belief is off by what (s, s') share.
            assert model.loss(predicted, model.scene(predicted), torch.zeros(1, 3, 32, 32).double())[2].max() < 10


def test_slots_start_alike_and_part_by_noise() -> None:
    model, image = small(), moving_squares(1, 1)[0][:, 0]
    start = model.start(1)
    assert torch.equal(start.mean[:, 0], start.mean[:, 1])
    with torch.no_grad():
        same = model.refine(start, image)
        apart = model.refine(start, image, None, model.noise(start, seeded()))
    assert torch.allclose(same.mean[:, 0], same.mean[:, 1], atol=1e-6)
    assert not torch.allclose(apart.mean[:, 0], apart.mean[:, 1], atol=1e-5)


@pytest.mark.parametrize('reads', ['state', 'belief'])
def test_decoder_reads_states_but_not_their_rates(reads: str) -> None:
    model = small(decoder_reads=reads)
    belief = window_of(model, 1)[0]
    faster = replace(belief, mean=torch.cat([belief.mean[..., :4], belief.mean[..., 4:] + 1], -1))
    wider = scaled(belief, belief.scale + 1)
    assert torch.equal(model.scene(belief).colours, model.scene(faster).colours)
    assert torch.equal(model.scene(belief).colours, model.scene(wider).colours) == (reads == 'state')


def test_plans_reach_their_goal_through_a_field() -> None:
    """Closed-form action of each slot -> field at a pixel that is its own -> prediction with the wanted mean."""
    model = small().double()
    decode = model.decode

    def quarters(z: Tensor) -> object:
        scene = decode(z)
        owner = torch.arange(32).div(11, rounding_mode='floor').expand(32, 32)
        logits = 1e4 * torch.nn.functional.one_hot(owner, 3).permute(2, 0, 1).double()
        return replace(scene, mask_logits=logits.expand_as(scene.mask_logits))
    model.decode = quarters  # type: ignore[method-assign, assignment]
    belief = window_of(model, 1)[0]
    with torch.no_grad():
        shift = torch.randn(1, 3, 2, generator=seeded(7), dtype=torch.float64)
        wanted = belief.mean[..., :4] + shift @ model.dynamics.effect.T
        resting = replace(belief, mean=torch.cat([belief.mean[..., :4], torch.zeros_like(wanted)], -1))
        goal = Preference(wanted, torch.full_like(wanted, 0.5))
        action = plan_actions(model.dynamics.effect, resting.mean, goal)[:, 0]
        assert torch.allclose(action, shift)
        predicted = model.predict(resting, place_actions(action, model.scene(resting).masks))
    assert torch.allclose(predicted.mean[..., :4], wanted)


@pytest.mark.parametrize(('field', 'value'), [('action_size', 4), ('decoder_reads', 'all'), ('sigma_state', 0.0),
                                              ('temperature_steps', 0), ('image_size', 16)])
def test_impossible_configurations(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        OBAI(OBAIConfig(**{**SMALL, field: value}))


def test_action_fields_fit_the_images() -> None:
    model = small()
    with pytest.raises(InputError, match='action field'):
        model.predict(model.start(2), torch.zeros(2, 5))
