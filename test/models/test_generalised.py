"""Linear dynamics in generalised coordinates: eq. 5-6 and their terms of eq. 8, against sampling and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from object_centric_ros.models.generalised import LinearDynamics, Transition, expected_kl

N = 400_000


def dynamics(latent: int = 3, sigma: float = 0.3) -> LinearDynamics:
    torch.manual_seed(0)
    model = LinearDynamics(latent, 2, sigma).double()
    torch.nn.init.normal_(model.effect)
    return model.requires_grad_(False)


def gaussian(seed: int, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """A random mean and standard deviation [1, 1, size]."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_std = torch.randn(2, 1, 1, size, generator=generator, dtype=torch.float64)
    return mean, (0.4 * log_std).exp()


def noise(*shape: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(model: LinearDynamics, past: torch.Tensor, action: torch.Tensor, seed: int = 9) -> torch.Tensor:
    """Samples of (s_t, s'_t) straight from eq. 5-6."""
    s, rate = past.chunk(2, -1)
    e1, e2 = noise(2, *s.shape, seed=seed)
    rate = rate + torch.einsum('la,nbka->nbkl', model.effect, action) + model.sigma * e1
    return torch.cat([s + rate + model.sigma * e2, rate], -1)


def test_prediction_has_the_moments_of_sampled_equations() -> None:
    model = dynamics()
    (mean, std), (action, action_std) = gaussian(1), gaussian(2, 2)
    samples = step(model, mean + std * noise(N, 1, 1, 6, seed=1), action + action_std * noise(N, 1, 1, 2, seed=2))
    prior = model.marginalised(model.pushed(mean, action), model.widened(std ** 2, action_std ** 2))
    predicted, variance = prior.marginal()
    assert torch.allclose(samples.mean(0), predicted, atol=0.02)
    assert torch.allclose(samples.var(0), variance, rtol=0.02)
    covariance = torch.cov(samples[:, 0, 0].T)
    assert torch.allclose(covariance[:3, 3:].diagonal(), prior.variance[0, 0, 3:], rtol=0.03)  # cov(s, s') = var s'


def test_density_is_that_of_the_joint_gaussian() -> None:
    """p(s_t, s'_t | past) of eq. 5-6 has the covariance sigma^2 [[2, 1], [1, 1]]."""
    model = dynamics(latent=1, sigma=0.5)
    past = torch.tensor([0.3, -0.2], dtype=torch.float64)
    x = torch.tensor([0.7, 0.4], dtype=torch.float64)
    joint = MultivariateNormal(torch.tensor([0.1, -0.2], dtype=torch.float64),
                               0.25 * torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64))
    # A very narrow q at x: E_q[-log p] = expected_kl + H(q).
    narrow = torch.full((2,), -12.0, dtype=torch.float64)
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) - 12.0)
    got = -(expected_kl(x, narrow, model.given(past)) + entropy)
    assert got.item() == pytest.approx(joint.log_prob(x).item(), abs=1e-6)


def test_kl_by_hand() -> None:
    """L = 1, sigma = 1; past (0, 1) known; q: s ~ N(3, 1), s' ~ N(1, 1).

    s' given the past is N(1, 1): no difference, KL 0. s - s' has mean 2 and variance 2 under q and N(0, 1) under p:
    E[-log p] - H = (4 + 2) / 2 + log(2 pi) / 2 - log(2 pi e) / 2 = 3 - 1/2.
    """
    model = LinearDynamics(1, 2, 1.0).double()
    q, past = torch.tensor([3.0, 1.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert expected_kl(q, torch.zeros(2, dtype=torch.float64), model.given(past)).item() == pytest.approx(2.5)


def test_standard_prior_is_the_usual_kl() -> None:
    mean, std = gaussian(3)
    prior = Transition(torch.zeros_like(mean), torch.ones_like(mean), mean.new_zeros(1))
    usual = torch.distributions.kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(-1)
    assert torch.allclose(expected_kl(mean, std.log(), prior), usual)


@pytest.mark.parametrize('integrated', [True, False])
def test_kl_equals_monte_carlo(integrated: bool) -> None:
    """Both uses: the past integrated out (a filter), and expectations over beliefs about it (eq. 8)."""
    model = dynamics()
    (mean, std), (before, before_std), (action, action_std) = gaussian(1), gaussian(4), gaussian(2, 2)
    x = mean + std * noise(N, 1, 1, 6, seed=1)
    acted = action + action_std * noise(N, 1, 1, 2, seed=2)
    log_q = Normal(mean, std).log_prob(x).sum(-1)
    if integrated:
        prior = model.marginalised(model.pushed(before, action), before_std ** 2)
        got = expected_kl(mean, std.log(), prior, model.widened(torch.zeros_like(before), action_std ** 2))
        ones, diagonal = torch.ones(3, dtype=torch.float64), torch.diag_embed
        v, v_rate = (before_std ** 2 + model.sigma ** 2).squeeze().chunk(2)
        covariance = torch.cat([torch.cat([diagonal(v + v_rate), diagonal(v_rate * ones)], 1),
                                torch.cat([diagonal(v_rate * ones), diagonal(v_rate)], 1)], 0)
        rate = before[..., 3:] + acted @ model.effect.T
        centre = torch.cat([before[..., :3] + rate, rate], -1)
        log_p = MultivariateNormal(centre, covariance).log_prob(x)
    else:
        past = before + before_std * noise(N, 1, 1, 6, seed=3)
        got = expected_kl(mean, std.log(), model.given(model.pushed(before, action)),
                          model.widened(before_std ** 2, action_std ** 2))
        rate = past[..., 3:] + acted @ model.effect.T
        log_p = (Normal(rate, model.sigma).log_prob(x[..., 3:])
                 + Normal(past[..., :3] + x[..., 3:], model.sigma).log_prob(x[..., :3])).sum(-1)
    sampled = log_q - log_p
    error = sampled.std() / math.sqrt(N)
    assert abs(got.item() - sampled.mean().item()) < 5 * error
    assert error < 0.02 * got.item()  # so that the comparison says something


def test_kl_is_zero_only_for_the_prior_itself() -> None:
    mean, std = gaussian(5)
    prior = Transition(mean, std ** 2, mean.new_zeros(1))
    assert expected_kl(mean, std.log(), prior).item() == pytest.approx(0, abs=1e-12)
    assert expected_kl(mean + 0.1, std.log(), prior).item() > 0


def test_without_action_a_thing_keeps_its_rate() -> None:
    model = LinearDynamics(1, 2, 0.1)
    mean = torch.tensor([[[1.0, 0.5]]])
    for _ in range(3):
        mean, _ = model.given(model.pushed(mean, torch.zeros(1, 1, 2))).marginal()
    assert mean.flatten().tolist() == [2.5, 0.5]
