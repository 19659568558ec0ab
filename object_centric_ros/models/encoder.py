"""Bottom-up encoder: image and log-likelihood map -> a grid of features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def grid_coordinates(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Pixel-centre coordinates (u, v) in [-1, 1], u right, v down: [height, width, 2]."""
    v = (torch.arange(height, device=device) + 0.5) * (2 / height) - 1
    u = (torch.arange(width, device=device) + 0.5) * (2 / width) - 1
    return torch.stack(torch.meshgrid(v, u, indexing='ij')[::-1], -1)


class ConvEncoder(nn.Module):
    """Convolutions of which the first may stride (PARTS section 3.2.2; the paper uses stride 1).

    Args:
        in_channels: image channels + 1 for the log-likelihood map.
        channels: width of the first layer and of the two that follow.
        stride: of the first layer.
        coordinates: whether absolute coordinates are added to the features by a linear map.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...] = (32, 64, 64), stride: int = 2,
                 coordinates: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = in_channels
        for i, width in enumerate(channels):
            size = 5 if i == 0 else 3
            layers += [nn.Conv2d(previous, width, size, stride if i == 0 else 1, size // 2), nn.ReLU()]
            previous = width
        self.convolutions = nn.Sequential(*layers[:-1])
        self.position = nn.Linear(2, previous) if coordinates else None
        self.norm = nn.LayerNorm(previous)
        self.mix = nn.Sequential(nn.Linear(previous, previous), nn.ReLU(), nn.Linear(previous, previous))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image [B, C, H, W] -> features [B, N, F] and their coordinates [N, 2] in [-1, 1], N = (H/s) * (W/s)."""
        grid = self.convolutions(image)
        coordinates = grid_coordinates(grid.shape[2], grid.shape[3], image.device).flatten(0, 1).to(image.dtype)
        features = grid.flatten(2).transpose(1, 2)
        if self.position is not None:
            features = features + self.position(coordinates)
        return self.mix(self.norm(features)), coordinates
