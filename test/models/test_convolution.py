"""Convolutions for inference on a CPU: the same numbers and gradients as the layers' own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from object_centric_ros.models.convolution import convolve, images_only, one_at_a_time

STACKS = {'decoder': [nn.Conv2d(16, 32, 5, padding=2), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 4, 5, padding=2)],
          'without bias': [nn.Conv2d(24, 4, 3, padding=1, bias=False), nn.Conv2d(4, 24, 3)],
          'few inputs': [nn.Conv2d(3, 32, 5, padding=2), nn.Conv2d(32, 16, 1)]}
ACTIVATIONS = {'elu': nn.ELU(), 'relu': nn.ReLU()}

usable = pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason='torch has no NNPACK here')


@usable
@pytest.mark.parametrize('before', [False, True])
@pytest.mark.parametrize('behind', [False, True])
@pytest.mark.parametrize('activation', ACTIVATIONS)
@pytest.mark.parametrize('stack', STACKS)
def test_equals_the_layers(stack: str, activation: str, behind: bool, before: bool) -> None:
    layers, f = STACKS[stack], ACTIVATIONS[activation]
    x = torch.randn(3, layers[0].in_channels, 20, 23, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert one_at_a_time(x, layers[0].weight)
    theirs = f(x) if before else x
    for i, layer in enumerate(layers):
        theirs = layer(f(theirs) if i else theirs)
    theirs = f(theirs) if behind else theirs
    given = x.detach().clone()
    ours = convolve(x, layers, activation, before, behind)
    assert torch.allclose(ours, theirs, atol=5e-5) and torch.equal(x, given)
    with torch.no_grad():
        assert torch.allclose(convolve(given.clone(), layers, activation, before, behind), theirs, atol=5e-5)
    weight = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    inputs = [x, *(p for layer in layers for p in layer.parameters())]
    with images_only():
        (a,) = torch.autograd.grad(ours, x, weight, retain_graph=True)
    got, expected = torch.autograd.grad(ours, inputs, weight), torch.autograd.grad(theirs, inputs, weight)
    assert torch.equal(a, got[0])
    for a, b in zip(got, expected, strict=True):  # rounding may put a value across a kink, where the derivative jumps
        tolerance = 1e-4 * b.abs().max()
        assert ((a - b).abs() > tolerance).float().mean() < (0.01 if activation == 'relu' else 1e-9)


@usable
def test_gradients_by_some_of_the_weights() -> None:
    layers = [nn.Conv2d(16, 16, 3, padding=1, bias=bias) for bias in (True, False)]
    layers[0].requires_grad_(False)
    x = torch.randn(2, 16, 9, 9)
    layers[1](nn.functional.elu(layers[0](x))).sum().backward()
    expected, layers[1].weight.grad = layers[1].weight.grad, None
    convolve(x, layers, 'elu').sum().backward()
    assert expected is not None and layers[1].weight.grad is not None
    assert torch.allclose(layers[1].weight.grad, expected, rtol=1e-4, atol=1e-3) and layers[0].weight.grad is None


@usable
def test_exponential_part() -> None:
    one = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
    nn.init.ones_(one.weight)
    x = torch.cat([torch.linspace(-120, 120, 4001), torch.linspace(-1e-3, 1e-3, 4001)]).view(1, 1, 1, -1)
    assert (convolve(x.clone(), [one], 'elu', behind=True) - nn.functional.elu(x)).abs().max() < 3e-7


@usable
def test_only_where_it_applies() -> None:
    x, weight = torch.zeros(2, 16, 8, 8), torch.zeros(16, 16, 3, 3)
    assert one_at_a_time(x, weight)
    assert not one_at_a_time(x.double(), weight.double()) and not one_at_a_time(x.bfloat16(), weight.bfloat16())
    with torch.autocast('cpu', torch.bfloat16):
        assert not one_at_a_time(x, weight)
