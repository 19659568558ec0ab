"""Bouncing balls: conservation, no overlap, labels and collisions against pixels, the curtain."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.balls import PRESETS, BallsConfig, BallsWorld, make_batch
from object_centric_ros.simulation.flat_painting import OVERLAP

SEEDS = [(7, i) for i in range(12)]
CROWD = BallsConfig(steps=40, min_balls=6, max_balls=8, speed=4.0)


def kinetic(masses: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    return 0.5 * (masses[..., None] * velocities ** 2).sum((-1, -2))


def gaps(positions: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Distance between the rims of every two balls [..., pairs]; negative where they overlap."""
    i, j = np.triu_indices(positions.shape[-2], 1)
    apart = np.linalg.norm(positions[..., i, :] - positions[..., j, :], axis=-1)
    return apart - radii[..., i] - radii[..., j]


def test_energy_is_kept_over_a_long_time() -> None:
    world = BallsWorld(CROWD)
    world.reset(SEEDS)
    before = kinetic(world.masses, world.velocities)
    for _ in range(300):
        world.step()
    np.testing.assert_allclose(kinetic(world.masses, world.velocities), before, rtol=1e-9)


def test_momentum_and_energy_are_kept_in_collisions_between_balls() -> None:
    """In a window so large that no wall is reached."""
    world = BallsWorld(BallsConfig(min_balls=2, max_balls=2))
    world.reset([(1, i) for i in range(200)])
    rng = np.random.default_rng(0)
    n = len(world.positions)
    angle, offset = rng.uniform(0, 2 * np.pi, n), rng.uniform(-14, 14, n)
    along = np.stack([np.cos(angle), np.sin(angle)], 1)
    world.positions[:, 0] = 32 + offset[:, None] * along[:, ::-1] * [-1, 1] - 8 * along
    world.positions[:, 1] = 32 + 8 * along
    world.velocities[:, 0], world.velocities[:, 1] = 2 * along, -along
    momentum, energy = (world.masses[..., None] * world.velocities).sum(1), kinetic(world.masses, world.velocities)
    hits = np.zeros(n, int)
    for _ in range(5):
        world.step()
        hits += world.events
    assert hits.max() == 1 and hits.sum() > 100 and not hits.all()  # most meet, once; some pass
    np.testing.assert_allclose((world.masses[..., None] * world.velocities).sum(1), momentum, atol=1e-9)
    np.testing.assert_allclose(kinetic(world.masses, world.velocities), energy, rtol=1e-9)


def test_a_head_on_collision_is_the_textbook_one() -> None:
    world = BallsWorld(BallsConfig(min_balls=2, max_balls=2, radius=5, heavy_share=0, rim=0))
    world.reset([0])
    world.masses[:] = [[6.0, 1.0]]
    world.positions[:] = [[[20, 32], [34, 32]]]
    world.velocities[:] = [[[3, 0], [-1, 0]]]
    world.step()  # they meet after one frame, 4 pixels nearer
    world.step()
    v0, v1 = (6 * 3 + 1 * -1 + 1 * (-1 - 3)) / 7, (6 * 3 + 1 * -1 + 6 * (3 + 1)) / 7
    np.testing.assert_allclose(world.velocities[0], [[v0, 0], [v1, 0]], atol=1e-12)
    np.testing.assert_allclose(world.positions[0], [[23 + v0, 32], [33 + v1, 32]], atol=1e-9)


def test_balls_overlap_neither_each_other_nor_the_walls() -> None:
    world = BallsWorld(CROWD)
    world.reset(SEEDS)
    present = world.present
    for _ in range(100):
        world.step()
        i, j = np.triu_indices(8, 1)
        both = present[:, i] & present[:, j]
        assert gaps(world.positions, world.radii)[both].min() > -1e-6
        inside = np.minimum(world.positions, 64 - world.positions) - world.radii[..., None]
        assert inside[present].min() > -1e-6


def test_labels_are_the_pixels_whose_centres_lie_in_balls() -> None:
    config = BallsConfig(steps=10, min_balls=6, max_balls=8)
    out = make_batch(config, SEEDS)
    v, u = np.mgrid[:64, :64] + 0.5
    away = np.hypot(u - out['positions'][..., 0, None, None], v - out['positions'][..., 1, None, None])
    within = away <= out['radii'][:, None, :, None, None] + config.rim  # NaN for absent balls: not within
    count = within.sum(2)
    expected = np.where(count > 1, OVERLAP, (within * np.arange(1, 9)[:, None, None]).sum(2))
    differ = out['labels'] != expected
    assert differ.mean() < 1e-5  # rounding of centres on the rim
    assert (out['labels'] == OVERLAP).any()
    np.testing.assert_array_equal(out['frames'][..., 0], np.where(out['labels'] > 0, 255, 0))


def test_drawn_overlaps_are_at_most_a_pixel_wide() -> None:
    out = make_batch(CROWD, SEEDS)
    n, t, v, u = np.nonzero(out['labels'] == OVERLAP)
    assert len(n)
    centre = np.stack([u, v], -1) + 0.5
    depth = out['radii'][n] + CROWD.rim - np.linalg.norm(centre[:, None] - out['positions'][n, t], axis=-1)
    second = np.sort(np.where(np.isfinite(depth), depth, -np.inf), 1)[:, -2]
    assert second.min() > -1e-4 and second.max() <= 2 * CROWD.rim + 1e-4


