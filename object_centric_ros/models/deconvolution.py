"""Slot Attention's decoder, small at first and brought to size by strided convolutions; its siblings by name."""

from __future__ import annotations

from torch import Tensor, nn

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder
from object_centric_ros.models.decoder import BroadcastDecoder
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.slots import corner_coordinates


class DeconvolutionDecoder(nn.Module):
    """Broadcast to 1/16 of the image, add a linear map of the coordinates, four transposed convolutions of stride 2.

    Locatello et al. 2020, appendix (CLEVR): 6x6 for an image of 96, 8x8 for one of 128. Most of its work is done at a
    low resolution, so that it takes less time and memory than a decoder at full size.

    Args:
        latent: Z.
        image_size: H = W of the output, a multiple of 16.
        channels: width of the hidden convolutions.
        image_channels: C.
        bounded: colours through a sigmoid.
    """

    def __init__(self, latent: int, image_size: int, channels: int, image_channels: int = 3, bounded: bool = False
                 ) -> None:
        super().__init__()
        if image_size % 16:
            raise InputError('image_size', 'a multiple of 16 for the deconvolution decoder', image_size)
        self.image_channels, self.bounded = image_channels, bounded
        self.register_buffer('grid', corner_coordinates(image_size // 16), persistent=False)
        self.grid: Tensor
        self.project = nn.Linear(4, latent)
        self.layers = nn.Sequential()
        for i in range(4):
            self.layers.append(nn.ConvTranspose2d(channels if i else latent, channels, 5, 2, 2, output_padding=1))
            self.layers.append(nn.ReLU(inplace=True))
        self.layers.extend([nn.Conv2d(channels, channels, 5, padding=2), nn.ReLU(inplace=True),
                            nn.Conv2d(channels, image_channels + 1, 3, padding=1)])

    def forward(self, z: Tensor) -> Scene:
        """Latents [B, K, Z] -> colours [B, K, C, H, W] and mask logits [B, K, H, W]."""
        x = (z.flatten(0, 1)[:, None, None] + self.project(self.grid)).permute(0, 3, 1, 2)
        out = self.layers(x).unflatten(0, z.shape[:2]).to(z.dtype)  # autocast stops here
        colours = out[:, :, :self.image_channels]
        return Scene(colours.sigmoid() if self.bounded else colours, out[:, :, self.image_channels])


def slot_decoder(name: str, latent: int, image_size: int, channels: int, grid: int = 0) -> nn.Module:
    """One of the decoders that EfficientMORL and its Slot Attention baseline chose from; colours in [0, 1].

    Args:
        name: 'iodine' (five convolutions of 3x3 without padding, ELU), 'small' (5x5, 5x5, 5x5, 3x3, each with a padding
            of 1, ReLU), 'big' (the deconvolution decoder) or 'shuffle' (a soft broadcast over a coarse grid, as PARTS
            has it, for small images and machines).
        channels: width of the hidden convolutions; the papers' are 64, 32 and 64 of the first three.
        grid: side of the grid of 'shuffle', a divisor of the image size.
    """
    if name == 'shuffle':
        if grid < 1 or image_size % grid:
            raise InputError('model.decoder_grid', f'a divisor of image_size = {image_size}', grid)
        return BroadcastDecoder(latent, image_size, channels, 3, grid, anchored=False, bounded=True)
    if name == 'big':
        return DeconvolutionDecoder(latent, image_size, channels, bounded=True)
    if name == 'iodine':
        return SpatialBroadcastDecoder(latent, image_size, (channels,) * 4, 3, 'valid', 'project', bounded=True)
    if name == 'small':
        return SpatialBroadcastDecoder(latent, image_size, (channels,) * 3, (5, 5, 5, 3), 1, 'project', 'relu',
                                       bounded=True)
    raise InputError('model.decoder', 'iodine, small, big or shuffle', name)
