"""Expectation maximisation over pixels (N-EM, Greff et al. 2017; R-NEM, van Steenkiste et al. 2018, section 2.1).

An image is a mixture of K components; each gives every pixel a distribution with parameters psi. Here psi is kept
before its activation ("parameters" a: the logit of a Bernoulli, the mean of a Gaussian), so that log-probabilities are
exact where the authors' code clips probabilities at 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from object_centric_ros.models.belief import log_normal


class Pixels(Protocol):
    """Distribution of a pixel's channel given a component; all elementwise, a the parameters before activation.

    Attributes:
        blank: parameter of a component that draws nothing, which is the prior P(x_i) of eq. 3.
        precision: d log p(x | a) / d a = precision (x - mean(a)).
    """

    blank: float
    precision: float

    def mean(self, a: Tensor) -> Tensor:
        """psi."""
        ...

    def log_prob(self, x: Tensor, a: Tensor) -> Tensor:
        """log p(x | a), nats."""
        ...

    def kl_from_prior(self, a: Tensor) -> Tensor:
        """D_KL[P(x_i) || P(x_i | a)], nats."""
        ...

    def presence(self, a: Tensor) -> Tensor:
        """How much a component draws here: mask logits of components that are not held against an image."""
        ...

    def corrupt(self, x: Tensor, uniform: Tensor, rate: float) -> Tensor:
        """The image with noise in a part `rate` of its values; `uniform` in [0, 1) says which and how."""
        ...

    def stand_in(self, a: Tensor, on: float) -> Tensor:
        """The frame that components [B, K, ...] predict together, for an E-step without the true one [B, ...]."""
        ...


class Bernoulli:
    """Binary pixels; the prior is p = 0 and noise flips bits (appendix A.1)."""

    blank = -20.0
    precision = 1.0

    def mean(self, a: Tensor) -> Tensor:
        """Probability of a one."""
        return a.sigmoid()

    def log_prob(self, x: Tensor, a: Tensor) -> Tensor:
        """x log psi + (1 - x) log(1 - psi)."""
        return x * a - softplus(a)

    def kl_from_prior(self, a: Tensor) -> Tensor:
        """-log(1 - psi)."""
        return softplus(a)

    def presence(self, a: Tensor) -> Tensor:
        """log psi: the softmax over components is gamma of a pixel that is on."""
        return logsigmoid(a)

    def corrupt(self, x: Tensor, uniform: Tensor, rate: float) -> Tensor:
        """Flipped bits."""
        return torch.where(uniform < rate, 1 - x, x)

    def stand_in(self, a: Tensor, on: float) -> Tensor:
        """max_k psi, thresholded (appendix A.1, Simulation)."""
        return (self.mean(a.amax(1)) > on).to(a.dtype)


class Gaussian:
    """Real-valued pixels of a fixed sigma; the prior is a mean of 0, noise replaces values by uniform ones.

    R-NEM's paper has binary images alone; this is N-EM's other case, with a noise of our choice.
    """

    blank = 0.0

    def __init__(self, sigma: float) -> None:
        self.sigma, self.precision = sigma, sigma ** -2

    def mean(self, a: Tensor) -> Tensor:
        """The parameter itself."""
        return a

    def log_prob(self, x: Tensor, a: Tensor) -> Tensor:
        """log N(x | psi, sigma^2)."""
        return log_normal(x, a, self.sigma)

    def kl_from_prior(self, a: Tensor) -> Tensor:
        """psi^2 / (2 sigma^2)."""
        return 0.5 * (a / self.sigma) ** 2

    def presence(self, a: Tensor) -> Tensor:
        """psi^2 / (2 sigma^2): by how much a pixel that is as drawn speaks for the component and against nothing."""
        return self.kl_from_prior(a)

    def corrupt(self, x: Tensor, uniform: Tensor, rate: float) -> Tensor:
        """Values below the rate, brought to [0, 1), are uniform numbers themselves."""
        return torch.where(uniform < rate, uniform / max(rate, 1e-6), x)

    def stand_in(self, a: Tensor, on: float) -> Tensor:
        """max_k psi."""
        return a.amax(1)


PIXELS: dict[str, Callable[[float], Pixels]] = {'bernoulli': lambda sigma: Bernoulli(), 'gaussian': Gaussian}


def initial_log_gamma(shape: tuple[int, int, int, int], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """log gamma [B, K, H, W] before the first E-step: |N(0, 1)| normalised over components, which tells them apart."""
    noise = torch.randn(shape, generator=generator, device=like.device).abs() + torch.finfo(torch.float32).tiny
    return noise.log().log_softmax(1).to(like.dtype)


def log_responsibilities(pixels: Pixels, x: Tensor, a: Tensor) -> Tensor:
    """The E-step: log gamma [B, K, H, W] of image [B, C, H, W] under components a [B, K, C, H, W], uniform mixing.

    The authors' code adds 1e-6 to each probability, so that a pixel which no component expects (p_k << 1e-6) is shared
    evenly; here it goes to the component that expects it most.
    """
    return pixels.log_prob(_wide(x)[:, None], _wide(a)).sum(2).log_softmax(1).to(a.dtype)


def cluster_losses(pixels: Pixels, x: Tensor, a: Tensor, log_gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Intra- and inter-cluster loss (eq. 3) of each pixel [B, H, W], nats, summed over components and channels.

    gamma is a constant: nothing is propagated through it (appendix A.1).

    Args:
        x: image [B, C, H, W]; a: [B, K, C, H, W]; log_gamma: [B, K, H, W].
    """
    gamma, x, a = _wide(log_gamma).detach().exp()[:, :, None], _wide(x)[:, None], _wide(a)
    intra = -gamma * pixels.log_prob(x, a)
    inter = (1 - gamma) * pixels.kl_from_prior(a)
    return intra.sum((1, 2)), inter.sum((1, 2))


def upper_bound_loss(pixels: Pixels, x: Tensor, a: Tensor) -> Tensor:
    """-log p(x | max_k psi) of each pixel [B, H, W]: no gamma, and so no look at the answer (section 4, note 4)."""
    return -pixels.log_prob(_wide(x), _wide(a).amax(1)).sum(1)


def copy_loss(x: Tensor, previous: Tensor, clip: float = 1e-6) -> Tensor:
    """Cross-entropy [B, H, W] of the baseline that predicts the current frame (section 4): what losses are relative to.

    It is infinite for certain predictions; the authors' clip makes a changed pixel cost log 1e6.
    """
    psi = _wide(previous).clamp(clip, 1 - clip)
    return -(_wide(x) * psi.log() + (1 - _wide(x)) * (1 - psi).log()).sum(1)


def total(loss: Tensor, where: Tensor | None = None) -> Tensor:
    """Sum over the pixels of an image [B]; with a mask [B, H, W] over those of it only.

    With the pixels of colliding objects as mask this is the relational loss, not normalised by their number.
    """
    return (loss if where is None else loss * where).sum((1, 2))


def log_mixture(pixels: Pixels, x: Tensor, a: Tensor) -> Tensor:
    """log p(x) of each pixel [B, H, W] under the mixture (eq. 1) with equal weights."""
    return pixels.log_prob(_wide(x)[:, None], _wide(a)).sum(2).logsumexp(1) - math.log(a.shape[1])


def _wide(x: Tensor) -> Tensor:
    """Sums over an image are taken in float32 or better."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
