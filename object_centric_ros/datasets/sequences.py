"""Sequences for training: windows of episodes, in a shuffled order that goes on exactly where it was left."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.errors import InputError

Item = dict[str, Tensor]
Augment = Callable[[Item, np.random.Generator], Item]


class Sequences(Dataset[Item]):
    """Windows of `length` frames of an episode file.

    An item is asked for by the number of the window and the number of its draw, and holds `images` uint8 [T, C, H, W]
    (see `as_images`), and `actions` float32 [T, ...]: before each frame, zeros before the first.

    Args:
        path: the episode file.
        length: frames of a sequence, T.
        stride: take every so manieth frame; above 1 only without actions.
        hop: frames from the start of a window to that of the next in an episode.
        fields: further fields of frames that the items are to hold, e.g. ``labels``.
        actions: whether items hold actions, where the file has them.
        augment: changes an item with a generator that belongs to the draw; None for no augmentation.
        seed: of the augmentation.
    """

    def __init__(self, path: str | os.PathLike[str], length: int, stride: int = 1, hop: int = 1,
                 fields: tuple[str, ...] = (), actions: bool = True, augment: Augment | None = None, seed: int = 0
                 ) -> None:
        self.store, self.path = EpisodeStore(path), os.fspath(path)
        self.length, self.stride, self.augment, self.seed = length, stride, augment, seed
        if min(length, stride, hop) < 1:
            raise InputError('sequences: length, stride, hop', 'at least 1', (length, stride, hop))
        self.actions = actions and 'actions' in self.store.fields
        if self.actions and stride > 1:
            raise InputError('sequences: stride', '1 with actions: several would lie between two frames', stride)
        self.span = (length - 1) * stride + 1
        self.starts = range(0, self.store.steps - self.span + 1, hop)
        if not self.starts or not len(self.store):
            raise InputError(f'{self.store.path}: frames in an episode', f'at least {self.span}', self.store.steps)
        self._names = ['frames', *fields, *(['actions'] if self.actions else [])]

    def __len__(self) -> int:
        return len(self.store) * len(self.starts)

    def __getitem__(self, window: int | tuple[int, int]) -> Item:
        number, draw = (window, 0) if isinstance(window, int) else window
        episode, start = divmod(number, len(self.starts))
        first = self.starts[start]
        arrays = self.store.read_window(episode, first, first + self.span, self.stride, self._names)
        frames = torch.from_numpy(np.ascontiguousarray(arrays.pop('frames').transpose(0, 3, 1, 2)))
        item = {'images': frames}
        if self.actions:
            after = arrays.pop('actions').astype(np.float32)
            item['actions'] = torch.from_numpy(np.concatenate([np.zeros((1, *after.shape[1:]), np.float32), after]))
        item |= {name: torch.from_numpy(np.asarray(values)) for name, values in arrays.items()}
        return item if self.augment is None else self.augment(item, np.random.default_rng((self.seed, draw)))


def as_images(frames: Tensor) -> Tensor:
    """uint8 [..., C, H, W] -> float32 in [0, 1], on the same device."""
    return frames.float().div_(255)


class Windows(Protocol):
    """What a loader goes through: `Sequences`, or anything that hands out items by (window, draw) as they do."""

    path: str

    def __len__(self) -> int: ...

    def __getitem__(self, window: tuple[int, int], /) -> Item: ...


class _Batches:
    """The rest of an epoch as lists of (window, draw)."""

    def __init__(self, count: int, batch: int, shuffle: bool, seed: int, rank: int, ranks: int) -> None:
        self.count, self.batch, self.shuffle, self.seed = count, batch, shuffle, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return self.count // (self.batch * self.ranks)

    def order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(self.count) if self.shuffle else np.arange(
            self.count)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, earlier = self.order(self.epoch), self.epoch * len(self) * self.ranks * self.batch
        for position in range(self.position, len(self)):
            first = (position * self.ranks + self.rank) * self.batch
            yield [(int(order[i]), earlier + i) for i in range(first, first + self.batch)]


def _leave_signals(worker: int) -> None:
    """Ctrl-C, and SIGTERM from anybody but the process that reads the batches, are for that process to answer.

    A terminal, a scheduler or `kill -- -PGID` send them to all processes at once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_when_told, daemon=True).start()


def _end_when_told() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class SequenceLoader:
    """Batches of sequences; going through it gives the rest of an epoch, then the next epoch begins.

    The order depends on seed and epoch alone. With several processes, each takes its part of every global batch: with
    the same global batch their number does not change what is seen in a step. What does not fill a global batch at the
    end of an epoch is left out. `state_dict` counts the batches that were handed out, not those that workers have read
    ahead.

    Args:
        sequences: the data.
        batch: sequences in a batch of this process.
        shuffle: in another order in each epoch; False: as they lie in the file.
        seed: of the order.
        workers: processes that read ahead; 0 to read when asked.
        rank, ranks: number of this process, and how many there are.
    """

    def __init__(self, sequences: Windows, batch: int, shuffle: bool = True, seed: int = 0, workers: int = 0,
                 rank: int = 0, ranks: int = 1) -> None:
        if batch < 1 or not 0 <= rank < ranks:
            raise InputError('loader: batch, rank, ranks', 'batch >= 1, 0 <= rank < ranks', (batch, rank, ranks))
        if len(sequences) < batch * ranks:
            raise InputError(f'{sequences.path}: sequences', f'at least a global batch, {batch * ranks}',
                             len(sequences))
        self._batches = _Batches(len(sequences), batch, shuffle, seed, rank, ranks)
        self._loader: DataLoader[Item] = DataLoader(cast('Dataset[Item]', sequences), batch_sampler=self._batches,
                                                    num_workers=workers, persistent_workers=workers > 0,
                                                    worker_init_fn=_leave_signals)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._batches)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to."""
        return self._batches.epoch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The windows in the order of an epoch."""
        return self._batches.order(epoch)

    def __iter__(self) -> Iterator[Item]:
        at = self._batches
        for batch in self._loader:
            at.position += 1
            if at.position == len(at):
                at.epoch, at.position = at.epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, as plain numbers."""
        return {'epoch': self._batches.epoch, 'position': self._batches.position, **self._facts()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader over the same sequences was; the number of workers may differ."""
        facts = {k: state.get(k) for k in self._facts()}
        if facts != self._facts():
            raise InputError('state of the loader', self._facts(), facts)
        self._batches.epoch, self._batches.position = int(state['epoch']), int(state['position'])

    def _facts(self) -> dict[str, Any]:
        at = self._batches
        return {'seed': at.seed, 'shuffle': at.shuffle, 'global_batch': at.batch * at.ranks, 'sequences': at.count}
