"""An untrained anchored OBAI that acts as a trained one in what tests need: things are seen where they were put."""

from __future__ import annotations

import torch
from torch import Tensor

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.obai import OBAI
from object_centric_ros.models.obai_anchored import UNIT
from object_centric_ros.models.obai_config import OBAIConfig

SIZE = 32


def anchored(**changes: object) -> OBAI:
    """Effects of accelerations as they are in the world: one pixel each."""
    torch.manual_seed(0)
    small = {'image_size': SIZE, 'slots': 4, 'latent': 6, 'background_slot': True, 'anchored': True, 'joint': False,
             'first_iterations': 1, 'iterations': 1, 'decoder_channels': (8, 8), 'refine_channels': (8, 8),
             'refine_hidden': 16, 'refine_size': 16, 'action_hidden': 8}
    model = OBAI(OBAIConfig(**{**small, **changes}))  # type: ignore[arg-type]
    with torch.no_grad():
        model.dynamics.effect.zero_()
        model.dynamics.effect[:2] = torch.eye(2) * 2 / SIZE / UNIT
    return model.eval()


def with_masks(model: OBAI) -> OBAI:
    """Things are discs of a few pixels before everything else, which is black, as they are."""
    drawn = model.decoder.forward

    def decode(z: Tensor, things: bool = False) -> Scene:
        scene = drawn(z, things)
        line = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
        u, v = (UNIT * z[..., i, None, None] for i in (0, 1))
        near = (line - u).square() + (line[:, None] - v).square() < 0.02
        logits = near.to(z.dtype) * 20 - 10
        if not things:
            logits[:, 0] = 0
        return Scene(0 * scene.colours, logits)
    model.decoder.forward = decode  # type: ignore[method-assign, assignment]
    return model
