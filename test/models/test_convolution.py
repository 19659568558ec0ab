"""Convolutions for inference on a CPU: the same numbers and gradients as the layers' own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from object_centric_ros.models.convolution import convolve, convolve_spread, images_only, one_at_a_time, spread

STACKS = {'decoder': [nn.Conv2d(16, 32, 5, padding=2), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 4, 5, padding=2)],
          'without bias': [nn.Conv2d(24, 4, 3, padding=1, bias=False), nn.Conv2d(4, 24, 3)],
          'few inputs': [nn.Conv2d(3, 32, 5, padding=2), nn.Conv2d(32, 16, 1)]}
ACTIVATIONS = {'elu': nn.ELU(), 'relu': nn.ReLU()}

usable = pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason='torch has no NNPACK here')


@usable
@pytest.mark.parametrize('behind', [False, True])
@pytest.mark.parametrize('activation', ACTIVATIONS)
@pytest.mark.parametrize('stack', STACKS)
def test_equals_the_layers(stack: str, activation: str, behind: bool) -> None:
    layers, f = STACKS[stack], ACTIVATIONS[activation]
    x = torch.randn(3, layers[0].in_channels, 20, 23, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert one_at_a_time(x, layers[0].weight)
    theirs = plain(x, layers, f, behind)
    given = x.detach().clone()
    ours = convolve(x, layers, activation, behind)
    assert torch.allclose(ours, theirs, atol=5e-5) and torch.equal(x, given)
    with torch.no_grad():
        assert torch.allclose(convolve(given, layers, activation, behind), theirs, atol=5e-5)
        assert torch.equal(x, given)
    inputs = [x, *(p for layer in layers for p in layer.parameters())]
    same_gradients(ours, theirs, [x], inputs, 0.01 if activation == 'relu' else 1e-9)


@usable
@pytest.mark.parametrize('taps', [1, 5])
def test_equals_the_layers_on_tiled_latents(taps: int) -> None:
    layers, f, generator = STACKS['decoder'], nn.ELU(), torch.Generator().manual_seed(0)
    given = torch.randn(3, taps, taps, 16, generator=generator).requires_grad_()
    field = torch.randn(1, 16, 20, 20, generator=generator).requires_grad_()
    inside = (torch.rand(20, taps, generator=generator) > 0.3).float() if taps > 1 else torch.ones(20, 1)
    tiled = torch.einsum('yi,nijc,xj->ncyx', inside, given, inside) + field
    assert torch.allclose(spread(given, inside, field), tiled, atol=1e-5)
    assert torch.allclose(spread(given, inside, field, last=False), tiled, atol=1e-5)
    theirs, ours = plain(f(tiled), layers, f, False), convolve_spread(given, inside, field, layers, 'elu')
    assert torch.allclose(ours, theirs, atol=5e-5)
    inputs = [given, field, *(p for layer in layers for p in layer.parameters())]
    same_gradients(ours, theirs, [given], inputs, 1e-9)


@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_bfloat16(activation: str) -> None:
    """As near to float32 as the layers under autocast are."""
    layers, f, generator = STACKS['decoder'], ACTIVATIONS[activation], torch.Generator().manual_seed(0)
    given, field = torch.randn(3, 5, 5, 16, generator=generator), torch.randn(1, 16, 20, 20, generator=generator)
    inside = (torch.rand(20, 5, generator=generator) > 0.3).float()
    inputs = [given.requires_grad_(), field.requires_grad_(), *(p for layer in layers for p in layer.parameters())]
    tiled = spread(given, inside, field)
    exact = plain(f(tiled), layers, f, False)
    with torch.autocast('cpu', torch.bfloat16):
        assert one_at_a_time(given, layers[0].weight)
        ours, theirs = convolve_spread(given, inside, field, layers, activation), plain(f(tiled), layers, f, False)
        images = convolve(f(tiled), layers, activation)
    assert ours.dtype == images.dtype == torch.float32
    assert (ours - exact).norm() < 1.5 * (theirs - exact).norm() and (images - exact).norm() < 0.02 * exact.norm()
    weight = torch.randn(exact.shape, generator=generator)
    gradients = [torch.autograd.grad(x, inputs, weight.to(x.dtype), retain_graph=True) for x in (exact, ours, theirs)]
    for e, a, b in zip(*gradients, strict=True):
        assert a.dtype == torch.float32 and (a - e).norm() < 1.5 * (b - e).norm() + 1e-3 * e.norm()


def plain(x: torch.Tensor, layers: list[nn.Conv2d], f: nn.Module, behind: bool) -> torch.Tensor:
    for i, layer in enumerate(layers):
        x = layer(f(x) if i else x)
    return f(x) if behind else x


def same_gradients(ours: torch.Tensor, theirs: torch.Tensor, images: list[torch.Tensor], inputs: list[torch.Tensor],
                   kinks: float) -> None:
    """But for a share of kinks: rounding may put a value across one, where the derivative jumps."""
    weight = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    with images_only():
        few = torch.autograd.grad(ours, images, weight, retain_graph=True)
    got, expected = torch.autograd.grad(ours, inputs, weight), torch.autograd.grad(theirs, inputs, weight)
    assert all(map(torch.equal, few, got))
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and ((a - b).abs() > 1e-4 * b.abs().max()).float().mean() < kinks


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
        assert one_at_a_time(x, weight) and not one_at_a_time(x, weight.bfloat16())
    with torch.autocast('cpu', torch.float16):
        assert not one_at_a_time(x, weight)
