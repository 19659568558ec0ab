"""Changes of sequences while training, for `sequences.Sequences(augment=...)`; none is used unless it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from object_centric_ros.errors import InputError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a pixel's brightness (ITU-R BT.601)."""


@dataclass(frozen=True)
class ColourJitter:
    """Other brightness, contrast and saturation, the same for all frames of a sequence: light and cameras differ.

    Attributes:
        brightness, contrast, saturation: a factor is drawn from [1 - x, 1 + x].
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        given = self.brightness, self.contrast, self.saturation
        if not all(0 <= x < 1 for x in given):
            raise InputError('colour jitter', 'brightness, contrast and saturation in [0, 1)', given)

    def __call__(self, item: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """A sequence with `images` uint8 [T, C, H, W] changed."""
        ranges = np.array([self.brightness, self.contrast, self.saturation])
        brightness, contrast, saturation = rng.uniform(1 - ranges, 1 + ranges).tolist()
        images = item['images'].float() * brightness
        if images.shape[1] == 3:
            gray = (images * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
            images = gray + saturation * (images - gray)
        middle = images.mean()
        images = middle + contrast * (images - middle)
        return {**item, 'images': images.round().clamp(0, 255).to(torch.uint8)}
