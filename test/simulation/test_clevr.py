"""CLEVR-like scenes: everything seen and told truly, distances kept, collisions, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.clevr import (
    BOUND,
    COLOURS,
    FIELDS,
    GAP,
    MARGIN,
    PRESETS,
    ClevrConfig,
    ClevrWorld,
    make_batch,
)

MOVING = ClevrConfig(steps=24, interval=0.1, moving=0.8, min_objects=5, max_objects=6, sizes=(0.4,))


@pytest.fixture(scope='module')
def scenes() -> dict[str, np.ndarray]:
    return make_batch(ClevrConfig(), [(0, i) for i in range(12)])


@pytest.fixture(scope='module')
def videos() -> dict[str, np.ndarray]:
    return make_batch(MOVING, [(1, i) for i in range(4)])


def test_everything_is_seen_and_named(scenes: dict[str, np.ndarray]) -> None:
    assert set(scenes) == set(FIELDS)
    counts = (scenes['shapes'] < 255).sum(1)
    assert counts.min() >= 3 and counts.max() <= 10 and len(set(counts.tolist())) > 3
    for labels, n, positions in zip(scenes['labels'][:, 0], counts, scenes['positions'][:, 0], strict=True):
        areas = np.bincount(labels.ravel(), minlength=n + 1)
        assert len(areas) == n + 1 and (areas[1:] >= 0.0025 * 64 * 64).all()
        assert np.isfinite(positions[:n]).all() and np.isnan(positions[n:]).all()
    for name, kinds in (('shapes', 3), ('materials', 2), ('colours', 8)):
        assert set(np.unique(scenes[name])) <= {*range(kinds), 255} and len(np.unique(scenes[name])) > 2


def _inside(labels: np.ndarray, i: int) -> np.ndarray:
    """Pixels of thing i, or of the floor (-1), that are not at an outline, where colours mix."""
    mask = np.pad(labels == i + 1, 1)
    return np.all([mask[1 + dv:65 + dv, 1 + du:65 + du] for dv in (-1, 0, 1) for du in (-1, 0, 1)], axis=0)


def test_pixels_have_the_colours_of_their_labels(scenes: dict[str, np.ndarray]) -> None:
    rgb = np.array(list(COLOURS.values()), float)
    right = total = 0
    for frame, labels, colours, materials in zip(scenes['frames'][:, 0], scenes['labels'][:, 0], scenes['colours'],
                                                 scenes['materials'], strict=True):
        floor = frame[_inside(labels, -1)].astype(int)
        assert (np.ptp(floor, axis=1) <= 3).all()  # gray
        for i in np.flatnonzero((colours < 255) & (materials == 0)):
            inside = frame[_inside(labels, i)].astype(float)
            if len(inside) >= 4:
                seen = np.median(inside, axis=0)
                cosine = rgb @ seen / np.linalg.norm(rgb, axis=1) / np.linalg.norm(seen)
                right += int(cosine[colours[i]] > 0.98)
                total += 1
    assert total > 20 and right == total


def test_metal_shines() -> None:
    spheres = make_batch(ClevrConfig(max_objects=4, sizes=(0.7,)), [(2, i) for i in range(12)])
    peaks: dict[int, list[float]] = {0: [], 1: []}
    for frame, labels, materials, shapes in zip(spheres['frames'][:, 0], spheres['labels'][:, 0],
                                                spheres['materials'], spheres['shapes'], strict=True):
        for i in np.flatnonzero(shapes == 1):
            gray = frame[_inside(labels, i)].astype(float).min(1)  # of the least channel: white light
            if len(gray) > 30:
                peaks[int(materials[i])].append(gray.max() - np.median(gray))
    assert min(len(p) for p in peaks.values()) >= 4
    assert np.median(peaks[1]) > 2 * np.median(peaks[0])


def test_distances_are_kept(scenes: dict[str, np.ndarray]) -> None:
    for positions, shapes, sizes in zip(scenes['positions'][:, 0], scenes['shapes'], scenes['sizes'], strict=True):
        n = int((shapes < 255).sum())
        xy, radii = positions[:n, :2], sizes[:n] * np.where(shapes[:n] == 0, np.sqrt(2), 1)
        assert np.abs(xy).max() <= BOUND and np.allclose(positions[:n, 2], sizes[:n], atol=1e-6)
        for i in range(n):
            for j in range(i):
                d = xy[i] - xy[j]
                assert np.hypot(*d) >= radii[i] + radii[j] + GAP - 1e-5
                assert min(abs(d.sum()), abs(d[0] - d[1])) / np.sqrt(2) >= MARGIN - 1e-5


def test_things_move_collide_and_stay_on_the_floor(videos: dict[str, np.ndarray]) -> None:
    there = videos['shapes'] < 255
    speeds = np.linalg.norm(videos['velocities'], axis=-1)
    assert (np.nanmax(speeds[:, 0], axis=1) > 1).all() and np.nanmax(speeds[:, -1]) < np.nanmax(speeds[:, 0])
    assert videos['collisions'].any() and not videos['collisions'][:, 0].any()
    assert np.nanmin(videos['positions'][..., 2]) > 0.2
    for positions, velocities, mask, hit in zip(videos['positions'], videos['velocities'], there,
                                                videos['collisions'], strict=True):
        step = np.diff(positions[:, mask], axis=0)
        free = ~hit[1:]
        between = (velocities[1:, mask] + velocities[:-1, mask]) / 2 * MOVING.interval
        assert np.abs(step - between)[free][..., :2].max() < 0.05
        n = int(mask.sum())
        gaps = np.linalg.norm(positions[:, :n, None] - positions[:, None, :n], axis=-1) + 9 * np.eye(n)
        assert gaps.min() > 0.5


def test_labels_follow_the_things(videos: dict[str, np.ndarray]) -> None:
    labels = videos['labels'][0]
    moved = np.linalg.norm(videos['positions'][0, -1] - videos['positions'][0, 0], axis=-1)
    fastest = int(np.nanargmax(moved)) + 1
    assert not np.array_equal(labels[0] == fastest, labels[-1] == fastest)
    assert (videos['frames'][0, 0] != videos['frames'][0, -1]).any()


def test_same_seed_same_bits_in_any_batch() -> None:
    config = ClevrConfig(steps=3, moving=0.5, max_objects=6)
    seeds = [(5, i) for i in range(3)]
    whole = make_batch(config, seeds)
    for i in (2, 0, 1):
        one = make_batch(config, [seeds[i]])
        for name, values in whole.items():
            assert np.array_equal(values[i], one[name][0], equal_nan=values.dtype.kind == 'f'), name
    assert not np.array_equal(whole['frames'][0], whole['frames'][1])


def test_presets_are_possible() -> None:
    for preset in PRESETS.values():
        config = ClevrConfig(**preset)
        world = ClevrWorld(config)
        assert config.min_objects <= len(world.things) <= config.max_objects
        assert world.render().shape == (config.size, config.size, 3)


@pytest.mark.parametrize('wrong', [{'size': 4}, {'min_objects': 0}, {'max_objects': 99}, {'sizes': ()},
                                   {'sizes': (3.0,)}, {'moving': 2.0}, {'speed': (2.0, 1.0)}, {'interval': 0.0}])
def test_impossible_configurations(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ClevrConfig(**wrong)  # type: ignore[arg-type]


def test_too_many_for_the_room() -> None:
    with pytest.raises(InputError, match='room for'):
        ClevrWorld(ClevrConfig(min_objects=16, max_objects=16, sizes=(1.0,)))
