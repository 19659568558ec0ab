"""Spatial broadcast decoders: one latent -> one colour image and one mask-logit image, each slot on its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.encoder import grid_coordinates


class BroadcastDecoder(nn.Module):
    """Soft spatial broadcast (PARTS section 3.1): tile the latent, add a linear map of the coordinates, convolve.

    The latent is broadcast to a grid that may be coarser than the image; a pixel shuffle brings it to full size.
    With `anchored` the first two latent features are a position (u, v) in [-1, 1] and the coordinates are taken
    relative to it, so that one learned appearance serves every place in the image.

    Args:
        latent: D.
        image_size: H = W of the output.
        channels: width of the convolutions.
        layers: number of hidden convolutions.
        grid: side of the broadcast grid; image_size must be a multiple.
        anchored: whether latent[..., :2] is a position.
        image_channels: C.
        bounded: colours through a sigmoid.
    """

    def __init__(self, latent: int, image_size: int, channels: int, layers: int, grid: int, anchored: bool,
                 image_channels: int = 3, bounded: bool = False) -> None:
        super().__init__()
        self.anchored, self.bounded = anchored, bounded
        self.image_channels = image_channels
        self.upscale = image_size // grid
        self.latent = nn.Linear(latent, channels)
        self.position = nn.Linear(5, channels)
        hidden: list[nn.Module] = []
        for _ in range(layers):
            hidden += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        self.hidden = nn.Sequential(*hidden)
        self.head = nn.Conv2d(channels, (image_channels + 1) * self.upscale ** 2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(self.upscale)
        # An anchored slot starts as a compact thing: its mask logit falls with the square of the distance, at a rate
        # that is learned.
        self.falloff = nn.Linear(latent, 1) if anchored else None
        if self.falloff is not None:
            nn.init.constant_(self.falloff.bias, 8.0)
        self.register_buffer('coordinates', grid_coordinates(grid, grid), persistent=False)
        self.register_buffer('pixels', grid_coordinates(image_size, image_size), persistent=False)
        self.coordinates: Tensor
        self.pixels: Tensor

    def forward(self, z: Tensor, local: Tensor | None = None) -> Scene:
        """Latents [B, K, D] -> scene of [B, K, C, H, W] colours and [B, K, H, W] mask logits.

        `local` [K] is 1 for compact things, the default, and 0 for what may fill the image (a background slot).
        """
        b, k, _ = z.shape
        relative = self.coordinates
        relative = relative - z[..., None, None, :2] if self.anchored else relative.expand(b, k, *relative.shape)
        x = self.latent(z)[..., None, None, :] + self.position(moments(relative))
        x = torch.relu(x).flatten(0, 1).permute(0, 3, 1, 2)
        out = self.shuffle(self.head(self.hidden(x))).unflatten(0, (b, k)).to(z.dtype)  # autocast stops here
        logits = out[:, :, self.image_channels]
        if self.falloff is not None:
            distance = (self.pixels - z[..., None, None, :2]).square().sum(-1)
            rate = nn.functional.softplus(self.falloff(z).to(z.dtype))[..., None]
            logits = logits - (rate if local is None else rate * local[:, None, None]) * distance
        colours = out[:, :, :self.image_channels]
        return Scene(colours.sigmoid() if self.bounded else colours, logits)


def moments(relative: Tensor) -> Tensor:
    """(du, dv, du^2, dv^2, du dv) of relative coordinates [..., 2] -> [..., 5]: enough for a window of any shape."""
    du, dv = relative.unbind(-1)
    return torch.stack([du, dv, du * du, dv * dv, du * dv], -1)
