"""Convolutions at full resolution for inference on a CPU: the same numbers in about half of the time.

NNPACK multiplies in the domain of Winograd's or Fourier's transform and works best on one image at a time, which stays
in the cache. Training, GPUs and reduced precision take the layers as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEWEST = 128
"""Pairs of an input and an output channel below which the transforms do not pay."""
LOG2_E = math.log2(math.e)


def one_at_a_time(x: Tensor, weight: Tensor) -> bool:
    """Whether images [N, C, H, W] are better convolved one by one with `convolve`."""
    training = torch.is_grad_enabled() and weight.requires_grad
    return (x.device.type == 'cpu' and x.dtype == weight.dtype == torch.float32 and not training
            and not torch.is_autocast_enabled('cpu') and not torch.compiler.is_compiling()
            and torch.backends.nnpack.is_available())


def convolve(x: Tensor, layers: Sequence[nn.Conv2d], activation: str, before: bool = False, behind: bool = False
             ) -> Tensor:
    """Layers of stride 1 with activations between them, for images that `one_at_a_time` speaks of.

    Args:
        x: [N, C, H, W]; may be overwritten if `before`.
        layers: whose weights get no gradient; the images do.
        activation: 'elu' or 'relu'.
        before, behind: whether it comes before the first and behind the last layer too.

    Returns:
        [N, C', H', W'].
    """
    weights = [layer.weight for layer in layers]
    biases = [layer.bias for layer in layers]
    paddings = [cast(tuple[int, int], layer.padding) for layer in layers]
    return cast(Tensor, _Stack.apply(x, weights, biases, paddings, activation, before, behind))


class _Stack(torch.autograd.Function):
    """The whole stack for one image after the other, and its gradient by the images likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: list[Tensor], biases: list[Tensor | None],
                paddings: list[tuple[int, int]], activation: str, before: bool, behind: bool) -> Tensor:
        keep = ctx.needs_input_grad[0]
        ctx.weights, ctx.paddings, ctx.activation = weights, paddings, activation
        ctx.before, ctx.behind = before, behind
        activate = _elu_ if activation == 'elu' else torch.relu_
        if before and keep:
            x = x.clone()
        results, kept = [], []
        for image in x.contiguous().split(1):
            for i, (weight, bias, padding) in enumerate(zip(weights, biases, paddings, strict=True)):
                if i or before:
                    image = activate(image)
                    if keep:
                        kept.append(image)
                image = _convolve(image, weight, bias, padding)
            if behind:
                image = activate(image)
                if keep:
                    kept.append(image)
            results.append(image)
        ctx.save_for_backward(*kept)
        return torch.cat(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept = list(ctx.saved_tensors)
        turned = [w.flip(2, 3).transpose(0, 1).contiguous() for w in ctx.weights]
        margins = [tuple(k - 1 - p for k, p in zip(w.shape[2:], padding, strict=True))
                   for w, padding in zip(ctx.weights, ctx.paddings, strict=True)]
        each = len(kept) // len(gradient)
        results = []
        for n, g in enumerate(gradient.contiguous().split(1)):
            seen = kept[n * each:(n + 1) * each]
            if ctx.behind:
                g = _through(g.clone(), seen.pop(), ctx.activation)
            for i in reversed(range(len(turned))):
                g = _convolve(g, turned[i], None, cast(tuple[int, int], margins[i]))
                if i or ctx.before:
                    g = _through(g, seen.pop(), ctx.activation)
            results.append(g)
        return torch.cat(results), None, None, None, None, None, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    out, into, *kernel = weight.shape
    if out * into < FEWEST or max(kernel) == 1:
        return torch.conv2d(x, weight, bias, padding=padding)
    return torch._nnpack_spatial_convolution(x, weight, bias, padding, 1)


def _elu_(x: Tensor) -> Tensor:
    """ELU in place; a power of two takes half of the time of expm1, for 6e-8 of error."""
    return torch.maximum(x, x.clamp(max=0).mul_(LOG2_E).exp2_().sub_(1), out=x)


def _through(gradient: Tensor, out: Tensor, activation: str) -> Tensor:
    """The gradient before an activation, from that behind it, whose place it takes, and the activation's output."""
    if activation == 'elu':
        return torch.ops.aten.elu_backward.grad_input(gradient, 1, 1, 1, True, out, grad_input=gradient)
    return torch.ops.aten.threshold_backward.grad_input(gradient, out, 0, grad_input=gradient)
