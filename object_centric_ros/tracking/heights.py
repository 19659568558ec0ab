"""From pixels to metres when things stand on each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.geometry import PinholeCamera


def stacked_positions(camera: PinholeCamera, centroids: NDArray[np.float64], object_height: float,
                      levels: int = 3, tolerance: float = 0.3) -> NDArray[np.float64]:
    """Positions of things that stand on the work plane or on each other.

    A pixel alone does not tell a thing on the table from one that stands on another, nearer one. But two solid things
    cannot share a place: where a pixel's ray meets the level above another thing within `tolerance` of that thing's
    width, it must be on top of it, since on the table it would stand inside of it.

    Args:
        camera: of the image that the centroids are measured in.
        centroids: [N, 2] pixels; rows of NaN give NaN.
        object_height: height of a thing's centre above what it stands on (m); its width is taken as twice that.
        levels: highest stack.
        tolerance: horizontal distance to the thing below, as a part of the width.

    Returns:
        [N, 3] metres in work_plane.
    """
    at_level = [camera.to_plane(centroids, (2 * i + 1) * object_height) for i in range(levels)]
    positions = at_level[0].copy()
    # What stands on the table is nearer to the camera than what stands on it, at the same pixel column.
    for level in range(1, levels):
        below = positions.copy()
        for i in range(len(positions)):
            for j in range(len(positions)):
                supported = abs(below[j, 2] - (2 * level - 1) * object_height) < 1e-6
                if i != j and supported and np.linalg.norm(at_level[level][i, :2] - below[j, :2]) < 2 * tolerance * object_height:
                    positions[i] = at_level[level][i]
    return positions
