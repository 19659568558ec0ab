"""Metrics against scikit-learn, torch, and cases that can be counted by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, jaccard_score
from small_models import pictures, small
from torch.nn import functional

from object_centric_ros.datasets.episodes import write_part
from object_centric_ros.datasets.held_out import Episodes
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.disentangle import activeness, dci, importance_scores, quantised, things
from object_centric_ros.evaluation.metrics import (
    Persistence,
    adjusted_mutual_information,
    adjusted_rand_index,
    best_overlap,
    binary_cross_entropy,
    foreground_ari,
    mean_iou,
    object_ious,
    persistence,
)


def labellings() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 4, (5, 12, 12)), rng.integers(0, 6, (5, 12, 12))
    predicted[0] = true[0] * 3 + 1
    true[1], predicted[1] = 2, 5
    predicted[2, :9] = true[2, :9]
    predicted[3] = 1
    return true, predicted


@pytest.mark.parametrize(('ours', 'theirs'), [(adjusted_rand_index, adjusted_rand_score),
                                              (adjusted_mutual_information, adjusted_mutual_info_score)])
def test_partitions_equal_scikit_learn(ours: object, theirs: object) -> None:
    true, predicted = labellings()
    whole = [theirs(a.ravel(), b.ravel()) for a, b in zip(true, predicted, strict=True)]  # type: ignore[operator]
    assert ours(true, predicted) == pytest.approx(whole, abs=1e-9)  # type: ignore[operator]
    keep = true > 0
    part = [theirs(a[a > 0], b[a > 0]) for a, b in zip(true, predicted, strict=True)]  # type: ignore[operator]
    assert ours(true, predicted, keep) == pytest.approx(part, abs=1e-9)  # type: ignore[operator]
    assert np.isnan(ours(true[:1], predicted[:1], np.zeros_like(keep[:1])))  # type: ignore[operator]


def test_foreground_ari_leaves_out_background_and_what_is_hidden() -> None:
    true, predicted = labellings()
    true[:, 0] = 255
    expected = [adjusted_rand_score(a[(a > 0) & (a < 255)], b[(a > 0) & (a < 255)])
                for a, b in zip(true, predicted, strict=True)]
    assert foreground_ari(true, predicted) == pytest.approx(expected)
    assert np.isnan(foreground_ari(np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int)))


def test_iou_equals_scikit_learn() -> None:
    true, predicted = labellings()
    iou, things, segments = object_ious(true[2], predicted[2])
    for i, thing in enumerate(things):
        for j, segment in enumerate(segments):
            theirs = jaccard_score((true[2] == thing).ravel(), (predicted[2] == segment).ravel())
            assert iou[i, j] == pytest.approx(theirs)
    assert 0 not in things and len(things) == 3


def test_mean_iou_and_best_overlap_by_hand() -> None:
    true = np.array([[[1, 1, 1, 1], [2, 2, 0, 0], [3, 3, 0, 255]]])
    predicted = np.array([[[7, 7, 7, 7], [7, 7, 9, 9], [8, 9, 9, 9]]])
    # IoU with 7, 8, 9: thing 1 4/6 0 0, thing 2 2/6 0 0, thing 3 0 1/2 1/5
    assert mean_iou(true, predicted) == pytest.approx([(4 / 6 + 0 + 1 / 2) / 3])
    assert best_overlap(true, predicted) == pytest.approx([(4 / 6 + 2 / 6 + 1 / 2) / 3])
    assert np.isnan(mean_iou(true * 0, predicted)) and np.isnan(best_overlap(true * 0, predicted))


def test_persistence_by_hand() -> None:
    """Two things of two pixels each over five frames: one is lost for a frame and comes back with another segment."""
    true = np.tile([1, 1, 2, 2, 0, 0], (5, 1, 1))
    predicted = np.array([[[5, 5, 6, 6, 0, 0]], [[5, 5, 0, 0, 0, 0]], [[5, 5, 7, 7, 0, 0]], [[5, 5, 7, 7, 0, 0]],
                          [[7, 7, 5, 5, 0, 0]]])
    found = persistence(true, predicted)
    # frame 2: IoU of thing 2 with segment 0 is 2/4, which is enough, so it has a segment in every frame
    assert found == Persistence(10, 0, 4)
    assert persistence(true, predicted, 0.6) == Persistence(10, 1, 3)
    assert persistence(true, predicted, 0.6).accuracy == pytest.approx(1 - 4 / 10)
    assert persistence(true, true).accuracy == 1
    assert np.isnan(persistence(true * 0, predicted).accuracy)


def test_a_thing_keeps_its_segment_though_another_fits_better() -> None:
    true = np.array([[[1, 1, 1, 1, 1, 0]], [[1, 1, 1, 1, 1, 0]]])
    predicted = np.array([[[3, 3, 3, 4, 4, 0]], [[3, 3, 3, 4, 4, 4]]])
    assert persistence(true, predicted, 0.3) == Persistence(2, 0, 0)


def test_binary_cross_entropy_equals_torch() -> None:
    rng = np.random.default_rng(0)
    image, probability, keep = rng.integers(0, 2, (3, 5, 5)), rng.random((3, 5, 5)), rng.integers(0, 2, (3, 5, 5))
    theirs = functional.binary_cross_entropy(torch.tensor(probability), torch.tensor(image, dtype=torch.float64),
                                             reduction='none')
    assert binary_cross_entropy(image, probability) == pytest.approx(theirs.sum((1, 2)).numpy())
    relational = (theirs * torch.tensor(keep)).sum((1, 2)).numpy()
    assert binary_cross_entropy(image, probability, keep) == pytest.approx(relational)


def test_importance_scores_by_hand() -> None:
    assert importance_scores(np.eye(3)) == pytest.approx((1, 1))
    assert importance_scores(np.ones((3, 3))) == pytest.approx((0, 0), abs=1e-9)
    # the first dimension knows one factor, the second both alike, the third none
    d, c = importance_scores(np.array([[2.0, 0], [1, 1], [0, 0]]))
    assert d == pytest.approx((2 * 1 + 2 * 0) / 4)
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(3)
    assert c == pytest.approx((3 * (1 - entropy) + 1 * 1) / 4)


def test_dci_tells_axes_from_a_rotation() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 3, (400, 2))
    axes = factors + 0.05 * rng.standard_normal((400, 2))
    turned = axes @ np.array([[1, 1], [1, -1]]) / 2 ** 0.5
    good, bad = dci(axes, factors), dci(turned, factors)
    assert good.disentanglement > 0.95 and good.completeness > 0.95 and good.informativeness > 0.97
    assert bad.disentanglement < good.disentanglement - 0.3
    with pytest.raises(InputError, match='at least ten'):
        dci(axes[:5], factors[:5])


def test_activeness_finds_the_dimensions_that_draw() -> None:
    model = small('slot_attention', 'small')
    decode = model.decode
    model.decode = lambda z: decode(torch.cat([z[..., :3], 0 * z[..., 3:]], -1))  # type: ignore[method-assign]
    found = activeness(model, pictures(model, 6), torch.Generator().manual_seed(0))
    assert (found[:3] > 0).all() and not found[3:].any()


def test_things_come_with_the_slot_that_draws_them(tmp_path: Path) -> None:
    """A model whose latents are the places of the things is perfectly disentangled about them."""
    rng = np.random.default_rng(0)
    frames, labels = np.zeros((40, 1, 16, 16, 3), np.uint8), np.zeros((40, 1, 16, 16), np.uint8)
    positions = np.zeros((40, 1, 2, 2), np.float32)
    for n in range(40):
        for k, left in enumerate((0, 8)):
            u, v = left + int(rng.integers(0, 5)), int(rng.integers(0, 12))
            frames[n, 0, v:v + 3, u:u + 3], labels[n, 0, v:v + 3, u:u + 3] = 255, k + 1
            positions[n, 0, k] = u + 1, v + 1
    path = tmp_path / 'a.h5'
    write_part(path, {'generator': 'test', 'seed': 1}, {'frames': frames, 'labels': labels, 'positions': positions})
    data = Episodes(str(path), 0.0, None, 'none')
    places = torch.from_numpy(np.concatenate([np.full((40, 1, 2), -9, np.float32), positions[:, 0]], 1))
    owner = torch.from_numpy(labels[:, 0].astype(np.int64))
    model = small('slot_attention', 'small')
    model.infer = lambda image, **_: places  # type: ignore[method-assign, assignment]
    model.latents = lambda belief: belief  # type: ignore[method-assign, assignment]
    model.decode = lambda z: SimpleNamespace(  # type: ignore[method-assign, assignment]
        masks=functional.one_hot(owner, 3).permute(0, 3, 1, 2))
    latents, factors = things(model, data, 40)
    assert len(latents) == 80 and set(factors) == {'x', 'y'}
    assert np.array_equal(factors['x'], np.unique(latents[:, 0], return_inverse=True)[1])
    found = dci(latents, np.stack([factors['x'], factors['y']], 1))
    assert found.disentanglement > 0.6 and found.completeness > 0.6
    with pytest.raises(InputError, match='shapes, colours or positions'):
        things(model, Episodes(str(write_bare(tmp_path, frames, labels)), 0.0, None, 'none'), 3)


def write_bare(folder: Path, frames: np.ndarray, labels: np.ndarray) -> Path:
    write_part(folder / 'bare.h5', {'generator': 'test'}, {'frames': frames, 'labels': labels})
    return folder / 'bare.h5'


def test_continuous_factors_become_classes() -> None:
    assert quantised(np.array([3.0, 1.0, 3.0])).tolist() == [1, 0, 1]
    assert np.bincount(quantised(np.random.default_rng(0).random(100))).tolist() == [20] * 5
