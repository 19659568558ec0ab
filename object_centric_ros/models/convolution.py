"""Convolutions at full resolution on a CPU: the same numbers in about half of the time.

One image after the other goes through a whole stack of layers, so that what lies between them stays in the cache and no
batch of it is ever allocated. In float32 NNPACK multiplies, in the domain of Winograd's or Fourier's transform; under
autocast to bfloat16 the processor does, with the channels last. GPUs take the layers as they are.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEWEST = 128
"""Pairs of an input and an output channel below which the transforms do not pay."""
LOG2_E = math.log2(math.e)
LAST = torch.channels_last


def one_at_a_time(x: Tensor, weight: Tensor) -> bool:
    """Whether images [N, C, H, W] are better convolved one by one with `convolve`."""
    if not x.device.type == weight.device.type == 'cpu' or torch.compiler.is_compiling():
        return False
    if torch.is_autocast_enabled('cpu'):
        return torch.get_autocast_dtype('cpu') == torch.bfloat16 and weight.dtype == torch.float32
    return x.dtype == weight.dtype == torch.float32 and torch.backends.nnpack.is_available()


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


def spread(taps: Tensor, inside: Tensor, field: Tensor, last: bool = True) -> Tensor:
    """What a first convolution makes of tiled latents: the pictures R T R' + F, of few distinct values but for F.

    Args:
        taps: T [N, k, k, C], the latent times the kernel's taps.
        inside: R [H, k], whether tap i lies inside of the picture at row y.
        field: F [1, C, H, H], which all pictures share.
        last: lay the channels last.

    Returns:
        [N, C, H, H].
    """
    if taps.shape[1] == 1:
        return taps.permute(0, 3, 1, 2) + field
    inside = inside.to(taps.dtype)
    if not last:
        return inside @ taps.permute(0, 3, 1, 2) @ inside.T + field
    rows = (inside @ taps.flatten(2)).unflatten(2, taps.shape[2:])
    return (inside @ rows).permute(0, 3, 1, 2) + field


def convolve(x: Tensor, layers: Sequence[nn.Conv2d], activation: str, behind: bool = False) -> Tensor:
    """Layers of stride 1 with activations between them, for images that `one_at_a_time` speaks of.

    Args:
        x: [N, C, H, W].
        layers: the convolutions; differentiable once.
        activation: 'elu' or 'relu'.
        behind: whether it comes behind the last layer too.

    Returns:
        [N, C', H', W'], float32, its channels last under autocast.
    """
    return _apply(layers, _Plan(_paddings(layers), activation, behind), x, None, None)


def convolve_spread(taps: Tensor, inside: Tensor, field: Tensor, layers: Sequence[nn.Conv2d], activation: str
                    ) -> Tensor:
    """The same for `spread`'s pictures, with an activation before the first layer."""
    return _apply(layers, _Plan(_paddings(layers), activation, False), taps, inside, field)


class _Plan(NamedTuple):
    paddings: list[tuple[int, int]]
    activation: str
    behind: bool


def _paddings(layers: Sequence[nn.Conv2d]) -> list[tuple[int, int]]:
    return [cast(tuple[int, int], layer.padding) for layer in layers]


def _apply(layers: Sequence[nn.Conv2d], plan: _Plan, x: Tensor, inside: Tensor | None, field: Tensor | None) -> Tensor:
    parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
    reduced = torch.is_autocast_enabled('cpu')
    with torch.autocast('cpu', enabled=False):
        return cast(Tensor, _Stack.apply(x, inside, field, plan, reduced, torch.is_grad_enabled(), *parameters))


class _Stack(torch.autograd.Function):
    """The whole stack for one image after the other, and its gradient likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inside: Tensor | None, field: Tensor | None, plan: _Plan, reduced: bool,
                differentiable: bool, *parameters: Tensor | None) -> Tensor:
        biases = [b.to(torch.bfloat16) if b is not None and reduced else b for b in parameters[1::2]]
        keep = differentiable and any(ctx.needs_input_grad)
        # In training small errors here grow through the refinements; behind them, in the gradient, they do not.
        plain = reduced or (keep and any(ctx.needs_input_grad[6:]))
        weights = [w if plain and not reduced else _laid(w, reduced) for w in cast(tuple[Tensor, ...], parameters[::2])]
        field = None if field is None else field.contiguous(memory_format=LAST if reduced else torch.contiguous_format)
        ctx.plan, ctx.reduced = plan, reduced
        results, kept = [], []
        for n in range(len(x)):
            image = x[n:n + 1]
            if field is not None and inside is not None:
                image = _activate_(spread(image.float(), inside, field, reduced), plan.activation)
            for i, (weight, bias, padding) in enumerate(zip(weights, biases, plan.paddings, strict=True)):
                image = _laid(image, reduced)
                if keep:
                    kept.append(image)
                image = (torch.conv2d(image, weight, bias, padding=padding) if plain
                         else _convolve(image, weight, bias, padding))
                if i + 1 < len(weights) or plan.behind:
                    image = _activate_(image, plan.activation)
            if keep and plan.behind:
                kept.append(image)
            results.append(image.float())
        if keep:
            ctx.save_for_backward(inside, *weights, *kept)
        return torch.cat(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast('cpu', enabled=False):
            return _Stack.gradients(ctx, gradient)

    @staticmethod
    def gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """By the images or taps, the field and the parameters."""
        plan, reduced, count = ctx.plan, ctx.reduced, len(ctx.plan.paddings)
        inside, *saved = ctx.saved_tensors  # once: a checkpoint computes them anew each time
        weights, kept = saved[:count], saved[count:]
        turned = [_laid(w.flip(2, 3).transpose(0, 1), reduced) for w in weights]
        margins = [tuple(k - 1 - p for k, p in zip(w.shape[2:], padding, strict=True))
                   for w, padding in zip(weights, plan.paddings, strict=True)]
        by_images: bool = ctx.needs_input_grad[0]
        by_field = ctx.needs_input_grad[2] and not _state.images_only
        by_parameters = [bool(needed) and not _state.images_only for needed in ctx.needs_input_grad[6:]]
        sums: list[Tensor | None] = [None] * len(by_parameters)
        field: Tensor | None = None
        each, results = count + plan.behind, []
        for n, g in enumerate(gradient.split(1)):
            seen = kept[n * each:(n + 1) * each]
            if plan.behind:
                g = _through(_laid(g.clone(), reduced), _laid(seen[-1], reduced), plan.activation)
            for i in reversed(range(count)):
                g = _laid(g, reduced)
                wanted = [False, *by_parameters[2 * i:2 * i + 2]]
                if any(wanted):
                    _, *found = torch.ops.aten.convolution_backward(g, seen[i], weights[i], [g.shape[1]], [1, 1],
                                                                    plan.paddings[i], [1, 1], False, [0, 0], 1, wanted)
                    for j, value in zip((2 * i, 2 * i + 1), found, strict=True):
                        if by_parameters[j]:
                            sums[j] = _sum(sums[j], value)
                if i or by_images or by_field:
                    g = (torch.conv2d(g, turned[i], None, padding=margins[i]) if reduced
                         else _convolve(g, turned[i], None, cast(tuple[int, int], margins[i])))
                if i or inside is not None:
                    g = _through(g, seen[i], plan.activation)
            if by_field:
                field = _sum(field, g)
            if by_images:
                results.append(g.float() if inside is None else _gather(g.float(), inside))
        return (torch.cat(results) if by_images else None, None, field, None, None, None, *sums)


def _gather(gradient: Tensor, inside: Tensor) -> Tensor:
    """The gradient by the taps [1, k, k, C] from that by `spread`'s picture [1, C, H, H]."""
    columns = inside.T @ gradient[0]
    return (columns @ inside).permute(1, 2, 0)[None]


def _sum(total: Tensor | None, value: Tensor) -> Tensor:
    return value.to(torch.float32, copy=True) if total is None else total.add_(value)


def _laid(x: Tensor, reduced: bool) -> Tensor:
    """As the convolutions want it: bfloat16 with the channels last, or float32 with the channels first."""
    return x.to(torch.bfloat16, memory_format=LAST) if reduced else x.contiguous()


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    out, into, *kernel = weight.shape
    if out * into < FEWEST or max(kernel) == 1:
        return torch.conv2d(x, weight, bias, padding=padding)
    return torch._nnpack_spatial_convolution(x, weight, bias, padding, 1)


def _activate_(x: Tensor, activation: str) -> Tensor:
    """ReLU or ELU, in place of float32; a power of two takes half of the time of expm1, for 6e-8 of error."""
    if activation == 'relu':
        return torch.relu_(x)
    x = x.float()
    return torch.maximum(x, x.clamp(max=0).mul_(LOG2_E).exp2_().sub_(1), out=x)


def _through(gradient: Tensor, out: Tensor, activation: str) -> Tensor:
    """The gradient before an activation, from that behind it, whose place it takes, and the activation's output."""
    if activation == 'elu':
        return torch.ops.aten.elu_backward.grad_input(gradient, 1, 1, 1, True, out, grad_input=gradient)
    return torch.ops.aten.threshold_backward.grad_input(gradient, out, 0, grad_input=gradient)
