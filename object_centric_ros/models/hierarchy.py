"""Parts of a hierarchy of stochastic slots: a layer of it, the prior of one layer given another, a light refinement.

EfficientMORL (Emami et al. 2021), Algorithm 1. All layers share their weights, as do all steps of the refinement. A
Gaussian is a mean and a scale parameter whose softplus is the variance (`scale`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from object_centric_ros.models.slots import SlotReader


class DualGRU(nn.Module):
    """Two recurrent units, one for the mean and one for the scale, that read the same input (Algorithm 1, line 12).

    Args:
        size: D, of the input and of either state.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.GRUCell(size, size)
        self.scale = nn.GRUCell(size, size)

    def forward(self, read: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Input and states [..., D] -> the new mean and scale [..., D]."""
        flat = read.flatten(0, -2)
        return (self.mean(flat, mean.flatten(0, -2)).view_as(mean),
                self.scale(flat, scale.flatten(0, -2)).view_as(scale))


class StochasticLayer(nn.Module):
    """q(z^l | x, z^{l-1}) (Algorithm 1, lines 8 to 15).

    Line 15 adds the softplus of an MLP to the standard deviation; the authors' code adds the MLP itself to the scale
    parameter, which is what happens here.

    Args:
        latent: D.
        features: F of the encoder.
    """

    def __init__(self, latent: int, features: int) -> None:
        super().__init__()
        self.reader = SlotReader(latent, features)
        self.gru = DualGRU(latent)
        self.mean, self.scale = (residual_mlp(latent) for _ in range(2))

    def forward(self, z: Tensor, mean: Tensor, scale: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One layer.

        Args:
            z: sample of the layer below [B, K, D].
            mean, scale: its parameters [B, K, D].
            features: [B, N, F].

        Returns:
            mean and scale of this layer [B, K, D], and its attention [B, K, N], which sums to one over slots.
        """
        read, attention = self.reader(z, features)
        mean, scale = self.gru(read, mean, scale)
        return mean + self.mean(mean), scale + self.scale(scale), attention


def residual_mlp(size: int) -> nn.Sequential:
    """Layer norm and an MLP with twice as wide a hidden layer, whose output is to be added: [..., D] -> [..., D]."""
    return nn.Sequential(nn.LayerNorm(size), nn.Linear(size, 2 * size), nn.ReLU(inplace=True),
                         nn.Linear(2 * size, size))


class ConditionalPrior(nn.Module):
    """p(z | z') of neighbouring layers, each slot on its own: one hidden layer and two linear heads (section 3.1).

    Args:
        latent: D.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(latent, 2 * latent), nn.ELU(inplace=True))
        self.mean, self.scale = (nn.Linear(2 * latent, latent) for _ in range(2))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The other layer's sample [..., D] -> mean and scale [..., D]."""
        hidden = self.hidden(z)
        return self.mean(hidden), self.scale(hidden)


class LightRefinement(nn.Module):
    """f_phi of eq. 6: parameters and the gradient of the loss by them -> what to add; no picture goes in.

    Args:
        latent: D, also the size of the recurrent state.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(4 * latent, 2 * latent), nn.ELU(inplace=True),
                                    nn.Linear(2 * latent, latent))
        self.gru = nn.GRUCell(latent, latent)
        self.mean, self.scale = (nn.Linear(latent, latent) for _ in range(2))

    def forward(self, mean: Tensor, scale: Tensor, mean_gradient: Tensor, scale_gradient: Tensor, state: Tensor
                ) -> tuple[Tensor, Tensor, Tensor]:
        """Everything [..., D] -> increments of mean and scale, and the new state.

        The gradients are brought to zero mean and unit variance in each slot, without learned gains (line 22).
        """
        gradients = [functional.layer_norm(g, g.shape[-1:]) for g in (mean_gradient, scale_gradient)]
        encoded = self.encode(torch.cat([mean, scale, *gradients], -1))
        state = self.gru(encoded.flatten(0, -2), state.flatten(0, -2)).view_as(state)
        return self.mean(state), self.scale(state), state
