"""Pick-and-places as the numbers that a model takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.geometry import PinholeCamera, table_to_model


def pick_place_vector(action_format: str, camera: PinholeCamera, xy: ArrayLike, height: float
                      ) -> NDArray[np.float32] | None:
    """Pick and place positions in a model's action format; None for a model whose actions are none or others.

    Args:
        action_format: see `models.cycle.ACTION_FORMATS`.
        camera: projects the points where the model wants image coordinates.
        xy: (pick x, y, place x, y) [..., 4], metres in work_plane.
        height: of the plane (m) on which the points are projected.

    Returns:
        [..., 5] (1, pick u, v, place u, v) in [-1, 1], or [..., 4] as given.
    """
    points = np.asarray(xy, float)
    if action_format == 'pick_place_xy':
        return points.astype(np.float32)
    if action_format != 'pick_place_uv':
        return None
    uv = table_to_model(camera, points.reshape(-1, 2), height).reshape(points.shape)
    return np.concatenate([np.ones((*uv.shape[:-1], 1)), uv], -1).astype(np.float32)
