"""IODINE's refinement network on a Gaussian belief: what slot attention takes the place of (PARTS Table 2)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.likelihood import GaussianMixture
from object_centric_ros.models.refinement import ImageFeedback, RefinementNetwork


class IodineRefiner(nn.Module):
    """belief, decoded sample, loss gradient -> refined belief, added as everywhere in PARTS.

    Args:
        image_size: H = W.
        latent: D.
        channels, stride: of the convolutions.
        hidden: width of the layer behind them and of the LSTM.
        likelihood: whose responsibilities and gradients the network sees.
    """

    def __init__(self, image_size: int, latent: int, channels: tuple[int, ...], stride: int, hidden: int,
                 likelihood: GaussianMixture) -> None:
        super().__init__()
        self.likelihood, self.state = likelihood, 2 * hidden
        self.feedback = ImageFeedback(image_size)
        self.network = RefinementNetwork(self.feedback.channels, 4 * latent, (latent, latent), channels, 3, stride,
                                         hidden=hidden, memory=hidden, additive=True)

    def forward(self, belief: Belief, state: Tensor, image: Tensor, scene: Scene, gradient: Tensor
                ) -> tuple[Belief, Tensor]:
        """One refinement.

        Args:
            belief: [B, K, D]; state: of the LSTM [B, K, state].
            image: [B, 3, H, W]; scene: the belief's sample.
            gradient: of the loss by mean and log_std [B, K, 2D].

        Returns:
            the refined belief and the new state.
        """
        colours, _, masks = (-g for g in self.likelihood.gradients(image, scene))
        images = self.feedback(image, scene, self.likelihood.components(image, scene), colours, masks)
        parameters = torch.cat([belief.mean, belief.log_std], -1)
        new, hidden, cell = self.network(images, torch.cat([gradient, parameters], -1), parameters,
                                         *state.chunk(2, -1))
        mean, log_std = new.to(parameters.dtype).chunk(2, -1)
        state = torch.cat([hidden, cell], -1).to(parameters.dtype)
        return replace(belief, mean=mean, log_std=log_std.clamp(-6, 2)), state
