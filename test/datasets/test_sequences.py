"""Sequences: the right frames and actions, the same order after a stop, for any number of workers and processes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from object_centric_ros.datasets.episodes import EpisodeWriter
from object_centric_ros.datasets.sequences import Item, SequenceLoader, Sequences, as_images
from object_centric_ros.errors import InputError

N, T = 7, 6


@pytest.fixture(scope='module')
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes whose pixels are 10 * episode + frame, and whose actions count likewise."""
    out = tmp_path_factory.mktemp('sequences') / 'e.h5'
    number = (10 * np.arange(N)[:, None] + np.arange(T)).astype(np.uint8)
    frames = np.broadcast_to(number[:, :, None, None, None], (N, T, 8, 4, 3)).copy()
    with EpisodeWriter(out, {'action_format': 'pick_place_xy'}) as writer:
        writer.append({'frames': frames, 'labels': frames[..., 0],
                       'actions': np.repeat(number[:, :-1, None], 4, 2).astype(np.float32)})
    return out


def seen(batch: Item) -> list[list[int]]:
    return batch['images'][:, :, 0, 0, 0].tolist()


def test_windows(path: Path) -> None:
    data = Sequences(path, 3, fields=('labels',))
    assert len(data) == N * 4
    item = data[4 * 2 + 1]
    assert item['images'].shape == (3, 3, 8, 4) and item['images'].dtype == torch.uint8
    assert item['images'][:, 0, 0, 0].tolist() == [21, 22, 23] == item['labels'][:, 0, 0].tolist()
    assert item['actions'].tolist() == [[0] * 4, [21] * 4, [22] * 4]
    assert torch.allclose(as_images(item['images'])[1], torch.tensor(22 / 255))
    strided = Sequences(path, 3, stride=2, hop=1, actions=False)
    assert len(strided) == N * 2 and strided[1]['images'][:, 0, 0, 0].tolist() == [1, 3, 5]
    assert 'actions' not in strided[0] and len(Sequences(path, 3, hop=3)) == N * 2


def test_each_window_once_an_epoch_in_another_order(path: Path) -> None:
    loader = SequenceLoader(Sequences(path, 3), batch=4, seed=1)
    epochs = [sorted(itertools.chain(*map(seen, loader))) for _ in range(2)]
    assert epochs[0] == epochs[1] == sorted([10 * e + s, 10 * e + s + 1, 10 * e + s + 2] for e in range(N)
                                            for s in range(4))
    assert loader.epoch == 2 and loader.order(0).tolist() != loader.order(1).tolist()
    plain = SequenceLoader(Sequences(path, 6), batch=2, shuffle=False)
    assert [row[0] for batch in plain for row in seen(batch)] == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize('workers', [0, 2])
def test_going_on_is_exact(path: Path, workers: int) -> None:
    whole = SequenceLoader(Sequences(path, 3), batch=4, seed=3)
    wanted = [seen(batch) for _ in range(2) for batch in whole]
    first = SequenceLoader(Sequences(path, 3), batch=4, seed=3, workers=workers)
    got = [seen(batch) for batch in itertools.islice(first, 3)]
    second = SequenceLoader(Sequences(path, 3), batch=4, seed=3, workers=2 - workers)
    second.load_state_dict(first.state_dict())
    assert second.state_dict()['position'] == 3
    got += [seen(batch) for _ in range(2) for batch in second]
    assert got == wanted and second.state_dict() == whole.state_dict()
    with pytest.raises(InputError, match='state of the loader'):
        SequenceLoader(Sequences(path, 3), batch=5, seed=3).load_state_dict(first.state_dict())


def test_processes_share_each_global_batch(path: Path) -> None:
    alone = [seen(batch) for batch in SequenceLoader(Sequences(path, 3), batch=6, seed=2)]
    ranks = [[seen(batch) for batch in SequenceLoader(Sequences(path, 3), batch=2, seed=2, rank=r, ranks=3)]
             for r in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*ranks, strict=True)] == alone


def test_augmentation_belongs_to_the_draw(path: Path) -> None:
    def noise(item: Item, rng: np.random.Generator) -> Item:
        return {**item, 'noise': torch.tensor(rng.random())}

    loader = SequenceLoader(Sequences(path, 3, augment=noise), batch=4, seed=1)
    first = torch.cat([batch['noise'] for _ in range(2) for batch in loader])
    assert len(first.unique()) == len(first)
    again = SequenceLoader(Sequences(path, 3, augment=noise), batch=4, seed=1)
    again.load_state_dict({**loader.state_dict(), 'epoch': 1, 'position': 5})
    assert torch.equal(torch.cat([batch['noise'] for batch in again]), first[12 * 4:])


def test_what_cannot_be(path: Path) -> None:
    with pytest.raises(InputError, match='stride: expected 1 with actions'):
        Sequences(path, 2, stride=2)
    with pytest.raises(InputError, match='frames in an episode: expected at least 7, got 6'):
        Sequences(path, 7)
    with pytest.raises(InputError, match='at least 1'):
        Sequences(path, 2, hop=0)
    with pytest.raises(InputError, match='global batch, 60'):
        SequenceLoader(Sequences(path, 3), batch=20, ranks=3)
    with pytest.raises(InputError, match='0 <= rank < ranks'):
        SequenceLoader(Sequences(path, 3), batch=2, rank=1)
