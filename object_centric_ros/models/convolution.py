"""Convolutions at full resolution for inference on a CPU: the same numbers in about half of the time.

NNPACK multiplies in the domain of Winograd's or Fourier's transform and works best on one image at a time, which stays
in the cache. Training, GPUs and reduced precision take the layer as it is.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

FEWEST = 16
"""Channels below which the transforms do not pay."""


def one_at_a_time(x: Tensor, weight: Tensor) -> bool:
    """Whether images [N, C, H, W] are better convolved one by one with `convolve`."""
    training = torch.is_grad_enabled() and weight.requires_grad
    return (x.device.type == 'cpu' and x.dtype == weight.dtype == torch.float32 and not training
            and not torch.is_autocast_enabled('cpu') and not torch.compiler.is_compiling()
            and torch.backends.nnpack.is_available())


def convolve(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """layer(x) for one image [1, C, H, W] of those that `one_at_a_time` speaks of; stride 1."""
    padding, kernel = cast(tuple[int, int], layer.padding), layer.kernel_size[0]
    if min(layer.in_channels, layer.out_channels) >= FEWEST and kernel > 1:
        return cast(Tensor, _Transformed.apply(x, layer.weight, layer.bias, padding))
    if layer.out_channels >= FEWEST:
        return layer(x)
    # Few outputs: all taps at once as one matrix product, then the shifted sum of what they give.
    taps = layer.weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2) @ x.flatten(2)
    height, width = (n + 2 * p - kernel + 1 for n, p in zip(x.shape[2:], padding, strict=True))
    out = functional.fold(taps, (height, width), kernel, padding=tuple(kernel - 1 - p for p in padding))
    return out if layer.bias is None else out + layer.bias[:, None, None]


class _Transformed(torch.autograd.Function):
    """NNPACK's convolution, whose gradient by the image is one too; the weights get none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.padding = padding
        return torch._nnpack_spatial_convolution(x, weight, bias, padding, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        weight, = ctx.saved_tensors
        padding = [k - 1 - p for k, p in zip(weight.shape[2:], ctx.padding, strict=True)]
        turned = weight.flip(2, 3).transpose(0, 1).contiguous()
        return torch._nnpack_spatial_convolution(gradient.contiguous(), turned, None, padding, 1), None, None, None
