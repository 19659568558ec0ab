"""What an arm can do on a table of solid things of one size: geometry alone, nothing learned. Metres, work_plane."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.planning.settings import PlannerConfig


def supports(positions: NDArray[np.float64], config: PlannerConfig) -> list[int | None]:
    """For each thing [N, 3] the index of what it stands on; None for the table."""
    below: list[int | None] = []
    for i, (x, y, z) in enumerate(positions):
        found = None
        for j, (x2, y2, z2) in enumerate(positions):
            level = abs(z - z2 - 2 * config.object_height) < config.object_height
            if i != j and level and np.hypot(x - x2, y - y2) < 2 * config.object_height:
                found = j
        below.append(found)
    return below


def landing(positions: NDArray[np.float64], moved: int, places: NDArray[np.float64], config: PlannerConfig
            ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where a thing would come to rest.

    Args:
        positions: [N, 3] of all things; `moved` is taken away first.
        places: (x, y) [P, 2].

    Returns:
        whether each place is inside the work area and either clear of all things or squarely on top of one [P], and
        the height of the centre there [P].
    """
    x0, y0, x1, y1 = config.work_area
    edge = 1e-6
    low, high = np.array([x0, y0]) - edge, np.array([x1, y1]) + edge
    fine: NDArray[np.bool_] = np.asarray(((places >= low) & (places <= high)).all(1))
    height: NDArray[np.float64] = np.full(len(places), config.object_height)
    others = np.delete(positions, moved, 0)
    if len(others) == 0:
        return fine, height
    distance = np.linalg.norm(places[:, None] - others[None, :, :2], axis=-1)
    top = np.where(distance < config.on_top, others[None, :, 2], 0.0).max(1)
    on_top = top > 0
    height[on_top] = top[on_top] + 2 * config.object_height
    # Beside a stack every level counts, on a stack only what stands outside of it.
    clear = np.where(distance < config.on_top, np.inf, distance).min(1) >= config.clearance
    return fine & clear, height


def squarely(positions: NDArray[np.float64], moved: int, place: NDArray[np.float64], config: PlannerConfig
             ) -> NDArray[np.float64]:
    """The place [2], moved to the middle of what the thing would land on, if it lands on another."""
    gaps = np.linalg.norm(positions[:, :2] - place, axis=1)
    gaps[moved] = np.inf
    under = np.flatnonzero(gaps < config.on_top)
    return positions[under[positions[under, 2].argmax()], :2].copy() if len(under) else place


def free_place(positions: NDArray[np.float64], moved: int, keep_clear: Iterable[tuple[float, float]],
               config: PlannerConfig, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """A random place (x, y) on the table, clear of all things and of `keep_clear`; None if 500 draws find none."""
    x0, y0, x1, y1 = config.work_area
    places = rng.uniform((x0, y0), (x1, y1), (500, 2))
    fine, height = landing(positions, moved, places, config)
    fine &= height < 1.5 * config.object_height
    for xy in keep_clear:
        fine &= np.linalg.norm(places - np.asarray(xy), axis=1) >= config.clearance
    return places[np.flatnonzero(fine)[0]] if fine.any() else None
