"""Latent preferences (eq. 9-12) and closed-form plans (eq. 13-14), against sampling and a numerical optimiser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.distributions import Normal, kl_divergence

from object_centric_ros.errors import InputError
from object_centric_ros.models.generalised import LinearDynamics
from object_centric_ros.models.preferences import (
    Preference,
    expected_free_energy,
    learn_preference,
    plan_actions,
    roll_out,
)

L, K = 5, 2


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem() -> tuple[LinearDynamics, torch.Tensor, torch.Tensor, Preference]:
    """Dynamics, a belief over (s, s') [1, K, 2L] and a preference."""
    dynamics = LinearDynamics(L, 2, 0.1).double().requires_grad_(False)
    dynamics.effect.copy_(normal(L, 2, seed=0))
    preference = Preference(normal(L, seed=3), (0.5 * normal(L, seed=4)).exp())
    return dynamics, normal(1, K, 2 * L, seed=1), (0.3 * normal(1, K, 2 * L, seed=2)).exp(), preference


def test_preference_has_the_moments_of_the_weighted_mixture() -> None:
    """Eq. 12 is the mean and the variance of the mixture sum_j u_j q_j of eq. 9."""
    mean, std = normal(6, 3, seed=0), (0.3 * normal(6, 3, seed=1)).exp()
    weight = torch.tensor([0.1, 2.0, 0.0, 1.0, 0.5, 3.0], dtype=torch.float64)
    preference = learn_preference(mean, std, weight)
    n = 400_000
    component = torch.multinomial(weight, n, replacement=True, generator=torch.Generator().manual_seed(0))
    samples = mean[component] + std[component] * normal(n, 3, seed=2)
    assert torch.allclose(preference.mean, samples.mean(0), atol=0.02)
    assert torch.allclose(preference.std, samples.std(0), rtol=0.01)


def test_preference_of_given_numbers() -> None:
    """Two examples 0 and 4 with std 1 and weights 3 and 1: mean 1, variance (3 (1 + 1) + (9 + 1)) / 4 = 4."""
    got = learn_preference(torch.tensor([[0.0], [4.0]]), torch.ones(2, 1), torch.tensor([3.0, 1.0]))
    assert (got.mean.item(), got.std.item()) == pytest.approx((1.0, 2.0))
    drawn = learn_preference(torch.tensor([[[0.0]] * 3, [[0.0], [0.0], [6.0]]]), torch.ones(2, 3, 1))
    assert drawn.mean.item() == pytest.approx(1.0)  # leading axes count alike, no weights: all the same


@pytest.mark.parametrize('weight', [[1.0, -1.0], [0.0, 0.0], [float('nan'), 1.0]])
def test_weights_that_cannot_be(weight: list[float]) -> None:
    with pytest.raises(InputError, match='importance weights'):
        learn_preference(torch.zeros(2, 1), torch.ones(2, 1), torch.tensor(weight))


def test_roll_out_has_the_moments_of_sampled_dynamics() -> None:
    dynamics, mean, std, _ = problem()
    actions = normal(1, 4, K, 2, seed=5)
    means, stds = roll_out(dynamics, mean, std, actions)
    n, sigma = 100_000, 0.1
    s, rate = (mean + std * normal(n, K, 2 * L, seed=6)).chunk(2, -1)
    for t in range(4):
        rate = rate + actions[0, t] @ dynamics.effect.T + sigma * normal(n, K, L, seed=7 + t)
        s = s + rate + sigma * normal(n, K, L, seed=17 + t)
        assert torch.allclose(s.mean(0), means[0, t], atol=0.1)
        assert torch.allclose(s.std(0), stds[0, t], rtol=0.02)


def test_expected_free_energy_is_the_sum_of_kls() -> None:
    dynamics, mean, std, preference = problem()
    actions = normal(1, 3, K, 2, seed=5)
    means, stds = roll_out(dynamics, mean, std, actions)
    wanted = kl_divergence(Normal(means, stds), Normal(preference.mean, preference.std)).sum()
    got = expected_free_energy(dynamics, mean, std, actions, preference)
    assert got.shape == (1,)
    assert got.item() == pytest.approx(wanted.item())


def test_one_step_is_equation_14() -> None:
    dynamics, mean, _, preference = problem()
    mean[..., L:] = 0  # a static image
    d, weight = dynamics.effect, torch.diag(preference.std ** -2)
    matrix = torch.linalg.inv(d.T @ weight @ d) @ d.T @ weight
    expected = (preference.mean - mean[..., :L]) @ matrix.T
    assert torch.allclose(plan_actions(d, mean, preference)[:, 0], expected)


@pytest.mark.parametrize('horizon', [1, 2, 4])
def test_plan_is_the_numerical_optimum(horizon: int) -> None:
    dynamics, mean, std, preference = problem()

    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        actions = torch.from_numpy(flat).reshape(1, horizon, K, 2).requires_grad_()
        loss = expected_free_energy(dynamics, mean, std, actions, preference).sum()
        (gradient,) = torch.autograd.grad(loss, actions)
        return loss.item(), gradient.numpy().ravel()
    options = {'gtol': 1e-9, 'maxiter': 2000}
    found = minimize(energy, np.zeros(horizon * K * 2), jac=True, method='BFGS', options=options)
    plan = plan_actions(dynamics.effect, mean, preference, horizon)
    assert plan.shape == (1, horizon, K, 2)
    assert np.allclose(plan.numpy().ravel(), found.x, atol=1e-5)
    assert energy(plan.numpy().ravel())[0] <= found.fun + 1e-9


def test_plan_goes_there_and_stays() -> None:
    """A reachable goal: reached after one step, at rest after two, then nothing is done."""
    dynamics, mean, std, _ = problem()
    mean[..., L:] = normal(1, K, 2, seed=8) @ dynamics.effect.T  # moving in a direction that actions can stop
    goal = Preference(mean[..., :L] + normal(1, K, 2, seed=9) @ dynamics.effect.T, torch.ones(L, dtype=torch.float64))
    plan = plan_actions(dynamics.effect, mean, goal, 5)
    means, _ = roll_out(dynamics, mean, std, plan)
    assert torch.allclose(means, goal.mean[:, None].expand_as(means))
    assert torch.allclose(plan[:, 2:], torch.zeros_like(plan[:, 2:]), atol=1e-9)


def test_slots_may_want_different_things() -> None:
    dynamics, mean, _, preference = problem()
    each = Preference(torch.stack([preference.mean, -preference.mean]), torch.stack([preference.std] * 2))
    plan = plan_actions(dynamics.effect, mean, each, 2)
    assert torch.allclose(plan[:, :, 0], plan_actions(dynamics.effect, mean[:, :1], preference, 2)[:, :, 0])
    other = Preference(-preference.mean, preference.std)
    assert torch.allclose(plan[:, :, 1], plan_actions(dynamics.effect, mean[:, 1:], other, 2)[:, :, 0])


def test_effect_that_does_nothing_gives_no_action() -> None:
    _, mean, _, preference = problem()
    effect = torch.zeros(L, 2, dtype=torch.float64)
    effect[:, 0] = 1
    plan = plan_actions(effect, mean, preference, 3)
    assert torch.isfinite(plan).all()
    assert torch.allclose(plan[..., 1], torch.zeros_like(plan[..., 1]))
    with pytest.raises(InputError, match='horizon'):
        plan_actions(effect, mean, preference, 0)
