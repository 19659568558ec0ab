"""What Slot Attention gave to others: an encoder of pixels, and slots that compete for its features.

Locatello et al. 2020, sections 2.1 and 2.2, with the sizes that EfficientMORL took over.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from object_centric_ros.models.convolution import convolve, one_at_a_time

EPSILON = 1e-8
"""Added to the attention before it is normalised over pixels, so that a slot that won nothing has a mean."""


class PixelEncoder(nn.Module):
    """Convolutions of 5x5, a linear map of four coordinates, layer norm and an MLP for each pixel.

    Args:
        image_size: H = W of the images, pixels.
        features: F, width of everything.
        layers: number of convolutions.
        image_channels: C.
        stride: of the first convolution, after which the grid has ceil(H / stride)^2 places.
    """

    def __init__(self, image_size: int, features: int, layers: int = 4, image_channels: int = 3, stride: int = 1
                 ) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer('grid', corner_coordinates(-(-image_size // stride)), persistent=False)
        self.grid: Tensor
        self.convolutions = nn.Sequential()
        for i in range(layers):
            self.convolutions.append(nn.Conv2d(features if i else image_channels, features, 5, 1 if i else stride, 2))
            self.convolutions.append(nn.ReLU(inplace=True))
        self.position = nn.Linear(4, features)
        self.norm = nn.LayerNorm(features)
        self.mix = nn.Sequential(nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, features))

    def forward(self, image: Tensor) -> Tensor:
        """Image [B, C, H, W] in [-1, 1] -> features [B, N, F] of the grid's places, row by row."""
        if self.stride == 1 and one_at_a_time(image, self.position.weight):
            layers = [layer for layer in self.convolutions if isinstance(layer, nn.Conv2d)]
            grids = convolve(image, layers, 'relu', behind=True).flatten(2)
            pixels = torch.stack([grid.T.contiguous() for grid in grids])  # torch transposes only matrices fast
        else:
            pixels = self.convolutions(image).flatten(2).transpose(1, 2)
        return self.mix(self.norm(pixels + self.position(self.grid).flatten(0, 1)))


def corner_coordinates(size: int) -> Tensor:
    """(1 - v, v, u, 1 - u) of each pixel [size, size, 4]: distances to the edges, 0 to 1, u to the right, v down."""
    v, u = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing='ij')
    return torch.stack([1 - v, v, u, 1 - u], -1)


class SlotReader(nn.Module):
    """Attention for which slots compete: normalised over slots, then over pixels (Slot Attention eq. 1 and 2).

    Keys and values are linear in the features, so that each slot's query is brought to the features and what it read to
    the values, instead of all pixels to both.

    Args:
        slot: D, size of a slot.
        features: F of the encoder.
    """

    def __init__(self, slot: int, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(slot)
        self.query = nn.Linear(slot, slot, bias=False)
        self.key = nn.Linear(features, slot, bias=False)
        self.value = nn.Linear(features, slot, bias=False)

    def forward(self, slots: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Slots [B, K, D] and features [B, N, F] -> what each read [B, K, D] and the attention [B, K, N].

        The attention is the one that sums to one over slots.
        """
        query = self.query(self.norm(slots)) @ self.key.weight / slots.shape[-1] ** 0.5
        attention = (query @ features.transpose(1, 2)).softmax(1)
        weights = attention + EPSILON
        return self.value(weights @ features / weights.sum(2, keepdim=True)), attention
