"""Convolutions for inference on a CPU: the same numbers and gradients as the layer's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from object_centric_ros.models.convolution import convolve, one_at_a_time

LAYERS = [nn.Conv2d(16, 32, 5, padding=2), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 4, 5, padding=2), nn.Conv2d(24, 4, 3),
          nn.Conv2d(24, 4, 3, padding=1, bias=False), nn.Conv2d(3, 32, 5, padding=2), nn.Conv2d(32, 16, 1)]

usable = pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason='torch has no NNPACK here')


@usable
@pytest.mark.parametrize('layer', LAYERS, ids=str)
def test_equals_the_layer(layer: nn.Conv2d) -> None:
    layer.requires_grad_(False)
    x = torch.randn(1, layer.in_channels, 20, 23, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert one_at_a_time(x, layer.weight)
    ours, theirs = convolve(x, layer), layer(x)
    assert torch.allclose(ours, theirs, atol=5e-5)
    weight = torch.randn_like(theirs)
    a, = torch.autograd.grad(ours, x, weight)
    b, = torch.autograd.grad(theirs, x, weight)
    assert torch.allclose(a, b, atol=5e-5)


@usable
def test_only_where_it_applies() -> None:
    x, weight = torch.zeros(2, 16, 8, 8), torch.zeros(16, 16, 3, 3)
    assert one_at_a_time(x, weight)
    assert not one_at_a_time(x, weight.clone().requires_grad_())
    with torch.no_grad():
        assert one_at_a_time(x, weight.clone().requires_grad_())
    assert not one_at_a_time(x.double(), weight.double()) and not one_at_a_time(x.bfloat16(), weight.bfloat16())
    with torch.autocast('cpu', torch.bfloat16):
        assert not one_at_a_time(x, weight)
