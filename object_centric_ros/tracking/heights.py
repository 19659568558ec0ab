"""From pixels to metres when things stand on each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.geometry import PinholeCamera


def silhouette_height(camera: PinholeCamera, centre: NDArray[np.float64], half: float) -> float:
    """Rows (pixels) that an upright, unhidden cube of half-width `half` (m) around `centre` [3] covers in the image."""
    corners = centre + half * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    v = camera.project(corners)[:, 1]
    return float(v.max() - v.min())


def stacked_positions(camera: PinholeCamera, centroids: NDArray[np.float64], rows: NDArray[np.float64],
                      overlapped: NDArray[np.float64], object_height: float, levels: int = 3, tolerance: float = 0.45,
                      cut: float = 0.8) -> NDArray[np.float64]:
    """Positions of block-like things that stand on the work plane or on each other.

    A pixel alone does not tell a thing on the table from one that stands on another, nearer one. What tells them apart
    is the lower one: with something on top of it, its upper part is hidden. Such a thing is placed by its lower
    edge, and what the ray of a pixel meets right above it, one level up, stands on it. A thing whose lower part is
    hidden by what stands in front of it is placed by its upper edge.

    Args:
        camera: of the image that the pixels are measured in.
        centroids: [N, 2] pixels (u, v); rows of NaN give NaN.
        rows: first and last row that each thing shows [N, 2], pixels.
        overlapped: part of each thing's lower edge that borders on another thing [N].
        object_height: height of a thing's centre above what it stands on (m); its width is taken as twice that.
        levels: highest stack.
        tolerance: horizontal distance to the thing below, as a part of the width.
        cut: a thing that shows less than this part of its height is partly hidden.

    Returns:
        [N, 3] metres in work_plane.
    """
    n = len(centroids)

    def on_levels(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([camera.to_plane(pixels, (2 * i + 1) * object_height) for i in range(levels)])
    by_centre = on_levels(centroids)
    whole = np.array([silhouette_height(camera, p, object_height) if np.isfinite(p).all() else np.inf
                      for p in by_centre[0]])
    hidden = rows[:, 1] - rows[:, 0] < cut * whole
    by_low = on_levels(np.column_stack([centroids[:, 0], rows[:, 1] - 0.5 * whole]))
    by_high = on_levels(np.column_stack([centroids[:, 0], rows[:, 0] + 0.5 * whole]))
    low = hidden & (overlapped < 0.5)
    for i in np.flatnonzero(hidden & ~low).tolist():
        # Between two others: in the middle of a tower, if the upper one is right above; else behind the lower one.
        gaps = np.linalg.norm(by_centre[1:, :, :2] - by_low[:-1, i:i + 1, :2], axis=-1)
        gaps[:, i] = np.inf
        low[i] = bool((gaps < 0.6 * object_height).any())
    at = np.where(low[None, :, None], by_low, np.where(hidden[None, :, None], by_high, by_centre))
    positions = at[0].copy()
    for level in range(1, levels):
        below = positions.copy()
        for i in range(n):
            gaps = np.linalg.norm(at[level, i, :2] - below[:, :2], axis=1)
            possible = low & (np.abs(below[:, 2] - (2 * level - 1) * object_height) < 1e-6)
            possible &= gaps < 2 * tolerance * object_height
            possible[i] = False
            if possible.any():
                positions[i] = at[level, i]
    return positions


def position_spreads(camera: PinholeCamera, positions: NDArray[np.float64], spreads: NDArray[np.float64]
                     ) -> NDArray[np.float64]:
    """Covariance [N, 2, 2] (m^2) of x and y of positions [N, 3] that were seen with covariance `spreads` [N, 2, 2]
    (pixels^2), to first order; their heights are taken as known. NaN where a position is."""
    local, turn = (positions - camera.position) @ camera.rotation, np.asarray(camera.rotation)[:2]
    depth = local[:, 2:, None]
    moved = (turn[:, :2].T - local[:, :2, None] / depth * turn[:, 2]) / depth  # d(u / fx, v / fy) / d(x, y)
    back = np.full((len(positions), 2, 2), np.nan)
    known = np.isfinite(positions).all(1)
    back[known] = np.linalg.inv(moved[known] * np.array([[camera.fx], [camera.fy]]))
    return np.asarray(back @ spreads @ back.transpose(0, 2, 1))
