"""How far positions are off, beside what their covariance says, on tables that nothing was tuned on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from object_centric_ros.geometry import PinholeCamera, position_covariance
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.tracking.heights import position_spreads
from object_centric_ros.tracking.observation import CORRELATED, HIDDEN, view_slots
from object_centric_ros.tracking.tracker import EntityTracker

CAMERA = PinholeCamera.looking_at((0, -0.88, 1.0), (0, 0, 0.045), 23, 640, 480)


def spread(masks: np.ndarray) -> np.ndarray:
    colours = np.zeros((len(masks), 3, *masks.shape[1:]), np.float32)
    return view_slots(masks, colours, np.zeros((3, *masks.shape[1:]), np.float32)).spread


def test_the_spread_of_a_centroid_is_that_of_pixels_that_belong_to_the_mask_by_chance():
    rng = np.random.default_rng(0)
    mask = np.zeros((16, 16), np.float32)
    mask[4:9, 6:13] = 1 - 0.45 * rng.random((5, 7)).astype(np.float32)  # all above one half: owned
    told = spread(np.stack([1 - mask, mask]))[1]
    v, u = np.nonzero(mask)
    drawn = rng.random((100_000, len(v))) < mask[v, u]
    centroids = np.stack([drawn @ (u + 0.5), drawn @ (v + 0.5)], 1) / drawn.sum(1, keepdims=True)
    np.testing.assert_allclose(told, CORRELATED * np.cov(centroids.T), rtol=0.06, atol=2e-4)


def test_sharp_masks_are_certain_and_overlapped_ones_are_not():
    masks = np.zeros((3, 16, 16), np.float32)
    masks[1, 4:8, 4:8] = masks[2, 8:12, 4:8] = 1
    masks[0] = 1 - masks[1:].sum(0)
    above, below = spread(masks)[1:]
    assert not below.any()
    height = 4.0
    np.testing.assert_allclose(above, [[0, 0], [0, (HIDDEN * height) ** 2]], atol=0.05)
    assert np.isnan(spread(np.concatenate([masks, np.zeros((1, 16, 16), np.float32)]))[3]).all()


def test_covariances_are_those_of_the_plane_that_each_thing_is_on():
    positions = np.array([[0.1, -0.05, 0.03], [np.nan] * 3, [-0.1, 0.1, 0.09]])
    noise = np.tile([[2.0, 0.5], [0.5, 1.0]], (3, 1, 1))
    told = position_spreads(CAMERA, positions, noise)
    for i in (0, 2):
        alone = position_covariance(CAMERA, CAMERA.project(positions[i:i + 1]), positions[i, 2], noise[i])
        np.testing.assert_allclose(told[i], alone[0, :2, :2])
    assert np.isnan(told[1]).all()
    assert position_spreads(CAMERA, np.zeros((0, 3)), np.zeros((0, 2, 2))).shape == (0, 2, 2)


@pytest.fixture(scope='module')
def errors() -> np.ndarray:
    """Squared distances of entities to their blocks, in units of their covariance."""
    tracker, world, out = EntityTracker.load(device='cpu', threads=1), TabletopWorld(), []
    for seed in range(7000, 7012):
        world.reset(seed, 2 + seed % 4)
        tracker.reset()
        image = world.render()
        for k in range(3):
            frame = tracker.step(image, stamp=0.1 * k)
        blocks = world.block_positions()
        for entity in frame.entities:
            off = np.array(entity.position) - blocks
            nearest = off[np.linalg.norm(off, axis=1).argmin()]
            covariance = np.reshape(entity.covariance, (2, 2))
            assert entity.visible and np.linalg.eigvalsh(covariance).min() > 0 and np.linalg.norm(nearest) < 0.03
            out.append(nearest[:2] @ np.linalg.inv(covariance) @ nearest[:2])
    return np.array(out)


def test_errors_are_as_large_as_the_covariance_says(errors):
    assert len(errors) > 30
    print(f'{len(errors)} things: mean {errors.mean():.2f} (2 where it is exact)',
          *(f'{(errors < chi2.ppf(p, 2)).mean():.2f} within the {p:.0%} ellipse' for p in (0.5, 0.9, 0.99)))
    assert 1.0 < errors.mean() < 4.0
    assert (errors < chi2.ppf(0.5, 2)).mean() == pytest.approx(0.5, abs=0.2)
    assert (errors < chi2.ppf(0.99, 2)).mean() > 0.9
