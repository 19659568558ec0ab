"""GECO: the weight of the reconstruction as a Lagrange multiplier (Rezende and Viola 2018), as in EfficientMORL."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FLOOR = 0.55
"""Start and smallest value of the multiplier's parameter: its softplus is 1.005, so that the ELBO is the limit."""


class Geco(nn.Module):
    """Minimise the KL subject to a negative log-likelihood of at most `target`.

    The constraint is C = target - NLL of a batch, smoothed over steps; the weight of the NLL is the softplus of a
    parameter that grows while the constraint is violated (C < 0) and shrinks once it is met. Average and multiplier are
    parameters without gradient, so that a checkpoint carries them.

    Args:
        target: largest NLL of an image, nats.
        step: size of the multiplier's steps, per nat of violation.
        acceleration: how much faster the multiplier goes down than up.
        decay: of the moving average.
    """

    def __init__(self, target: float, step: float = 1e-6, acceleration: float = 5.0, decay: float = 0.99) -> None:
        super().__init__()
        self.target, self.step, self.acceleration, self.decay = target, step, acceleration, decay
        self.average = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.multiplier = nn.Parameter(torch.tensor(FLOOR), requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """Weight of the negative log-likelihood, a scalar of at least 1.005."""
        return functional.softplus(self.multiplier)

    @torch.no_grad()
    def update(self, nll: Tensor, adapt: bool = True) -> None:
        """Take the mean NLL of a training batch (scalar, nats); the first one only starts the average.

        Args:
            adapt: whether the multiplier moves (it does not while the model warms up).
        """
        constraint = (self.target - nll).to(self.average)
        if self.average == 0:
            self.average.copy_(constraint)
            return
        self.average.lerp_(constraint, 1 - self.decay)
        if adapt:
            rate = self.step * torch.where(self.average > 0, self.acceleration, 1.0)
            self.multiplier.sub_(rate * self.average).clamp_(min=FLOOR)
