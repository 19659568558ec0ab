"""Tetrominoes: the pieces, labels against pixels, no overlap."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.tetrominoes import COLOURS, TetrominoesConfig, make_batch, orientations

SEEDS = [(2, i) for i in range(300)]


def test_orientations() -> None:
    assert len(orientations('OTSZJLI')) == 19 and len(orientations(TetrominoesConfig().pieces)) == 17
    for cells in orientations('OTSZJLI'):
        assert cells.sum() == 4 and cells.any(0).all() and cells.any(1).all()


@pytest.mark.parametrize('config', [TetrominoesConfig(), TetrominoesConfig(aligned=False, pieces='OTSZJLI')])
def test_labels_agree_with_pixels_and_pieces(config: TetrominoesConfig) -> None:
    out = make_batch(config, SEEDS)
    assert out['frames'].shape == (300, 1, 35, 35, 3)
    shapes = orientations(config.pieces)
    for n in range(300):
        labels, frame = out['labels'][n, 0], out['frames'][n, 0]
        assert not frame[labels == 0].any()
        for k in range(3):
            v, u = np.nonzero(labels == k + 1)
            assert len(v) == 4 * 25  # nothing hides any of it
            assert (frame[v, u] == out['colours'][n, k]).all()
            box = labels[v.min():v.max() + 1, u.min():u.max() + 1] == k + 1
            np.testing.assert_array_equal(box, shapes[out['shapes'][n, k]].repeat(5, 0).repeat(5, 1))
            np.testing.assert_allclose(out['positions'][n, 0, k], [(u.min() + u.max() + 1) / 2,
                                                                   (v.min() + v.max() + 1) / 2])
            assert config.aligned <= (u.min() % 5 == v.min() % 5 == 0)
    assert len(np.unique(out['shapes'])) == len(shapes)
    assert {tuple(c) for c in out['colours'].reshape(-1, 3)} == {tuple(c) for c in COLOURS}
    assert out['labels'][:, 0].any(0).mean() > 0.99  # they lie everywhere


@pytest.mark.parametrize('changes', [{'pieces': ''}, {'pieces': 'OO'}, {'pieces': 'X'}, {'size': 15}, {'count': 0},
                                     {'count': 5}, {'cell': 0}])
def test_impossible_tetrominoes(changes: dict) -> None:
    with pytest.raises(InputError, match='tetrominoes: '):
        TetrominoesConfig(**changes)
