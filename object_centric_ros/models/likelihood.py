"""Likelihoods of an image given a scene. Each returns log p per pixel [B, H, W], in nats, in log-sum-exp form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from object_centric_ros.models.belief import Scene, log_normal


class Likelihood(Protocol):
    """log p(x | scene) of each pixel."""

    def __call__(self, image: Tensor, scene: Scene) -> Tensor:
        """Image [B, C, H, W] in [0, 1] -> [B, H, W]."""
        ...


class GaussianMixture:
    """log sum_k m_k N(x | C_k, sigma) with one component for all channels (PARTS eq. 2, IODINE eq. 1, OP3 eq. 1)."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, image: Tensor, scene: Scene) -> Tensor:
        """Image [B, C, H, W] -> [B, H, W]."""
        component = log_normal(image[:, None], scene.colours, self.sigma).sum(2)
        return torch.logsumexp(scene.log_masks + component, 1)


class ChannelMixture:
    """sum_c log sum_k m_k N(x_c | C_kc, sigma): each channel has components of its own (EfficientMORL's mixture)."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, image: Tensor, scene: Scene) -> Tensor:
        """Image [B, C, H, W] -> [B, H, W]."""
        component = log_normal(image[:, None], scene.colours, self.sigma)
        return torch.logsumexp(scene.log_masks[:, :, None] + component, 1).sum(1)


class ComposedGaussian:
    """log N(x | sum_k m_k C_k, sigma): the likelihood of a composed image (EfficientMORL's "Gaussian" choice)."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, image: Tensor, scene: Scene) -> Tensor:
        """Image [B, C, H, W] -> [B, H, W]."""
        return log_normal(image, scene.image, self.sigma).sum(1)


LIKELIHOODS: dict[str, Callable[[float], Likelihood]] = {
    'mixture': GaussianMixture, 'channel_mixture': ChannelMixture, 'composed': ComposedGaussian}
