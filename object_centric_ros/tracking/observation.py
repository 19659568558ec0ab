"""What a decoded belief shows of each slot: mask, area, place, colour, sharpness, fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from object_centric_ros.models.belief import Scene

CORRELATED = 2.0
"""How many pixels of a mask err together. With it the errors of positions on simulated tables are as large as their
covariance says (test_positions)."""
HIDDEN = 0.1
"""Part of its height by which the centroid of an overlapped thing may be off: up to a fifth of the thing can be hidden
before its height tells (`heights.stacked_positions`, `cut`)."""


@dataclass(frozen=True)
class SlotViews:
    """Per-slot measurements of one frame; arrays over K slots, pixels of the model image.

    Attributes:
        owner: slot that owns each pixel [S, S]; -1 where no slot draws anything.
        area: pixels owned [K].
        centroid: mean (u, v) of the owned pixels, weighted by the mask [K, 2]; NaN where area is 0.
        box: (u0, v0, u1, v1) [K, 4].
        rows: first and last row that it shows, to a fraction of a pixel [K, 2].
        overlapped: part of its lower edge that borders on another slot that is not slot 0 [K].
        colour: mean image colour over the owned pixels [K, 3].
        sharpness: mean mask weight over them [K].
        fit: exp(-mean squared error / (2 * 0.2^2)) over them [K].
        spread: covariance of the centroid [K, 2, 2], see `_spread`; NaN where area is 0.
        contrast: mean RGB distance over them to what the background slot would draw there [K]; 1 without such a slot.
    """

    owner: NDArray[np.intp]
    area: NDArray[np.float64]
    centroid: NDArray[np.float64]
    box: NDArray[np.float64]
    rows: NDArray[np.float64]
    overlapped: NDArray[np.float64]
    colour: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    fit: NDArray[np.float64]
    contrast: NDArray[np.float64]
    spread: NDArray[np.float64]


def chromaticity(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r, g, b) / (r + g + b) of colours [..., 3]: the same for the lit and the shaded side of a thing."""
    return colours / np.maximum(colours.sum(-1, keepdims=True), 1e-3)


def view_slots(masks: NDArray[np.float32], colours: NDArray[np.float32], image: NDArray[np.float32],
               background: int | None = None, empty: NDArray[np.bool_] | None = None) -> SlotViews:
    """Measure each slot.

    Args:
        masks: [K, S, S]; colours: [K, 3, S, S]; image: [3, S, S] in [0, 1].
        background: the background's slot, if there is one.
        empty: pixels where no slot draws anything [S, S] (see `Scene`); they belong to none.
    """
    k, size = masks.shape[0], masks.shape[1]
    owner = masks.argmax(0)
    if empty is not None:
        owner[empty] = -1
    hard = owner[None] == np.arange(k)[:, None, None]
    weight = np.where(hard, masks, 0.0).reshape(k, -1).astype(np.float64)
    total = weight.sum(1)
    safe = np.maximum(total, 1e-9)
    v, u = np.divmod(np.arange(size * size), size)
    centroid = np.stack([weight @ (u + 0.5), weight @ (v + 0.5)], 1) / safe[:, None]
    area = hard.reshape(k, -1).sum(1).astype(float)
    centroid[area == 0] = np.nan
    flat_image = image.reshape(3, -1).astype(np.float64)
    error = np.square(colours.reshape(k, 3, -1) - flat_image).mean(1)
    fit = np.exp(-(weight * error).sum(1) / safe / 0.08)
    box = np.zeros((k, 4))
    for slot in np.flatnonzero(area):
        down, across = np.flatnonzero(hard[slot].any(1)), np.flatnonzero(hard[slot].any(0))
        box[slot] = across[0], down[0], across[-1] + 1, down[-1] + 1
    rows = _extent(weight.reshape(k, size, size).sum(2))
    overlapped = _overlapped(owner, k)
    sharpness = np.where(area > 0, total / np.maximum(area, 1), 0.0)
    seen = weight @ flat_image.T / safe[:, None]
    contrast = np.ones(k)
    if background is not None:
        beyond = np.linalg.norm(flat_image - colours[background].reshape(3, -1), axis=0)
        contrast = weight @ beyond / safe
    spread = _spread(weight, centroid, total, overlapped * (rows[:, 1] - rows[:, 0]))
    return SlotViews(owner, area, centroid, box, rows, overlapped, seen, sharpness, fit, contrast, spread)


