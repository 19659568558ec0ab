"""Linear dynamics in generalised coordinates: a state s and its rate of change s' (OBAI section 2.2).

Written for the last axis of a tensor, [..., 2L] = (s, s'), so it takes beliefs of slots [B, K, 2L] and of whole
sequences alike. Features do not mix: every feature j is a pair (s_j, s'_j) of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Transition:
    """A Gaussian over (s, s') in which s may depend on s', feature by feature:

        s' ~ N(mean', variance'),   s | s' ~ N(mean + coupling * s', variance)

    With coupling 1 this is eq. 5-6, in that order; with coupling 0 it is a diagonal Gaussian such as the first frame's
    prior N(0, 1). The covariance of (s_j, s'_j) is [[variance + coupling^2 variance', coupling variance'],
    [coupling variance', variance']]; kept in factors, nothing has to be inverted.

    Attributes:
        mean, variance: [..., 2L].
        coupling: broadcasts against [..., L].
    """

    mean: Tensor
    variance: Tensor
    coupling: Tensor

    def marginal(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of s and s' each on its own [..., 2L]."""
        (m, m_rate), (v, v_rate) = self.mean.chunk(2, -1), self.variance.chunk(2, -1)
        c = self.coupling
        return torch.cat([m + c * m_rate, m_rate], -1), torch.cat([v + c * c * v_rate, v_rate], -1)


def expected_kl(mean: Tensor, log_std: Tensor, prior: Transition, spread: Tensor | None = None) -> Tensor:
    """E[KL(q || p)] in nats, summed over features: -H(q) - E_q log p (two of the terms of eq. 8), in closed form.

    Args:
        mean, log_std: of the diagonal Gaussian q(s, s') [..., 2L].
        prior: p; its mean may be uncertain itself, as when it comes from beliefs about the frame before.
        spread: variance of the prior's mean [..., 2L], over which the expectation is taken; None = 0.

    Returns:
        [...].
    """
    c = prior.coupling
    (m, m_rate), (v, v_rate) = mean.chunk(2, -1), (2 * log_std).exp().chunk(2, -1)
    off = torch.cat([m - c * m_rate, m_rate], -1) - prior.mean
    squared = off ** 2 + torch.cat([v + c * c * v_rate, v_rate], -1)
    if spread is not None:
        squared = squared + spread
    return (0.5 * (squared / prior.variance - 1 + prior.variance.log()) - log_std).sum(-1)


class LinearDynamics(nn.Module):
    """s'_t = s'_{t-1} + D a_{t-1} + sigma e_1,  s_t = s_{t-1} + s'_t + sigma e_2 (eq. 5-6).

    Args:
        latent: L.
        action_size: A, of the acceleration a that acts on one slot.
        sigma: standard deviation of the noise e_1 and e_2 (sigma_s of appendix C.2).
    """

    def __init__(self, latent: int, action_size: int, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        self.effect = nn.Parameter(0.01 * torch.randn(latent, action_size))
        """D [L, A]: what a unit of acceleration does to the rate of change of the latent state."""

    def pushed(self, mean: Tensor, action: Tensor) -> Tensor:
        """(s, s' + D a) [..., 2L] for an action [..., A]."""
        state, rate = mean.chunk(2, -1)
        return torch.cat([state, rate + (action[..., None, :] * self.effect).sum(-1)], -1)

    def widened(self, variance: Tensor, action_variance: Tensor) -> Tensor:
        """Variance of (s, s' + D a) [..., 2L] for independent actions of that variance [..., A]."""
        state, rate = variance.chunk(2, -1)
        return torch.cat([state, rate + (action_variance[..., None, :] * self.effect ** 2).sum(-1)], -1)

    def given(self, mean: Tensor) -> Transition:
        """p(s_t, s'_t | s_{t-1}, s'_{t-1} + D a = mean) [..., 2L]: eq. 5-6 for a known past."""
        return Transition(mean, torch.full_like(mean, self.sigma ** 2), mean.new_ones(1))

    def marginalised(self, mean: Tensor, variance: Tensor) -> Transition:
        """The same for a past of diagonal Gaussian belief [..., 2L], which is integrated out.

        Given s'_t, what is left of s_t is s_{t-1} + sigma e_2, so the result has the same factors as eq. 5-6.
        """
        return Transition(mean, variance + self.sigma ** 2, mean.new_ones(1))
