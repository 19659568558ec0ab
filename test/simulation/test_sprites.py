"""Active-dSprites: coverage against areas, occlusion, sub-pixel motion, action fields and eq. 7."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.sprites import (
    ELLIPSE,
    HEART,
    PRESETS,
    SpritesConfig,
    SpritesWorld,
    accelerations,
    coverage,
    dense_field,
    make_batch,
)

SEEDS = [(3, i) for i in range(40)]
HALF = 9.0
AREAS = [4 * HALF ** 2, np.pi * ELLIPSE[0] * ELLIPSE[1] * HALF ** 2, (2 + np.pi / 2) * (HEART * HALF) ** 2]
"""Of a square, an ellipse, and a heart: a square of side d sqrt 2 and two half discs of radius d / sqrt 2."""


def cover(shape: int, x: float, y: float) -> np.ndarray:
    v, u = (np.mgrid[:40, :40] + 0.5).astype(np.float32)
    return coverage(shape, u[:1] - np.float32(x), v[:, :1] - np.float32(y), np.float32(HALF)).astype(float)


@pytest.mark.parametrize('shape', [0, 1, 2])
def test_a_sprite_covers_its_area_wherever_it_lies(shape: int) -> None:
    for x, y in np.random.default_rng(shape).uniform(19, 21, (20, 2)):
        assert cover(shape, x, y).sum() == pytest.approx(AREAS[shape], rel=0.015)


@pytest.mark.parametrize('shape', [0, 1, 2])
def test_a_sprite_moves_by_fractions_of_a_pixel(shape: int) -> None:
    v, u = np.mgrid[:40, :40]

    def centre(x: float, y: float) -> np.ndarray:
        c = cover(shape, x, y)
        return np.array([(c * u).sum(), (c * v).sum()]) / c.sum()

    for dx, dy in np.random.default_rng(9).uniform(-1, 1, (20, 2)):
        np.testing.assert_allclose(centre(20.2 + dx, 20.4 + dy) - centre(20.2, 20.4), [dx, dy], atol=0.06)


def test_an_upright_square_is_anti_aliased_exactly() -> None:
    c = cover(0, 20.3, 20.0)  # from 11.3 to 29.3, rows 11 to 29
    np.testing.assert_allclose(c[15, 10:13], [0, 0.7, 1], atol=1e-5)
    np.testing.assert_allclose(c[15, 28:31], [1, 0.3, 0], atol=1e-5)
    np.testing.assert_allclose(c[9:12, 20], [0, 0, 1], atol=1e-5)


def test_shapes_differ_and_have_their_sizes() -> None:
    for shape, (wide, tall) in enumerate([(18, 18), (21.6, 14.4), (19.6, 17.9)]):
        c = cover(shape, 20, 20) > 0.5
        assert c.any(0).sum() == pytest.approx(wide, abs=1.5) and c.any(1).sum() == pytest.approx(tall, abs=1.5)
        np.testing.assert_array_equal(c, c[:, ::-1])  # all are symmetric to left and right
    assert (cover(2, 20, 20)[13] > 0.5).sum() > 2 * (cover(2, 20, 20)[26] > 0.5).sum()  # the heart's tip points down


def test_the_sprite_in_front_hides_those_behind() -> None:
    world = SpritesWorld(SpritesConfig(speed=0.0))
    world.reset([0])
    world.shapes[:], world.scales[:] = 0, 1.0
    world.colours[0] = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]
    world.positions[0] = [[20, 20], [28, 24], [24, 30]]
    seen = world.render()
    assert seen['labels'][0, 21, 21] == 3 and seen['labels'][0, 15, 21] == 2 and seen['labels'][0, 11, 11] == 1
    np.testing.assert_array_equal(seen['frames'][0, 21, 21], [0, 0, 250])
    np.testing.assert_array_equal(seen['frames'][0, 15, 21], [0, 250, 0])
    back, middle, front = ((seen['labels'] == label).sum() for label in (1, 2, 3))
    assert back < middle < front == 22 ** 2


@pytest.mark.parametrize('preset', PRESETS)
def test_labels_agree_with_pixels(preset: str) -> None:
    config = SpritesConfig(**PRESETS[preset])
    out = make_batch(config, SEEDS)
    frames, labels = out['frames'].astype(int), out['labels']
    k, channels = out['colours'].shape[1], frames.shape[-1]
    solid = odd = 0
    for n, t in np.ndindex(labels.shape[:2]):
        palette = np.concatenate([out['background'][n][None], out['colours'][n]]).astype(int)[:, :channels]
        # away from edges, a pixel has the colour of the sprite that its label names
        padded = np.pad(labels[n, t], 1, mode='edge')
        around = np.stack([padded[1 + dv:65 + dv, 1 + du:65 + du] for dv in (-1, 0, 1) for du in (-1, 0, 1)])
        inner = (around == labels[n, t]).all(0)
        odd += int((np.abs(frames[n, t] - palette[labels[n, t]])[inner] > 1).any(-1).sum())
        solid += int((inner & (labels[n, t] > 0)).sum())
        if not config.smooth:
            np.testing.assert_array_equal(frames[n, t], palette[labels[n, t]])
    assert solid > 0 and labels.max() == k
    assert odd < 5e-3 * solid  # the tips of hearts: a pixel less than half covered, among pixels not covered


def inside(shape: int, x: np.ndarray, y: np.ndarray, half: float) -> np.ndarray:
    """Whether points lie in a sprite, by its geometry."""
    if shape == 0:
        return np.maximum(np.abs(x), np.abs(y)) <= half
    if shape == 1:
        return (x / (ELLIPSE[0] * half)) ** 2 + (y / (ELLIPSE[1] * half)) ** 2 <= 1
    diagonal = HEART * half
    y = y + (0.5 ** 0.5 - 0.5) / 2 * diagonal
    disc = (np.abs(x) - diagonal / 2) ** 2 + (y + diagonal / 2) ** 2 <= diagonal ** 2 / 2
    return (np.abs(x) + np.abs(y) <= diagonal) | disc


@pytest.mark.parametrize('preset', ['active', 'multi_on_grey'])
def test_pictures_are_those_of_fine_points(preset: str) -> None:
    """Against 8 x 8 points in every pixel, each with the colour of the foremost sprite that it lies in."""
    config = SpritesConfig(**PRESETS[preset])
    out = make_batch(config, SEEDS[:12])
    v, u = (np.mgrid[:512, :512] + 0.5) / 8
    for n in range(12):
        colours = np.concatenate([out['background'][n][None], out['colours'][n]]).astype(float)
        owner = np.zeros((512, 512), int)
        for k in np.flatnonzero(np.isfinite(out['positions'][n, 0, :, 0])):
            x, y = u - out['positions'][n, 0, k, 0], v - out['positions'][n, 0, k, 1]
            c, s = np.cos(out['angles'][n, k]), np.sin(out['angles'][n, k])
            x, y = c * x + s * y, c * y - s * x  # clockwise in the image, where y points down
            owner[inside(out['shapes'][n, k], x, y, out['scales'][n, k] * config.largest / 2)] = k + 1
        expected = colours[owner].reshape(64, 8, 64, 8, 3).mean((1, 3))
        share = np.stack([(owner == label).reshape(64, 8, 64, 8).mean((1, 3)) for label in range(len(colours))])
        error = np.abs(out['frames'][n, 0] - expected)
        assert error.mean() < 0.35 and (error.max(-1) > 32).mean() < 2e-3
        assert (share.argmax(0) != out['labels'][n, 0])[share.max(0) > 0.65].sum() == 0


def test_draws_are_those_of_the_paper() -> None:
    out = make_batch(SpritesConfig(), [(5, i) for i in range(1500)])
    assert [round(float((out['shapes'] == s).mean()), 1) for s in range(3)] == [0.3, 0.3, 0.3]
    assert 0.5 <= out['scales'].min() < 0.51 and 0.99 < out['scales'].max() <= 1
    assert set(np.unique(out['colours'])) == {0, 64, 128, 191, 255}
    assert (out['background'] == out['background'][:, :1]).all() and len(np.unique(out['background'])) > 200
    first = out['velocities'][:, 0]
    assert abs(first.mean()) < 0.15 and first.std() == pytest.approx(4, rel=0.03)
    acts = out['actions']
    assert acts.shape == (1500, 3, 4, 4) and not acts[:, [0, 2]].any()  # in the second frame only
    values = acts[:, 1, :, 2:][acts[:, 1, :, 2:] != 0]
    assert abs(values.mean()) < 0.1 and values.std() == pytest.approx(4, rel=0.03)


def test_every_visible_sprite_and_the_background_get_one_acceleration() -> None:
    out = make_batch(SpritesConfig(max_sprites=5, min_sprites=2), [(6, i) for i in range(200)])
    missed = 0
    for n in range(200):
        labels, rows = out['labels'][n, 1], out['actions'][n, 1]
        for row in range(6):
            label = (row + 1) % 6
            if (labels == label).any():
                u, v = rows[row, :2].astype(int)
                assert labels[v, u] == label and rows[row, 2:].all()
            else:
                assert not rows[row].any()
                missed += 1
    assert missed > 50


def test_sums_of_the_field_are_equation_7() -> None:
    out = make_batch(SpritesConfig(max_sprites=4, min_sprites=4), SEEDS)
    field = dense_field(out['actions'], 64)
    assert field.shape == (40, 3, 2, 64, 64)
    owns = out['labels'][:, :-1, None] == np.arange(1, 5)[:, None, None]  # [m_i = k]
    total = (owns[:, :, :, None] * field[:, :, None]).sum((-1, -2))
    np.testing.assert_allclose(out['accelerations'], total, atol=1e-6)
    change = np.diff(out['velocities'], axis=1)
    np.testing.assert_allclose(change, total, atol=1e-5)  # s' += a
    np.testing.assert_allclose(np.diff(out['positions'], axis=1), out['velocities'][:, 1:], atol=1e-4)  # s += s'
    assert np.abs(total[:, 1]).min(-1).max() > 1


def test_a_dense_field_acts_through_visible_pixels_only() -> None:
    world = SpritesWorld(SpritesConfig())
    world.reset(SEEDS[:8])
    labels, before = world.render()['labels'].copy(), world.velocities.copy()
    field = np.random.default_rng(0).normal(size=(8, 2, 64, 64))
    applied = world.step(field)
    for n in range(8):
        for k in range(3):
            own = labels[n] == k + 1
            np.testing.assert_allclose(applied[n, k], field[n][:, own].sum(-1), atol=1e-9)
    np.testing.assert_allclose(world.velocities - before, applied, atol=1e-12)
    np.testing.assert_allclose(accelerations(labels, field, 3), applied)
    world.push(-world.velocities)
    still = world.render()['frames'].copy()
    world.step()
    np.testing.assert_array_equal(world.render()['frames'], still)


def test_rows_at_one_pixel_add_up() -> None:
    actions = np.array([[[3, 5, 1, 2], [3, 5, 10, 20], [0, 0, 0, 0]]], np.float32)
    field = dense_field(actions, 8)
    np.testing.assert_array_equal(field[0, :, 5, 3], [11, 22])
    assert np.count_nonzero(field) == 2
    with pytest.raises(InputError, match='pixels from 0 to 7'):
        dense_field(actions + 5, 8)


def test_a_static_set_holds_pictures_without_actions() -> None:
    out = make_batch(SpritesConfig(**PRESETS['multi_on_grey']), SEEDS)
    assert 'actions' not in out and out['frames'].shape == (40, 1, 64, 64, 3)
    assert set(np.isfinite(out['positions'][:, 0, :, 0]).sum(1)) == {2, 3, 4, 5}
    white = make_batch(SpritesConfig(**PRESETS['multi_binarised']), SEEDS)['frames']
    assert white.shape == (40, 1, 64, 64, 1) and set(np.unique(white)) == {0, 255}


@pytest.mark.parametrize('changes', [
    {'steps': 0}, {'min_sprites': 4}, {'largest': 40.0}, {'smallest_scale': 0.0}, {'colours': 'red'},
    {'background': 'hsv'}, {'colour_levels': 1}, {'speed': -1.0}, {'acceleration': -1.0}, {'action_frames': (-1,)}])
def test_impossible_sprites(changes: dict) -> None:
    with pytest.raises(InputError, match='sprites: '):
        SpritesConfig(**changes)


def test_impossible_actions() -> None:
    world = SpritesWorld()
    world.reset([1, 2])
    with pytest.raises(InputError, match='action field'):
        world.step(np.zeros((1, 2, 64, 64)))
    with pytest.raises(InputError, match='acceleration'):
        world.push(np.full((2, 3, 2), np.nan))


def test_pictures_with_fewer_sprites_than_there_may_be_can_be_drawn_alone() -> None:
    config = SpritesConfig(**PRESETS['multi_on_colour'])
    seeds = [(0, i) for i in range(40)]
    whole = make_batch(config, seeds)
    present = np.isfinite(whole['positions'][:, 0, :, 0]).sum(1)
    assert set(present) == {1, 2, 3, 4}
    for i in (int(np.flatnonzero(present == n)[0]) for n in (1, 2, 3)):
        assert np.array_equal(make_batch(config, seeds[i:i + 1])['frames'][0], whole['frames'][i])
