"""Metres from pixels, flat and stacked, against the geometry they come from."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.geometry import PinholeCamera, model_to_table, table_to_model
from object_centric_ros.tracking.heights import silhouette_height, stacked_positions

HALF = 0.03
CAMERA = PinholeCamera.looking_at((0, -0.88, 1.0), (0, 0, 0.045), 23, 640, 480)


def seen(positions: np.ndarray, hidden_rows: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Centroids and rows of cubes; `hidden_rows` cuts that part of a cube's height off from above."""
    centroids = CAMERA.project(positions)
    height = np.array([silhouette_height(CAMERA, p, HALF) for p in positions])
    rows = np.stack([centroids[:, 1] - height / 2, centroids[:, 1] + height / 2], 1)
    for i, part in hidden_rows.items():
        rows[i, 0] += part * height[i]
        centroids[i, 1] = rows[i].mean()
    return centroids, rows


def test_projection_round_trip() -> None:
    points = np.array([[0.1, -0.05, 0.03], [-0.15, 0.12, 0.03]])
    assert CAMERA.to_plane(CAMERA.project(points), 0.03) == pytest.approx(points)
    assert model_to_table(CAMERA, table_to_model(CAMERA, points[:, :2], 0.03), 0.03) == pytest.approx(points[:, :2])


def test_rays_that_miss_the_plane_give_nan() -> None:
    assert np.isnan(CAMERA.to_plane([[320.0, -5000.0]], 0.0)).all()


def test_flat_things_lie_flat() -> None:
    positions = np.array([[0.1, -0.1, HALF], [-0.12, 0.05, HALF], [0.0, 0.14, HALF]])
    found = stacked_positions(CAMERA, *seen(positions, {}), np.zeros(3), HALF)
    assert found == pytest.approx(positions, abs=1e-6)


def test_tower_of_three() -> None:
    positions = np.array([[0.05, 0.0, 5 * HALF], [0.05, 0.0, HALF], [0.05, 0.0, 3 * HALF], [-0.1, -0.1, HALF]])
    found = stacked_positions(CAMERA, *seen(positions, {1: 0.5, 2: 0.5}), np.array([1.0, 0, 1, 0]), HALF)
    assert found[:, 2] == pytest.approx(positions[:, 2])
    assert found[:, :2] == pytest.approx(positions[:, :2], abs=0.012)


def test_right_behind_is_not_on_top() -> None:
    positions = np.array([[0.0, 0.0, HALF], [0.0, 0.066, HALF]])
    found = stacked_positions(CAMERA, *seen(positions, {}), np.zeros(2), HALF)
    assert found[:, 2] == pytest.approx([HALF, HALF])


def test_nothing_gives_nothing() -> None:
    assert stacked_positions(CAMERA, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), HALF).shape == (0, 3)


def test_behind_a_stack_is_placed_by_the_upper_edge() -> None:
    positions = np.array([[-0.11, -0.14, HALF], [-0.11, -0.14, 3 * HALF], [-0.13, -0.05, HALF], [0.1, 0.1, HALF]])
    centroids, rows = seen(positions, {0: 0.5})
    height = rows[2, 1] - rows[2, 0]
    rows[2, 1] -= 0.45 * height
    centroids[2, 1] = rows[2].mean()
    found = stacked_positions(CAMERA, centroids, rows, np.array([0.0, 1.0, 0.8, 0.0]), HALF)
    assert found[:, 2] == pytest.approx(positions[:, 2])
    assert found[:, :2] == pytest.approx(positions[:, :2], abs=0.012)
