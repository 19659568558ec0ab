"""Likelihoods of an image given a scene. Each returns log p per pixel [B, H, W], in nats, in log-sum-exp form."""

from __future__ import annotations

import math
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
    """log sum_k m_k N(x | C_k, sigma) with one component for all channels (PARTS eq. 2, IODINE eq. 1, OP3 eq. 2)."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, image: Tensor, scene: Scene) -> Tensor:
        """Image [B, C, H, W] -> [B, H, W]."""
        return self.mix(scene.log_masks + self.components(image, scene))

    def components(self, image: Tensor, scene: Scene) -> Tensor:
        """log p_k of each pixel [B, K, H, W], as if it were slot k's."""
        return log_normal(image[:, None], scene.colours, self.sigma).sum(2)

    def mix(self, weighted: Tensor) -> Tensor:
        """log sum_k m_k p_k from log m_k p_k: [B, K, H, W] -> [B, H, W]."""
        return torch.logsumexp(weighted, 1)

    def posterior(self, components: Tensor) -> Tensor:
        """p_k / sum_j p_j from log p_k, both [B, K, H, W]: whose the pixel is if all masks were alike."""
        return components.softmax(1)

    def variance(self, channels: int) -> float:
        """What the squared distance is divided by, twice, in the exponent."""
        return self.sigma ** 2

    @torch.no_grad()
    def gradients(self, image: Tensor, scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of the summed log p, in closed form and cut from the graph. With r_k = m_k p_k / p they are

        by the colours      r_k (x - C_k) / sigma^2     [B, K, C, H, W]
        by the mask logits  r_k - m_k sum_j r_j         [B, K, H, W]
        by the masks        p_k / p                     [B, K, H, W]

        The last takes the masks as free weights, and grows without bound where a slot explains a pixel that its mask
        shuts out; it is held at 1e12.
        """
        components, log_masks = self.components(image, scene), scene.log_masks
        total = self.mix(log_masks + components)[:, None]
        share = (log_masks + components - total).exp()
        colours = (share / self.variance(image.shape[1]))[:, :, None] * (image[:, None] - scene.colours)
        logits = share - log_masks.exp() * share.sum(1, keepdim=True)
        return colours, logits, (components - total).clamp(max=27.6).exp()


class UnnormalisedMixture(GaussianMixture):
    """The mixture of OP3's released code: log(sum_k m_k p_k + 1e-12) with

        p_k = exp(-|x - C_k|^2 / (2 C sigma^2)) / (sigma^C (2 pi)^C)

    The exponent is a mean over channels, so sigma is in effect sqrt(C) times larger, and the constant is not its root.
    At 27.6 nats a pixel the loss no longer changes, and its gradient is gone.
    """

    def components(self, image: Tensor, scene: Scene) -> Tensor:
        """log p_k of each pixel [B, K, H, W]."""
        channels = image.shape[1]
        distance = (image[:, None] - scene.colours).square().sum(2)
        return -distance / (2 * self.variance(channels)) - channels * math.log(2 * math.pi * self.sigma)

    def mix(self, weighted: Tensor) -> Tensor:
        """log(sum_k m_k p_k + 1e-12)."""
        return (weighted.exp().sum(1) + 1e-12).log()

    def posterior(self, components: Tensor) -> Tensor:
        """p_k / (sum_j p_j + 1e-8)."""
        p = components.exp()
        return p / (p.sum(1, keepdim=True) + 1e-8)

    def variance(self, channels: int) -> float:
        """sigma^2, times the number of channels."""
        return channels * self.sigma ** 2


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
    'mixture': GaussianMixture, 'released_mixture': UnnormalisedMixture, 'channel_mixture': ChannelMixture,
    'composed': ComposedGaussian}
