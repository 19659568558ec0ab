"""Action fields: eq. 7, the Gumbel-softmax assignment, its temperature, and the terms of the action beliefs."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from object_centric_ros.models.action_field import (
    action_kl,
    object_actions,
    place_actions,
    sample_assignment,
    temperature_at,
)
from object_centric_ros.simulation.sprites import SpritesConfig, dense_field, make_batch


def hard_masks() -> torch.Tensor:
    """[1, 3, 4, 4]: slot 0 owns the upper half, 1 the lower left quarter, 2 the rest."""
    owner = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 2, 2], [1, 1, 2, 2]])
    return torch.nn.functional.one_hot(owner, 3).permute(2, 0, 1)[None].double()


def test_each_slot_receives_the_sum_over_its_pixels() -> None:
    """Eq. 7 with a field of three arrows, two of them on one slot."""
    field = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    field[0, :, 0, 1] = torch.tensor([1.0, 2.0])
    field[0, :, 1, 3] = torch.tensor([-4.0, 0.5])
    field[0, :, 3, 2] = torch.tensor([0.0, 7.0])
    assert object_actions(hard_masks(), field)[0].tolist() == [[-3.0, 2.5], [0.0, 0.0], [0.0, 7.0]]


def test_soft_masks_share_an_acceleration_out() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(2, 3, 5, 6, generator=generator).softmax(1)
    field = torch.randn(2, 2, 5, 6, generator=generator)
    got = object_actions(masks, field)
    by_hand = torch.stack([(masks[:, k, None] * field).sum((2, 3)) for k in range(3)], 1)
    assert torch.allclose(got, by_hand, atol=1e-5)
    assert torch.allclose(got.sum(1), field.sum((2, 3)), atol=1e-4)  # nothing is lost


def test_true_masks_give_what_the_world_does() -> None:
    """Active-dSprites applies its fields by the same eq. 7: signs, axes and the frame they belong to agree."""
    data = make_batch(SpritesConfig(size=32, largest=10.0), [[0], [1], [2]])
    owner = torch.from_numpy(data['labels'][:, 1].astype('int64'))  # the frame that the field is applied to
    masks = torch.nn.functional.one_hot(owner, 4).permute(0, 3, 1, 2).float()
    got = object_actions(masks, torch.from_numpy(dense_field(data['actions'][:, 1], 32)))
    assert torch.allclose(got[:, 1:], torch.from_numpy(data['accelerations'][:, 1]), atol=1e-5)
    change = torch.from_numpy(data['velocities'][:, 2] - data['velocities'][:, 1])
    assert torch.allclose(got[:, 1:], change, atol=1e-4) and change.abs().max() > 1


def test_actions_placed_on_pixels_come_back() -> None:
    actions = torch.randn(1, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    field = place_actions(actions, hard_masks())
    assert (field[0].abs().sum(0) > 0).sum() == 3
    assert torch.allclose(object_actions(hard_masks(), field), actions)


@pytest.mark.parametrize('temperature', [0.05, 0.5, 2.0])
def test_samples_are_assignments_with_the_probabilities_of_the_masks(temperature: float) -> None:
    """The most probable slot of a Gumbel-softmax sample is distributed as the masks, at any temperature."""
    log_masks = torch.tensor([0.6, 0.3, 0.1]).log()[None, :, None, None].expand(1, 3, 200, 200)
    sample = sample_assignment(log_masks, temperature, torch.Generator().manual_seed(0))
    assert torch.allclose(sample.sum(1), torch.ones(1, 200, 200), atol=1e-5)
    share = torch.nn.functional.one_hot(sample.argmax(1), 3).float().mean((0, 1, 2))
    assert torch.allclose(share, torch.tensor([0.6, 0.3, 0.1]), atol=0.01)


def test_samples_sharpen_as_the_temperature_falls() -> None:
    log_masks = torch.zeros(1, 4, 64, 64)
    sharpness = [sample_assignment(log_masks, t, torch.Generator().manual_seed(0)).amax(1).mean().item()
                 for t in (2.0, 1.0, 0.5, 0.1)]
    assert sharpness == sorted(sharpness)
    assert sharpness[-1] > 0.9


def test_samples_pass_gradients_and_repeat_with_the_seed() -> None:
    logits = torch.zeros(1, 3, 8, 8, requires_grad=True)
    first, again, other = (sample_assignment(logits, 1.0, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    first[:, 0].sum().backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] > 0).all()


def test_temperature_falls_geometrically_and_stays() -> None:
    values = [temperature_at(step, 1.0, 0.1, 100) for step in (0, 50, 100, 1000)]
    assert values == pytest.approx([1.0, math.sqrt(0.1), 0.1, 0.1])
    assert temperature_at(7, 0.5, 0.5, 100) == 0.5


def test_action_kl_is_the_expectation_that_the_paper_samples() -> None:
    """-H(q(a)) - E_q(a)[log N(a; told, sigma^2)] of eq. 8 and 21, by sampling a."""
    generator = torch.Generator().manual_seed(0)
    mean, told, log_std = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    q, p = Normal(mean, log_std.exp()), Normal(told, 0.3)
    n = 400_000
    a = mean + log_std.exp() * torch.randn(n, 2, 2, generator=generator, dtype=torch.float64)
    sampled = (q.log_prob(a) - p.log_prob(a)).sum(-1)
    got = action_kl(mean, log_std, told, 0.3)
    assert torch.allclose(got[0], sampled.mean(0), rtol=0.01)
    least = action_kl(told, torch.full_like(told, math.log(0.3)), told, 0.3)
    assert torch.allclose(least, torch.zeros_like(least), atol=1e-12)
