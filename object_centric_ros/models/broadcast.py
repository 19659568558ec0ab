"""The spatial broadcast decoder at full resolution (Watters et al. 2019) of IODINE, OP3, OBAI and EfficientMORL."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.convolution import convolve_spread, one_at_a_time, spread
from object_centric_ros.models.errors import InputError

ACTIVATIONS = {'elu': nn.ELU, 'relu': nn.ReLU}


class SpatialBroadcastDecoder(nn.Module):
    """Tile the latent over the image, tell every pixel where it is, convolve; each slot on its own.

    Where the tiled latent meets the first convolution it is constant in space. So that convolution is the sum of what
    the latent gives, a picture R T R' of a few distinct values (T: the latent times the kernel's taps; R[y, i]: whether
    tap i lies inside of the picture at row y), and of a map of the coordinates that all slots share. It is computed as
    that sum, which for 128 latent features saves more than half of all multiplications.

    Args:
        latent: Z.
        image_size: H = W of the output.
        channels: widths of the hidden convolutions.
        kernel: size of all convolutions, or of each (one more than `channels`); odd.
        padding: 'same', 'valid', or the width of every layer's padding. What the convolutions take away by it is tiled
            too, as a margin around the image.
        position: 'concatenate': (u, v) in [-1, 1], edge pixels at -1 and 1, as two channels behind the latent;
            'project': a linear map of (1 - v, v, u, 1 - u) in [0, 1] added to it.
        activation: 'elu' or 'relu'.
        bounded: colours through a sigmoid.
        image_channels: C.
    """

    def __init__(self, latent: int, image_size: int, channels: tuple[int, ...], kernel: int | tuple[int, ...] = 5,
                 padding: str | int = 'same', position: str = 'concatenate', activation: str = 'elu',
                 bounded: bool = False, image_channels: int = 3) -> None:
        super().__init__()
        kernels = (kernel,) * (len(channels) + 1) if isinstance(kernel, int) else kernel
        if padding not in ('same', 'valid') and not (isinstance(padding, int) and 0 <= 2 * padding < min(kernels)):
            raise InputError('decoder padding', 'same, valid or a width of at most that of same', padding)
        if position not in ('concatenate', 'project'):
            raise InputError('decoder position', 'concatenate or project', position)
        if activation not in ACTIVATIONS:
            raise InputError('decoder activation', f'one of {sorted(ACTIVATIONS)}', activation)
        if len(kernels) != len(channels) + 1 or not channels or any(k % 2 == 0 for k in kernels):
            raise InputError('decoder kernel', f'{len(channels) + 1} odd sizes for {len(channels)} > 0 hidden layers',
                             kernel)
        self.latent, self.image_channels, self.bounded = latent, image_channels, bounded
        self.project = nn.Linear(4, latent) if position == 'project' else None
        widths = [latent + (2 if self.project is None else 0), *channels, image_channels + 1]
        pads = [k // 2 if padding == 'same' else 0 if isinstance(padding, str) else padding for k in kernels]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, k, padding=p)
                                    for a, b, k, p in zip(widths[:-1], widths[1:], kernels, pads, strict=True))
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half of the time on a CPU
        self.activation_name, self.activation = activation, ACTIVATIONS[activation](inplace=True)
        size = image_size + sum(k - 1 - 2 * p for k, p in zip(kernels, pads, strict=True))
        self.register_buffer('grid', _grid(size, self.project is not None), persistent=False)
        self.register_buffer('inside', _inside(size, kernels[0], pads[0]), persistent=False)
        self.grid: Tensor
        self.inside: Tensor

    def forward(self, z: Tensor) -> Scene:
        """Latents [B, K, Z] -> colours [B, K, C, H, W] and mask logits [B, K, H, W]."""
        layers = cast(list[nn.Conv2d], list(self.layers)[1:])
        if one_at_a_time(z, layers[0].weight):
            with torch.autocast('cpu', enabled=False):
                taps, field = self.first(z.flatten(0, 1))
            x = convolve_spread(taps, self.inside, field, layers, self.activation_name).contiguous()
        else:
            x = self.tiled(z.flatten(0, 1))
            for layer in layers:
                x = layer(self.activation(x))
        out = x.unflatten(0, z.shape[:2]).to(z.dtype)  # autocast stops here
        colours = out[:, :, :self.image_channels]
        return Scene(colours.sigmoid() if self.bounded else colours, out[:, :, self.image_channels])

    def tiled(self, z: Tensor) -> Tensor:
        """The first convolution of the tiled latents [N, Z], before its activation: [N, channels[0], H', W']."""
        taps, field = self.first(z)
        return spread(taps, self.inside, field)

    def first(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What `spread` makes the first convolution of: taps [N, k, k, C] (k = 1 where no row is at a margin) of the
        latents [N, Z], and what the coordinates give [1, C, H', W']."""
        layer = cast(nn.Conv2d, self.layers[0])
        weight, bias, padding = layer.weight, layer.bias, cast(tuple[int, int], layer.padding)
        if self.project is None:
            where = functional.conv2d(self.grid[None], weight[:, self.latent:], bias, padding=padding)
        else:
            linear = torch.cat([self.project.weight, self.project.bias[:, None]], 1)  # of the coordinates and a one
            grid = torch.cat([self.grid, torch.ones_like(self.grid[:1])])
            seen = (linear.T @ weight.flatten(2)).unflatten(2, weight.shape[2:])
            where = functional.conv2d(grid[None], seen, bias, padding=padding)
        taps = (z @ weight[:, :self.latent].permute(1, 2, 3, 0).flatten(1)).unflatten(1, (*weight.shape[2:], -1))
        return taps.sum((1, 2), keepdim=True) if padding == (0, 0) else taps, where


def _grid(size: int, four: bool) -> Tensor:
    """Coordinates of the pixels: (u, v) in [-1, 1] as [2, size, size], or (1 - v, v, u, 1 - u) as [4, size, size]."""
    line = torch.linspace(-1, 1, size)
    v, u = torch.meshgrid(line, line, indexing='ij')
    return torch.stack([(1 - v) / 2, (1 + v) / 2, (1 + u) / 2, (1 - u) / 2]) if four else torch.stack([u, v])


def _inside(size: int, kernel: int, padding: int) -> Tensor:
    """1 where tap i of the kernel lies inside of the picture at output row y, else 0: [rows, kernel]; without a margin
    [rows, 1], as all taps do."""
    if not padding:
        return torch.ones(size - kernel + 1, 1)
    row = torch.arange(size + 2 * padding - kernel + 1)[:, None] + torch.arange(kernel) - padding
    return ((row >= 0) & (row < size)).float()
