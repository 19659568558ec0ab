"""Pixels to the work plane, and what noise makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Homography, PinholeCamera, position_covariance

CAMERA = PinholeCamera.looking_at((0.1, -0.88, 1.0), (0.0, 0.0, 0.045), 23.0, 640, 480)
PIXELS = np.array([[100.0, 80.0], [320.0, 240.0], [600.0, 400.0], [40.0, 450.0], [610.0, 20.0]])


@pytest.mark.parametrize('height', [0.0, 0.03])
def test_a_camera_and_its_homography_agree(height):
    plane = Homography.of_camera(CAMERA, height)
    np.testing.assert_allclose(plane.to_plane(PIXELS), CAMERA.to_plane(PIXELS, height)[:, :2], atol=1e-12)
    np.testing.assert_allclose(plane.to_pixels(plane.to_plane(PIXELS)), PIXELS, atol=1e-8)
    fitted = Homography.fit(PIXELS, plane.to_plane(PIXELS))
    np.testing.assert_allclose(fitted.to_plane(PIXELS + 7), plane.to_plane(PIXELS + 7), atol=1e-8)


def test_the_jacobian_is_that_of_small_steps():
    plane, step = Homography.of_camera(CAMERA), 1e-4
    for axis in range(2):
        there = PIXELS + step * np.eye(2)[axis]
        np.testing.assert_allclose(plane.jacobian(PIXELS)[:, :, axis],
                                   (plane.to_plane(there) - plane.to_plane(PIXELS)) / step, rtol=1e-5, atol=1e-9)


def test_covariance_agrees_with_monte_carlo():
    random = np.random.default_rng(0)
    noise, height, height_noise, n = np.array([[1.0, 0.4], [0.4, 2.0]]), 0.03, 0.004, 200_000
    told = position_covariance(CAMERA, PIXELS, height, noise, height_noise)
    for pixel, covariance in zip(PIXELS, told, strict=True):
        drawn = random.multivariate_normal(pixel, noise, n)
        heights = height + height_noise * random.standard_normal(n)
        flat = CAMERA.to_plane(drawn, 0.0)  # on each ray, as far as its height asks for
        points = CAMERA.position + (flat - CAMERA.position) * (1 - heights / CAMERA.position[2])[:, None]
        seen = np.cov(points.T)
        # 200,000 draws give each entry to about 1 %; the second order that is left out is smaller
        np.testing.assert_allclose(covariance, seen, atol=0.02 * np.sqrt(np.outer(np.diag(seen), np.diag(seen))).max())
        assert np.linalg.eigvalsh(covariance).min() > -1e-15


def test_a_standard_deviation_is_noise_without_direction():
    plane = Homography.of_camera(CAMERA)
    np.testing.assert_allclose(plane.covariance(PIXELS, 2.0), plane.covariance(PIXELS, 4 * np.eye(2)))
    assert not position_covariance(CAMERA, PIXELS, 0.0, 1.0)[:, 2].any()


@pytest.mark.parametrize('pixels, places, words', [
    (PIXELS[:3], np.zeros((3, 2)), 'four or more'),
    (PIXELS, np.column_stack([np.arange(5), np.arange(5)]), 'not on one line'),
    (PIXELS * np.nan, PIXELS, 'finite')])
def test_what_gives_no_homography_is_refused(pixels, places, words):
    with pytest.raises(InputError, match=words):
        Homography.fit(pixels, places)