def _overlapped(owner: NDArray[np.intp], slots: int) -> NDArray[np.float64]:
    """For each slot the part of its columns below whose lowest pixel another object slot begins [K]."""
    result = np.zeros(slots)
    padded = np.vstack([owner, np.zeros((1, owner.shape[1]), owner.dtype)])
    for slot in range(1, slots):
        mask = owner == slot
        columns = np.flatnonzero(mask.any(0))
        if len(columns):
            last = owner.shape[0] - mask[::-1, columns].argmax(0)
            result[slot] = float(np.mean((padded[last, columns] > 0) & (padded[last, columns] != slot)))
    return result


def _spread(weight: NDArray[np.float64], centroid: NDArray[np.float64], total: NDArray[np.float64],
            overlapped: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance [K, 2, 2] (pixels^2) of the centroid of what slots show [K].

    A pixel of weight m belongs to the slot with probability m, so that the centroid, sum(m p) / sum(m), varies by
    sum(m (1 - m) (p - c) (p - c)^T) / sum(m)^2 if pixels err one by one. They do not: `CORRELATED`. Of a thing whose
    lower edge borders on another thing some rows are hidden, which moves its centroid up by half of them: `HIDDEN`.

    Args:
        weight: mixing weights of owned pixels [K, S * S], 0 elsewhere; total: their sums [K].
        centroid: [K, 2].
        overlapped: height of what is shown, times the overlapped part of the lower edge [K].
    """
    u, v, uu, uv, vv, one = (weight * (1 - weight) @ _powers(round(weight.shape[1] ** 0.5))).T
    first, second = np.stack([u, v], 1), np.stack([uu, uv, uv, vv], 1).reshape(-1, 2, 2)
    crossed, around = first[:, :, None] * centroid[:, None, :], centroid[:, :, None] * centroid[:, None, :]
    spread = second - crossed - crossed.transpose(0, 2, 1) + one[:, None, None] * around
    spread *= CORRELATED / np.maximum(total, 1e-9)[:, None, None] ** 2
    spread[:, 1, 1] += (HIDDEN * overlapped) ** 2
    return np.asarray(spread)


@cache
def _powers(size: int) -> NDArray[np.float64]:
    """u, v, u u, u v, v v and 1 of each pixel of an image [size * size, 6]."""
    v, u = np.divmod(np.arange(size * size), size) + np.array([[0.5]])
    return np.stack([u, v, u * u, u * v, v * v, np.ones(size * size)], 1)


def _extent(profile: NDArray[np.float64], tail: float = 0.06) -> NDArray[np.float64]:
    """Where a profile [K, S] begins and ends [K, 2]: from its quantiles, stretched as for an even spread."""
    total = np.cumsum(profile, 1)
    edges = np.concatenate([np.zeros((len(profile), 1)), total], 1) / np.maximum(total[:, -1:], 1e-9)
    place = np.arange(edges.shape[1])
    low, high = (np.array([np.interp(q, e, place) for e in edges]) for q in (tail, 1 - tail))
    stretch = tail / (1 - 2 * tail) * (high - low)
    return np.stack([low - stretch, high + stretch], 1)


def scene_arrays(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Masks [K, S, S] and RGB colours [K, 3, S, S] of the first scene of a batch, on the CPU; grey becomes RGB."""
    with torch.no_grad():
        colours = scene.colours[0].float().expand(-1, 3, -1, -1)
        return scene.masks[0].float().cpu().numpy(), colours.cpu().numpy()


def empty_pixels(scene: Scene) -> NDArray[np.bool_] | None:
    """Pixels [S, S] of the first scene of a batch where no slot draws anything; None for models that always draw."""
    return None if scene.empty is None else scene.empty[0].cpu().numpy()
