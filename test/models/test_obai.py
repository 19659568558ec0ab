"""OBAI: the paper's sizes, its loss against sampling, inference over windows of frames, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from object_centric_ros.errors import InputError
from object_centric_ros.models.action_field import place_actions, sample_assignment
from object_centric_ros.models.obai import OBAI, OBAIBelief
from object_centric_ros.models.obai_config import OBAIConfig
from object_centric_ros.models.preferences import Preference, plan_actions
from object_centric_ros.models.scale import softplus_log_std
from object_centric_ros.presets import load_preset

SMALL = {'image_size': 32, 'slots': 3, 'latent': 4, 'decoder_channels': (8, 8), 'refine_channels': (8, 8, 8),
         'refine_hidden': 16, 'refine_size': 16, 'action_hidden': 8}


def small(**changes: object) -> OBAI:
    torch.manual_seed(0)
    model = OBAI(OBAIConfig(**{**SMALL, **changes}))
    torch.nn.init.normal_(model.dynamics.effect, std=0.1)
    return model


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moving_squares(episodes: int, frames: int, seed: int = 0, size: int = 32) -> tuple[Tensor, Tensor]:
    """Two squares on gray: uint8 frames as float images [N, T, 3, size, size] and the field before each frame.

    The squares move by whole pixels; before the last frame each of them, and the background, is pushed at one pixel.
    """
    rng = np.random.default_rng(seed)
    images = np.full((episodes, frames, size, size, 3), 100, np.uint8)
    fields = np.zeros((episodes, frames, 2, size, size), np.float32)
    for image, field in zip(images, fields, strict=True):
        at, speed = rng.integers(6, size - 12, (2, 2)), rng.integers(-2, 3, (2, 2))
        colour = rng.integers(0, 256, (2, 3))
        for t in range(frames):
            for k in range(2):
                image[t, at[k, 1]:at[k, 1] + 6, at[k, 0]:at[k, 0] + 6] = colour[k]
            if t == frames - 2:
                push = rng.integers(-2, 3, (2, 2))
                for k in range(2):
                    field[t + 1, :, at[k, 1] + 2, at[k, 0] + 2] = push[k]
                field[t + 1, :, 0, 0] = rng.integers(-2, 3, 2)
                speed = speed + push
            at = np.clip(at + speed, 0, size - 6)
    return torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 255, torch.from_numpy(fields)


def window_of(model: OBAI, frames: int, batch: int = 1) -> tuple[OBAIBelief, Tensor, Tensor]:
    """A window of beliefs that all differ [batch * frames, ...], its images and fields."""
    images, fields = moving_squares(batch, frames)
    dtype = model.initial_mean.dtype
    images, fields = images.to(dtype), fields.to(dtype)
    with torch.no_grad():
        for belief, _ in model.iterations(images, fields, seeded(), 0.5):  # noqa: B007
            pass
    noise = 0.2 * torch.randn(belief.mean.shape, generator=seeded(2), dtype=dtype)
    belief = replace(belief, mean=noise, action_mean=belief.action_mean + noise[..., :2],
                     action_scale=noise[..., 2:4] - 2)
    return scaled(belief, noise - 0.5), images.flatten(0, 1), fields


def scaled(belief: OBAIBelief, scale: Tensor) -> OBAIBelief:
    return replace(belief, scale=scale, log_std=softplus_log_std(scale))


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
def test_frames_join_every_four_iterations(joint: bool) -> None:
    model = small(joint=joint)
    images, fields = moving_squares(2, 3)
    with torch.no_grad():
        rows = [len(look.scene.colours) for _, look in model.iterations(images, fields, seeded(), 1.0)]
    assert rows == [2] * 4 + [4] * 4 + [6] * 4 if joint else rows == [2] * 12


def test_composite_loss_weighs_later_iterations_more() -> None:
    """Eq. 16, and the temperature that goes with the step."""
    model = small(temperature_start=1.0, temperature_end=0.25, temperature_steps=100)
    images, fields = moving_squares(2, 2)
    loss, terms = model.episode_loss(images, fields, 50, seeded())
    assert terms['temperature'] == pytest.approx(0.5)
    losses = [look.loss.mean().item() for _, look in model.iterations(images, fields, seeded(), 0.5)]
    assert loss.item() == pytest.approx(sum(n / 8 * value for n, value in enumerate(losses, 1)), rel=1e-5)


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


@pytest.mark.parametrize('value', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('joint', [True, False])
def test_loss_is_finite_on_flat_images(value: float, joint: bool) -> None:
    model = small(joint=joint)
    _, fields = moving_squares(1, 3)
    loss, _ = model.episode_loss(torch.full((1, 3, 3, 32, 32), value), fields, 0, seeded())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_episodes_repeat_with_the_seed_and_need_no_actions() -> None:
    model = small(action_size=0)
    assert (model.action_format, model.plans, model.action_refiner) == ('none', False, None)
    images, _ = moving_squares(2, 2)
    losses = [model.episode_loss(images, None, 0, seeded(s))[0].item() for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_bfloat16() -> None:
    model = small().to(torch.bfloat16)
    images, fields = (x.to(torch.bfloat16) for x in moving_squares(1, 2))
    loss, _ = model.episode_loss(images, fields, 0, seeded())
    loss.backward()
    assert torch.isfinite(loss)


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


def test_learns_from_moving_squares() -> None:
    """A few dozen steps explain held-out episodes better, and each of the terms takes part in it."""
    torch.manual_seed(0)
    model = OBAI(OBAIConfig(**{**SMALL, 'first_iterations': 2, 'iterations': 2}))
    images, fields = moving_squares(64, 2)
    held_out = moving_squares(4, 2, seed=1)

    def judged() -> tuple[float, float]:
        with torch.no_grad():
            loss, terms = model.episode_loss(*held_out, 0, seeded())
        return loss.item(), terms['nll']
    before = judged()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(24):
        rows = torch.randint(0, 64, (2,), generator=seeded(step))
        loss, _ = model.episode_loss(images[rows], fields[rows], step, seeded(step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
    after = judged()
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.5 * before[1]
