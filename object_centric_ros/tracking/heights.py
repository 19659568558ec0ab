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
                      object_height: float, levels: int = 3, tolerance: float = 0.45, cut: float = 0.8
                      ) -> NDArray[np.float64]:
    """Positions of block-like things that stand on the work plane or on each other.

    A pixel alone does not tell a thing on the table from one that stands on another, nearer one. What tells them apart
    is the lower one: with something on top of it, its upper part is hidden. Such a thing is placed by its lower
    edge, and what the ray of a pixel meets right above it, one level up, stands on it.

    Args:
        camera: of the image that the pixels are measured in.
        centroids: [N, 2] pixels (u, v); rows of NaN give NaN.
        rows: first and last row that each thing shows [N, 2], pixels.
        object_height: height of a thing's centre above what it stands on (m); its width is taken as twice that.
        levels: highest stack.
        tolerance: horizontal distance to the thing below, as a part of the width.
        cut: a thing that shows less than this part of its height is hidden from above.

    Returns:
        [N, 3] metres in work_plane.
    """
    n = len(centroids)
    full = np.array([[camera.to_plane(c, (2 * i + 1) * object_height)[0] for c in centroids] for i in range(levels)])
    full = full.reshape(levels, n, 3)
    seen = rows[:, 1] - rows[:, 0]
    whole = np.array([silhouette_height(camera, p, object_height) if np.isfinite(p).all() else np.inf for p in full[0]])
    hidden = seen < cut * whole
    low = np.column_stack([centroids[:, 0], rows[:, 1] - 0.5 * whole])
    by_edge = np.array([[camera.to_plane(c, (2 * i + 1) * object_height)[0] for c in low] for i in range(levels)])
    at = np.where(hidden[None, :, None], by_edge.reshape(levels, n, 3), full)
    positions = at[0].copy()
    for level in range(1, levels):
        below = positions.copy()
        for i in range(n):
            gaps = np.linalg.norm(at[level, i, :2] - below[:, :2], axis=1)
            one_lower = np.abs(below[:, 2] - (2 * level - 1) * object_height) < 1e-6
            possible = hidden & one_lower & (gaps < 2 * tolerance * object_height)
            possible[i] = False
            if possible.any():
                positions[i] = at[level, i]
    return positions
