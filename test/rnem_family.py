"""R-NEM and its relatives at sizes for tests, and films for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from object_centric_ros.models.rnem import RNEM, RNEMBelief, RNEMConfig

SIZES: dict[str, Any] = {'image_size': 16, 'slots': 3, 'latent': 12, 'attention_size': 8, 'hidden': 16,
                         'encoder_channels': (6, 8), 'decoder_channels': (8, 6)}
FAMILY: dict[str, dict[str, Any]] = {
    'R-NEM': {}, 'no attention': {'interaction': 'sum'}, 'RNN-EM': {'interaction': 'none'},
    'N-EM': {'interaction': 'none', 'm_step': 'gradient', 'step_size': 0.1},
    'RNN': {'interaction': 'none', 'slots': 1}, 'LSTM': {'interaction': 'none', 'm_step': 'lstm', 'slots': 1},
    'actions': {'action_size': 3, 'image_size': 22}, 'Gaussian': {'likelihood': 'gaussian'}}
PRESETS = {'rnem_balls': 'R-NEM', 'rnem_balls_no_attention': 'no attention', 'rnn_em_balls': 'RNN-EM',
           'nem_balls': 'N-EM', 'rnem_curtain': 'R-NEM', 'rnem_space_invaders': 'actions', 'rnn_balls': 'RNN',
           'lstm_balls': 'LSTM'}
each = pytest.mark.parametrize('kind', list(FAMILY))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(kind: str = 'R-NEM', **changes: Any) -> RNEM:
    torch.manual_seed(0)
    model = RNEM(RNEMConfig(**(SIZES | FAMILY[kind] | changes)))
    for p in model.parameters():  # biases and gains that start alike would hide errors in them
        if p.dim() == 1:
            torch.nn.init.normal_(p, float(p[0] == 1), 0.2)
    return model.eval()


def film(model: RNEM, batch: int = 2, frames: int = 5, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """Frames with a square that goes right, and actions where the model takes them."""
    size, c = model.config.image_size, model.config.channels
    images = torch.zeros(batch, frames, c, size, size, dtype=next(model.parameters()).dtype)
    place = torch.randint(0, size - 8, (batch, c, 2), generator=seeded(seed))
    for b in range(batch):
        for t in range(frames):
            for j, (u, v) in enumerate(place[b].tolist()):
                images[b, t, j, v:v + 5, u + t:u + t + 5] = 1
    choice = torch.randint(0, max(model.config.action_size, 1), (batch, frames), generator=seeded(seed + 1))
    return images, torch.eye(model.config.action_size).to(images)[choice] if model.config.action_size else None


def differ(a: RNEMBelief, b: RNEMBelief) -> float:
    return max((x - b.tensors()[k]).abs().max().item() for k, x in a.tensors().items() if k != 'log_std' and x.numel())
