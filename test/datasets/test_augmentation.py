"""Augmentation of sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from object_centric_ros.datasets.augmentation import ColourJitter
from object_centric_ros.datasets.episodes import EpisodeWriter
from object_centric_ros.datasets.sequences import SequenceLoader, Sequences
from object_centric_ros.errors import InputError

ITEM = {'images': torch.randint(40, 160, (5, 3, 8, 8), dtype=torch.uint8), 'labels': torch.ones(5, 8, 8)}


def jittered(seed: int = 0, **ranges: float) -> torch.Tensor:
    amounts = {'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0} | ranges
    out = ColourJitter(**amounts)(ITEM, np.random.default_rng(seed))
    assert out['labels'] is ITEM['labels'] and out['images'].dtype == torch.uint8
    return out['images'].float()


def test_each_factor_does_what_it_says() -> None:
    before = ITEM['images'].float()
    assert torch.equal(jittered(), before)
    factors = (jittered(brightness=0.2) / before).flatten()
    assert factors.std() < 0.02 and 0.8 <= factors.mean() <= 1.2 and abs(factors.mean() - 1) > 0.01
    contrast = jittered(contrast=0.2)
    assert abs(contrast.mean() - before.mean()) < 0.6
    assert contrast.std() / before.std() == pytest.approx(1 + 0.2 * (2 * np.random.default_rng(0).random(3)[1] - 1),
                                                          abs=0.01)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert ((jittered(saturation=0.2) - before) * weights).sum(1).abs().max() < 1
    assert not torch.equal(jittered(0, brightness=0.2), jittered(1, brightness=0.2))
    with pytest.raises(InputError, match='colour jitter'):
        ColourJitter(contrast=1.0)


def test_loaders_use_it_when_asked(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(40, 160, (4, 3, 8, 8, 1), np.uint8)
    with EpisodeWriter(tmp_path / 'e.h5', {'generator': 'test'}) as writer:
        writer.append({'frames': frames})

    def first(workers: int, augment: ColourJitter | None) -> torch.Tensor:
        loader = SequenceLoader(Sequences(tmp_path / 'e.h5', 3, augment=augment), 4, shuffle=False, workers=workers)
        return next(iter(loader))['images']

    assert torch.equal(first(0, None), torch.from_numpy(frames.transpose(0, 1, 4, 2, 3)))
    assert not torch.equal(first(0, ColourJitter()), first(0, None))
    assert torch.equal(first(0, ColourJitter()), first(1, ColourJitter()))
