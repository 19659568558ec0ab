"""Two balls in a box by minimal stepping, for tests that need a film in which things move and collide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bouncing_balls(seed: int, episodes: int, frames: int, size: int, radius: float = 0.14, speed: float = 0.06
                   ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Binary images [N, T, 1, size, size] and labels [N, T, size, size] (0 = nothing, or both) of two equal balls."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(radius, 1 - radius, (episodes, 2, 2))
    places[:, 1, 0] = (places[:, 0, 0] - radius + 0.5) % 1 * (1 - 2 * radius) + radius  # apart at the start
    angle = rng.uniform(0, 2 * np.pi, (episodes, 2))
    rates = speed * np.stack([np.cos(angle), np.sin(angle)], -1)
    grid = (np.arange(size) + 0.5) / size
    images = np.zeros((episodes, frames, 1, size, size), np.float32)
    labels = np.zeros((episodes, frames, size, size), np.uint8)
    for t in range(frames):
        across = (grid - places[..., 0, None])[..., None, :]
        down = (grid - places[..., 1, None])[..., :, None]
        cover = across ** 2 + down ** 2 < radius ** 2  # [N, 2, size, size]
        images[:, t, 0] = cover.any(1)
        labels[:, t] = np.where(cover.all(1), 0, cover[:, 0] + 2 * cover[:, 1])
        places = places + rates
        rates = np.where(places < radius, np.abs(rates), np.where(places > 1 - radius, -np.abs(rates), rates))
        apart = places[:, 0] - places[:, 1]
        distance = np.linalg.norm(apart, axis=-1, keepdims=True)
        normal = apart / np.maximum(distance, 1e-9)
        closing = ((rates[:, 0] - rates[:, 1]) * normal).sum(-1, keepdims=True)
        push = np.where((distance < 2 * radius) & (closing < 0), -closing * normal, 0)  # equal masses swap it
        rates = rates + np.stack([push, -push], 1)
    return images, labels
