"""Convolutional encoder and decoder with a layer norm before every activation (R-NEM, layer tables of appendix A).

Layer norm of a feature map is over channels and places, with a gain and a bias for each channel (GroupNorm of one
group). Even sides are halved and doubled; an odd side of 2n - 1 becomes n and n becomes 2n - 1 again.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


def halved(size: int, times: int) -> list[int]:
    """Sides [times + 1] of an image that is halved so many times, rounded up: 84 -> 84, 42, 21, 11, 6."""
    return list(itertools.accumulate(range(times), lambda side, _: (side + 1) // 2, initial=size))


class NormedEncoder(nn.Module):
    """4x4 convolutions of stride 2, then a fully connected layer; ELU.

    Args:
        image_size: H = W; image_channels: C.
        channels: of each convolution.
        size: of the result.
    """

    def __init__(self, image_size: int, image_channels: int, channels: tuple[int, ...], size: int) -> None:
        super().__init__()
        sides = halved(image_size, len(channels))
        layers: list[nn.Module] = []
        for side, before, after in zip(sides, (image_channels, *channels), channels, strict=False):
            if side % 2:
                layers.append(nn.ZeroPad2d((0, 1, 0, 1)))
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(1, after), nn.ELU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * sides[-1] ** 2, size),
                                    nn.LayerNorm(size), nn.ELU())

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, C, H, W] -> [B, K, size]."""
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class DoublingConv(nn.Conv2d):
    """A 4x4 convolution over the nearest-neighbour doubled map, which is never made: 3x3 taps of the map itself for
    each of the four pixels that a place becomes, then a pixel shuffle. R-NEM trains in two thirds of the time.

    Args:
        before, after: channels.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4)
        # [pixel of the two, row of the map, tap]: pixels 2i - 1 to 2i + 2 of the doubled map are i - 1, i, i, i + 1.
        taps = torch.tensor([[[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]])
        self.register_buffer('taps', taps.float(), persistent=False)
        self.taps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, H, W] -> [B, after, 2 H, 2 W]."""
        taps = self.taps.to(self.weight.dtype)
        weight = torch.einsum('pat,qbu,oitu->opqiab', taps, taps, self.weight).flatten(0, 2)
        assert self.bias is not None
        return functional.pixel_shuffle(functional.conv2d(x, weight, self.bias.repeat_interleave(4), padding=1), 2)


class NormedDecoder(nn.Module):
    """Two fully connected layers, then nearest-neighbour doubling and a 4x4 convolution, again and again; ReLU.

    The sides are those of the encoder backwards. For 84 pixels the paper's table starts from 8x8, from where four
    doublings lead to 128; the encoder's 6x6 leads to 84.

    Args:
        latent: size of the input.
        image_size: H = W; image_channels: C of the result, which has no activation.
        size: of the first layer.
        channels: of the first feature map and of each convolution but the last.
    """

    def __init__(self, latent: int, image_size: int, image_channels: int, size: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        sides = halved(image_size, len(channels))[::-1]
        first = channels[0] * sides[0] ** 2
        layers: list[nn.Module] = [nn.Linear(latent, size), nn.LayerNorm(size), nn.ReLU(),
                                   nn.Linear(size, first), nn.LayerNorm(first), nn.ReLU(),
                                   nn.Unflatten(1, (channels[0], sides[0], sides[0]))]
        for side, before, after in zip(sides[1:], channels, (*channels[1:], image_channels), strict=True):
            # 4x4 over the doubled map keeps the size with one row before and two behind.
            layers += ([nn.Upsample((side, side)), nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(before, after, 4)]
                       if side % 2 else [DoublingConv(before, after)])
            if side != image_size:
                layers += [nn.GroupNorm(1, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """[B, K, latent] -> [B, K, C, H, W], before any activation."""
        return self.layers(z.flatten(0, 1)).unflatten(0, z.shape[:2]).to(z.dtype)
