"""Convolutions at full resolution on a CPU: the same numbers in about half of the time.

NNPACK multiplies in the domain of Winograd's or Fourier's transform and works best on one image at a time, which stays
in the cache. GPUs and reduced precision take the layers as they are.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEWEST = 128
"""Pairs of an input and an output channel below which the transforms do not pay."""
LOG2_E = math.log2(math.e)


def one_at_a_time(x: Tensor, weight: Tensor) -> bool:
    """Whether images [N, C, H, W] are better convolved one by one with `convolve`."""
    return (x.device.type == 'cpu' and x.dtype == weight.dtype == torch.float32
            and not torch.is_autocast_enabled('cpu') and not torch.compiler.is_compiling()
            and torch.backends.nnpack.is_available())


@contextlib.contextmanager
def images_only() -> Iterator[None]:
    """Gradients that are taken inside, by latents or images, spend no time on those by the weights.

    A backward pass that is written in Python is not told what it is for.
    """
    before, _state.images_only = _state.images_only, True
    try:
        yield
    finally:
        _state.images_only = before


class _State(threading.local):
    images_only = False


_state = _State()


def convolve(x: Tensor, layers: Sequence[nn.Conv2d], activation: str, before: bool = False, behind: bool = False
             ) -> Tensor:
    """Layers of stride 1 with activations between them, for images that `one_at_a_time` speaks of.

    Args:
        x: [N, C, H, W]; may be overwritten if `before`.
        layers: the convolutions; differentiable once.
        activation: 'elu' or 'relu'.
        before, behind: whether it comes before the first and behind the last layer too.

    Returns:
        [N, C', H', W'].
    """
    paddings = [cast(tuple[int, int], layer.padding) for layer in layers]
    parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
    return cast(Tensor, _Stack.apply(x, paddings, activation, before, behind, torch.is_grad_enabled(), *parameters))


class _Stack(torch.autograd.Function):
    """The whole stack for one image after the other, and its gradient likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, paddings: list[tuple[int, int]], activation: str, before: bool, behind: bool,
                differentiable: bool, *parameters: Tensor | None) -> Tensor:
        weights, biases = cast(tuple[Tensor, ...], parameters[::2]), parameters[1::2]
        keep = differentiable and any(ctx.needs_input_grad)
        # In training small errors here grow through the refinements; behind them, in the gradient, they do not.
        plain = keep and any(ctx.needs_input_grad[6:])
        ctx.paddings, ctx.activation, ctx.before, ctx.behind = paddings, activation, before, behind
        activate = _elu_ if activation == 'elu' else torch.relu_
        if before and keep:
            x = x.clone()
        results, kept = [], []
        for image in x.contiguous().split(1):
            for i, (weight, bias, padding) in enumerate(zip(weights, biases, paddings, strict=True)):
                if i or before:
                    image = activate(image)
                kept.append(image)
                image = (torch.conv2d(image, weight, bias, padding=padding) if plain
                         else _convolve(image, weight, bias, padding))
            if behind:
                image = activate(image)
                kept.append(image)
            results.append(image)
            if not keep:
                kept.clear()
        if keep:
            ctx.save_for_backward(*weights, *kept)
        return torch.cat(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.paddings)
        saved = ctx.saved_tensors  # once: a checkpoint computes them anew each time
        weights, kept = saved[:count], saved[count:]
        turned = [w.flip(2, 3).transpose(0, 1).contiguous() for w in weights]
        margins = [tuple(k - 1 - p for k, p in zip(w.shape[2:], padding, strict=True))
                   for w, padding in zip(weights, ctx.paddings, strict=True)]
        by_images: bool = ctx.needs_input_grad[0]
        by_parameters = [bool(needed) and not _state.images_only for needed in ctx.needs_input_grad[6:]]
        sums: list[Tensor | None] = [None] * len(by_parameters)
        each, results = count + ctx.behind, []
        for n, g in enumerate(gradient.contiguous().split(1)):
            seen = kept[n * each:(n + 1) * each]
            if ctx.behind:
                g = _through(g.clone(), seen[-1], ctx.activation)
            for i in reversed(range(count)):
                wanted = [False, *by_parameters[2 * i:2 * i + 2]]
                if any(wanted):
                    _, *found = torch.ops.aten.convolution_backward(
                        g, seen[i], weights[i], [g.shape[1]], [1, 1], ctx.paddings[i], [1, 1], False, [0, 0], 1, wanted)
                    for j, value in zip((2 * i, 2 * i + 1), found, strict=True):
                        if by_parameters[j]:
                            total = sums[j]
                            sums[j] = value if total is None else total.add_(value)
                if i or by_images:
                    g = _convolve(g, turned[i], None, cast(tuple[int, int], margins[i]))
                if i or (ctx.before and by_images):
                    g = _through(g, seen[i], ctx.activation)
            results.append(g)
        return torch.cat(results) if by_images else None, None, None, None, None, None, *sums


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
