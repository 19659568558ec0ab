"""A small OBAI, films of moving squares for it, and beliefs about windows of their frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from object_centric_ros.models.obai import OBAI, OBAIBelief
from object_centric_ros.models.obai_config import OBAIConfig
from object_centric_ros.models.scale import softplus_log_std

SMALL = {'image_size': 32, 'slots': 3, 'latent': 4, 'decoder_channels': (8, 8), 'refine_channels': (8, 8, 8),
         'refine_hidden': 16, 'refine_size': 16, 'action_hidden': 8}


def small(**changes: object) -> OBAI:
    torch.manual_seed(0)
    model = OBAI(OBAIConfig(**{**SMALL, **changes}))
    torch.nn.init.normal_(model.dynamics.effect, std=0.1)
    return model


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moving_squares(episodes: int, frames: int, seed: int = 0, size: int = 32) -> tuple[Tensor, Tensor]:
    """Two squares on gray: uint8 frames as float images [N, T, 3, size, size] and the field before each frame.

    The squares move by whole pixels; before the last frame each of them, and the background, is pushed at one pixel.
    """
    rng = np.random.default_rng(seed)
    images = np.full((episodes, frames, size, size, 3), 100, np.uint8)
    fields = np.zeros((episodes, frames, 2, size, size), np.float32)
    for image, field in zip(images, fields, strict=True):
        at, speed = rng.integers(6, size - 12, (2, 2)), rng.integers(-2, 3, (2, 2))
        colour = rng.integers(0, 256, (2, 3))
        for t in range(frames):
            for k in range(2):
                image[t, at[k, 1]:at[k, 1] + 6, at[k, 0]:at[k, 0] + 6] = colour[k]
            if t == frames - 2:
                push = rng.integers(-2, 3, (2, 2))
                for k in range(2):
                    field[t + 1, :, at[k, 1] + 2, at[k, 0] + 2] = push[k]
                field[t + 1, :, 0, 0] = rng.integers(-2, 3, 2)
                speed = speed + push
            at = np.clip(at + speed, 0, size - 6)
    return torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 255, torch.from_numpy(fields)


def window_of(model: OBAI, frames: int, batch: int = 1) -> tuple[OBAIBelief, Tensor, Tensor]:
    """A window of beliefs that all differ [batch * frames, ...], its images and fields."""
    images, fields = moving_squares(batch, frames)
    dtype = model.initial_mean.dtype
    images, fields = images.to(dtype), fields.to(dtype)
    with torch.no_grad():
        for belief, _ in model.iterations(images, fields, seeded(), 0.5):  # noqa: B007
            pass
    noise = 0.2 * torch.randn(belief.mean.shape, generator=seeded(2), dtype=dtype)
    belief = replace(belief, mean=noise, action_mean=belief.action_mean + noise[..., :2],
                     action_scale=noise[..., 2:4] - 2)
    return scaled(belief, noise - 0.5), images.flatten(0, 1), fields


def scaled(belief: OBAIBelief, scale: Tensor) -> OBAIBelief:
    return replace(belief, scale=scale, log_std=softplus_log_std(scale))