def test_collision_masks_show_the_balls_whose_velocity_another_ball_changed() -> None:
    out = make_batch(BallsConfig(steps=60, rim=0.0), SEEDS)
    assert not out['collisions'][:, 0].any() and not out['events'][:, 0].any()
    colliding = 0
    for n, t in np.argwhere(out['events'] > 0):
        hit = set(np.unique(out['labels'][n, t][out['collisions'][n, t] > 0])) - {0}
        assert len(hit) >= 2
        for ball in range(4):  # a mask holds all of a ball or nothing
            whole = out['collisions'][n, t][out['labels'][n, t] == ball + 1]
            assert whole.min() == whole.max() == (ball + 1 in hit)
            before, after = out['velocities'][n, t - 1, ball], out['velocities'][n, t, ball]
            if ball + 1 not in hit:  # only walls: each component keeps its size
                np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-5)
        colliding += 1
    assert colliding > 20
    assert not out['collisions'][out['events'] == 0].any()


def test_types_of_balls() -> None:
    out = make_batch(BallsConfig(steps=1, radius=4), [(0, i) for i in range(300)])
    heavy = out['masses'] == 6
    assert set(np.unique(out['masses'])) == {1, 6} and abs(heavy.mean() - 0.5) < 0.05
    np.testing.assert_allclose(out['radii'], np.where(heavy, 5, 4))
    speed = np.sqrt((out['velocities'] ** 2).sum(-1).mean((1, 2)))
    np.testing.assert_allclose(speed, 2, rtol=1e-5)
    many = make_batch(BallsConfig(**{**PRESETS['rnem_6_8'], 'steps': 1}), [(0, i) for i in range(60)])
    assert set(np.isfinite(many['masses']).sum(1)) == {6, 7, 8}
    assert (np.isfinite(many['positions']).all((1, 3)) == np.isfinite(many['masses'])).all()


def test_the_curtain_hides_and_only_hides() -> None:
    config = BallsConfig(**{**PRESETS['rnem_curtain'], 'steps': 30, 'rim': 0.0})
    out = make_batch(config, SEEDS)
    assert len({tuple(c) for c in out['curtain']}) > 6  # another place in every episode
    v, u = np.mgrid[:64, :64]
    left, top, right, bottom = (out['curtain'][:, i, None, None] for i in range(4))
    behind = (u >= left) & (u < right) & (v >= top) & (v < bottom)
    assert (behind.sum((1, 2)) == 26 ** 2).all()
    behind = np.broadcast_to(behind[:, None], out['labels'].shape)
    assert not out['frames'][behind].any() and not out['labels'][behind].any() and not out['collisions'][behind].any()
    assert (out['masses'] == 1).all() and (out['radii'] == 6).all()
    hidden = 0
    for n, t, k in np.ndindex(out['positions'].shape[:3]):
        x, y = out['positions'][n, t, k]
        ball = (u + 0.5 - x) ** 2 + (v + 0.5 - y) ** 2 < 5.999 ** 2
        assert (out['labels'][n, t][ball & ~behind[n, t]] == k + 1).all()
        hidden += not (out['labels'][n, t] == k + 1).any()
    assert hidden > 0  # a ball wholly behind it keeps its position in the ground truth


def test_coloured_balls() -> None:
    config = BallsConfig(**PRESETS['op3'])
    out = make_batch(config, SEEDS[:4])
    assert out['frames'].shape == (4, 21, 64, 64, 3) and out['colours'].shape == (4, 3, 3)
    assert (out['colours'].max(2) >= 127).all()
    for n, t in np.ndindex(4, 21):
        for label in range(4):
            where = out['labels'][n, t] == label
            assert (out['frames'][n, t][where] == ([0, 0, 0] if label == 0 else out['colours'][n, label - 1])).all()
    np.testing.assert_allclose(np.linalg.norm(out['velocities'][:, 0], axis=-1), 1.6, rtol=1e-5)


def test_an_action_changes_velocities_of_balls_that_are_there() -> None:
    world = BallsWorld(BallsConfig(min_balls=1, max_balls=4, speed=0.0))
    world.reset(SEEDS)
    start = world.positions.copy()
    world.step(np.full(world.velocities.shape, 0.25))
    np.testing.assert_allclose(world.positions - start, 0.25 * world.present[..., None] * np.ones(2), atol=1e-12)
    assert (world.render()['frames'] > 0).any((1, 2, 3)).all()
    with pytest.raises(InputError, match='action'):
        world.step(np.zeros((3, 4, 2)))


@pytest.mark.parametrize('changes', [
    {'steps': 0}, {'min_balls': 5}, {'min_balls': 0}, {'radius': 12.0}, {'heavy_share': 1.5}, {'heavy_mass': 0.0},
    {'speed': -1.0}, {'curtain': 65}, {'rim': -0.5}, {'size': 20}, {'min_balls': 12, 'max_balls': 12}])
def test_impossible_balls(changes: dict) -> None:
    with pytest.raises(InputError, match='balls: '):
        BallsConfig(**changes)
