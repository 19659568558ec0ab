"""E-step, losses and noise of N-EM against plain computations in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from object_centric_ros.models.em import (
    PIXELS,
    Bernoulli,
    Gaussian,
    cluster_losses,
    copy_loss,
    initial_log_gamma,
    log_mixture,
    log_responsibilities,
    total,
    upper_bound_loss,
)

B, K, C, H, W = 2, 3, 1, 4, 5
SIGMA = 0.3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def example(kind: str) -> tuple[Tensor, Tensor]:
    """An image [B, C, H, W] and pixel parameters [B, K, C, H, W], double precision; colours are of three channels."""
    channels = 3 if kind == 'gaussian' else C
    x = torch.rand(B, channels, H, W, generator=seeded(), dtype=torch.float64)
    a = torch.randn(B, K, channels, H, W, generator=seeded(1), dtype=torch.float64)
    return (x.round() if kind == 'bernoulli' else x), a


def probabilities(kind: str, x: Tensor, a: Tensor) -> np.ndarray:
    """p(x_i | psi_ik) of each pixel, written out: [B, K, H, W]."""
    p = np.ones((B, K, H, W))
    for b, k, c, i, j in np.ndindex(*a.shape):
        value, parameter = float(x[b, c, i, j]), float(a[b, k, c, i, j])
        if kind == 'bernoulli':
            psi = 1 / (1 + math.exp(-parameter))
            p[b, k, i, j] *= psi if value else 1 - psi
        else:
            p[b, k, i, j] *= math.exp(-(value - parameter) ** 2 / (2 * SIGMA ** 2)) / (SIGMA * math.sqrt(2 * math.pi))
    return p


@pytest.mark.parametrize('kind', sorted(PIXELS))
def test_e_step_is_bayes_rule(kind: str) -> None:
    x, a = example(kind)
    p = probabilities(kind, x, a)
    gamma = log_responsibilities(PIXELS[kind](SIGMA), x, a).exp()
    assert np.allclose(gamma.numpy(), p / p.sum(1, keepdims=True), rtol=1e-10)
    assert np.allclose(log_mixture(PIXELS[kind](SIGMA), x, a).exp().numpy(), p.mean(1), rtol=1e-10)
    single = log_responsibilities(PIXELS[kind](SIGMA), x.float(), a.float()).exp()
    assert torch.allclose(single, gamma.float(), atol=1e-5)


def test_losses_are_equation_3() -> None:
    x, a = example('bernoulli')
    p = probabilities('bernoulli', x, a)
    gamma = p / p.sum(1, keepdims=True)
    psi = 1 / (1 + np.exp(-a.numpy()[:, :, 0]))
    pixels = Bernoulli()
    intra, inter = cluster_losses(pixels, x, a, log_responsibilities(pixels, x, a))
    assert np.allclose(intra.numpy(), -(gamma * np.log(p)).sum(1))
    assert np.allclose(inter.numpy(), -((1 - gamma) * np.log(1 - psi)).sum(1))
    assert np.allclose(total(intra).numpy(), intra.numpy().sum((1, 2)))
    bound = upper_bound_loss(pixels, x, a)
    most = psi.max(1)
    assert np.allclose(bound.numpy(), -np.log(np.where(x.numpy()[:, 0] > 0, most, 1 - most)))


def test_losses_of_given_numbers() -> None:
    """One pixel that is on, two components that say 0.9 and 0.1: gamma is 0.9 and 0.1."""
    pixels, x = Bernoulli(), torch.ones(1, 1, 1, 1)
    a = torch.tensor([0.9, 0.1]).logit().reshape(1, 2, 1, 1, 1)
    log_gamma = log_responsibilities(pixels, x, a)
    assert log_gamma.exp().flatten().tolist() == pytest.approx([0.9, 0.1])
    intra, inter = cluster_losses(pixels, x, a, log_gamma)
    assert intra.item() == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert inter.item() == pytest.approx(-0.1 * math.log(0.1) - 0.9 * math.log(0.9))
    assert copy_loss(x, 1 - x).item() == pytest.approx(6 * math.log(10))
    assert copy_loss(x, x).item() == pytest.approx(0, abs=1e-5)


def test_gaussian_inter_cluster_loss_is_a_kl() -> None:
    pixels, psi = Gaussian(SIGMA), torch.linspace(-1, 1, 5, dtype=torch.float64)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(0.0, SIGMA), normal(psi, SIGMA))
    assert torch.allclose(pixels.kl_from_prior(psi), wanted)
    assert torch.allclose(pixels.log_prob(torch.tensor(0.2), psi), normal(psi, SIGMA).log_prob(torch.tensor(0.2)))


def test_relational_loss_counts_the_masked_pixels_alone() -> None:
    x, a = example('bernoulli')
    pixels = Bernoulli()
    intra, _ = cluster_losses(pixels, x, a, log_responsibilities(pixels, x, a))
    mask = torch.zeros(B, H, W, dtype=torch.bool)
    mask[0, 1, 2] = mask[0, 3, 0] = True
    assert total(intra, mask).tolist() == pytest.approx([(intra[0, 1, 2] + intra[0, 3, 0]).item(), 0.0])


@pytest.mark.parametrize('kind', sorted(PIXELS))
def test_nothing_is_propagated_through_gamma(kind: str) -> None:
    pixels, (x, a) = PIXELS[kind](SIGMA), example(kind)
    a.requires_grad_()
    log_gamma = log_responsibilities(pixels, x, a)
    (found,) = torch.autograd.grad(sum(total(m).sum() for m in cluster_losses(pixels, x, a, log_gamma)), a)
    gamma = log_gamma.detach().exp()[:, :, None]
    fixed = -(gamma * pixels.log_prob(x[:, None], a)).sum() + ((1 - gamma) * pixels.kl_from_prior(a)).sum()
    assert torch.allclose(found, torch.autograd.grad(fixed, a)[0])
    through = log_responsibilities(pixels, x, a).exp()[:, :, None]
    leaking = -(through * pixels.log_prob(x[:, None], a)).sum() + ((1 - through) * pixels.kl_from_prior(a)).sum()
    assert not torch.allclose(found, torch.autograd.grad(leaking, a)[0])


@pytest.mark.parametrize('kind', sorted(PIXELS))
def test_precision_is_that_of_the_score(kind: str) -> None:
    pixels, (x, a) = PIXELS[kind](SIGMA), example(kind)
    a.requires_grad_()
    (score,) = torch.autograd.grad(pixels.log_prob(x[:, None], a).sum(), a)
    assert torch.allclose(score, pixels.precision * (x[:, None] - pixels.mean(a)))


@pytest.mark.parametrize('certain', [-200.0, 200.0])
@pytest.mark.parametrize('value', [0.0, 1.0])
def test_certain_predictions_keep_their_gradient(certain: float, value: float) -> None:
    """A wrong certain prediction costs its logit and can be unlearned; with clipped probabilities it could not."""
    pixels, x = Bernoulli(), torch.full((1, 1, 1, 1), value)
    a = torch.full((1, 2, 1, 1, 1), certain, requires_grad=True)
    loss = sum(total(m).sum() for m in cluster_losses(pixels, x, a, log_responsibilities(pixels, x, a)))
    (gradient,) = torch.autograd.grad(loss, a)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    if (certain > 0) != bool(value):
        assert loss.item() >= 200 and gradient.abs().min() > 0.4


@pytest.mark.parametrize('rate', [0.02, 0.2])
def test_bits_flip_at_the_rate(rate: float) -> None:
    n = 200
    x = torch.rand(1, 1, n, n, generator=seeded()).round()
    noisy = Bernoulli().corrupt(x, torch.rand(x.shape, generator=seeded(1)), rate)
    assert set(noisy.unique().tolist()) == {0.0, 1.0}
    for value in (0, 1):  # ones and zeros alike
        flipped = (noisy != x)[x == value].double()
        assert flipped.mean().item() == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / flipped.numel()))


def test_gaussian_noise_replaces_by_uniform_numbers() -> None:
    x = torch.full((1, 3, 100, 100), 2.0)
    noisy = Gaussian(SIGMA).corrupt(x, torch.rand(x.shape, generator=seeded()), 0.2)
    changed = noisy[noisy != x]
    assert len(changed) / x.numel() == pytest.approx(0.2, abs=0.01)
    assert (changed.min() >= 0) and (changed.max() < 1) and changed.mean().item() == pytest.approx(0.5, abs=0.02)


def test_initial_gamma_is_random_and_shared_out() -> None:
    log_gamma = initial_log_gamma((B, K, 50, 50), seeded(), torch.zeros(()))
    drawn = torch.randn(B, K, 50, 50, generator=seeded()).abs()
    assert torch.allclose(log_gamma.exp(), drawn / drawn.sum(1, keepdim=True), atol=1e-6)
    assert torch.isfinite(log_gamma).all()


def test_stand_in_is_the_largest_prediction_above_the_threshold() -> None:
    psi = torch.tensor([[0.05, 0.02], [0.2, 0.01], [0.9, 0.95]]).T.reshape(1, 2, 1, 1, 3)
    assert Bernoulli().stand_in(psi.logit(), 0.1).flatten().tolist() == [0, 1, 1]
    assert Gaussian(SIGMA).stand_in(psi, 0.1).flatten().tolist() == pytest.approx([0.05, 0.2, 0.95])
