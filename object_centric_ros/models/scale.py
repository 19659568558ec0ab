"""Beliefs whose scale parameter's softplus is the variance, as OP3's and EfficientMORL's code has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from object_centric_ros.models.belief import Belief

FLOOR = 1e-5
"""Smallest variance."""


def softplus_log_std(scale: Tensor) -> Tensor:
    """log std of the scale parameter, elementwise: std = sqrt(softplus(min(scale, 80)) + 1e-5)."""
    return 0.5 * (functional.softplus(scale.clamp(max=80)) + FLOOR).log()


def softplus_scale(std: Tensor) -> Tensor:
    """The scale parameter of a standard deviation, elementwise; what is at the floor or below it becomes -20."""
    variance = (std.square() - FLOOR).clamp(min=2e-9)
    return variance + torch.log(-torch.expm1(-variance))


@dataclass(frozen=True)
class ScaleBelief(Belief):
    """A belief that is learned and refined through its scale parameter.

    Attributes:
        scale: [B, K, D]; log_std is a function of it.
    """

    scale: Tensor

    @classmethod
    def of(cls, mean: Tensor, scale: Tensor) -> ScaleBelief:
        """The Gaussian of mean and scale parameter [B, K, D], without memory."""
        return ScaleBelief(mean, softplus_log_std(scale), mean[..., :0], scale)
