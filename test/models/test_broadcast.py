"""The spatial broadcast decoder: folding the first convolution changes nothing but the time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from object_centric_ros.errors import InputError
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder

VARIANTS = [{}, {'position': 'project', 'activation': 'relu'}, {'padding': 'valid', 'kernel': 3},
            {'padding': 'valid', 'position': 'project', 'kernel': (5, 3, 3)}, {'kernel': (3, 5, 1), 'bounded': True},
            {'image_channels': 1}, {'padding': 1, 'position': 'project', 'kernel': (5, 5, 3)}]


def decoder(**changes: object) -> SpatialBroadcastDecoder:
    torch.manual_seed(0)
    return SpatialBroadcastDecoder(**{'latent': 6, 'image_size': 12, 'channels': (5, 7), **changes}).double()


def plain(model: SpatialBroadcastDecoder, z: torch.Tensor) -> torch.Tensor:
    """The network as the papers draw it, layer by layer on the tiled latent: [N, C + 1, H, W] before any sigmoid."""
    grid = model.grid[None].expand(len(z), -1, -1, -1)
    x = z[..., None, None].expand(-1, -1, *grid.shape[2:])
    if model.project is None:
        x = torch.cat([x, grid], 1)
    else:
        x = x + torch.einsum('nchw,zc->nzhw', grid, model.project.weight) + model.project.bias[:, None, None]
    activation = functional.elu if isinstance(model.activation, torch.nn.ELU) else functional.relu
    for layer in model.layers[:-1]:
        x = activation(layer(x))
    return model.layers[-1](x)


@pytest.mark.parametrize('changes', VARIANTS)
def test_folded_equals_plain_with_its_gradients(changes: dict) -> None:
    model = decoder(**changes)
    z = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    scene = model(z)
    channels = model.image_channels
    assert scene.colours.shape == (2, 3, channels, 12, 12) and scene.mask_logits.shape == (2, 3, 12, 12)
    expected = plain(model, z.flatten(0, 1)).unflatten(0, (2, 3))
    colours = expected[:, :, :channels].sigmoid() if model.bounded else expected[:, :, :channels]
    assert torch.allclose(scene.colours, colours, atol=1e-12)
    assert torch.allclose(scene.mask_logits, expected[:, :, channels], atol=1e-12)
    inputs = [z, *model.parameters()]
    weight = torch.randn_like(expected)
    ours = torch.autograd.grad((torch.cat([scene.colours, scene.mask_logits[:, :, None]], 2) * weight).sum(), inputs)
    theirs = torch.autograd.grad((torch.cat([colours, expected[:, :, channels:]], 2) * weight).sum(), inputs)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(ours, theirs, strict=True))


def test_folded_equals_plain_in_float32_at_full_size() -> None:
    torch.manual_seed(0)
    model, z = SpatialBroadcastDecoder(128, 64, (32, 32, 32, 32)), torch.randn(1, 4, 128)
    scene, expected = model(z), plain(model, z[0])
    assert torch.allclose(scene.colours[0], expected[:, :3], atol=1e-5)
    assert torch.allclose(scene.mask_logits[0], expected[:, 3], atol=1e-5)


def test_a_slot_is_decoded_alone() -> None:
    model, z = decoder(), torch.randn(1, 3, 6, dtype=torch.float64)
    together, alone = model(z), model(z[:, 1:2])
    assert torch.allclose(together.colours[:, 1:2], alone.colours)
    assert torch.allclose(together.mask_logits[:, 1:2], alone.mask_logits)


def test_nothing_of_the_grid_is_saved_and_it_follows_the_model() -> None:
    model = decoder()
    assert not [k for k in model.state_dict() if not k.startswith(('layers.', 'project.'))]
    low = model.to(torch.bfloat16)
    assert low(torch.randn(1, 2, 6, dtype=torch.bfloat16)).colours.dtype == torch.bfloat16


@pytest.mark.parametrize('changes', [{'padding': 'half'}, {'padding': 3}, {'position': 'none'}, {'activation': 'tanh'},
                                     {'kernel': 4}, {'kernel': (3, 3)}, {'channels': ()}])
def test_impossible_choices_are_refused(changes: dict) -> None:
    with pytest.raises(InputError, match='decoder'):
        decoder(**changes)
