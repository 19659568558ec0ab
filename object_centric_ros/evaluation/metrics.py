"""Metrics of segmentation, of its persistence over time, and of binary images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln


def adjusted_rand_index(true: NDArray[np.integer], predicted: NDArray[np.integer],
                        keep: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Adjusted Rand index (Hubert and Arabie 1985) of each image.

    Args:
        true, predicted: labels [N, H, W].
        keep: pixels that count [N, H, W]; all of them when None.

    Returns:
        [N]; 1 where both partitions are a single cluster, NaN where no pixel counts.
    """
    result = np.full(len(true), np.nan)
    for i, own, other in _counted(true, predicted, keep):
        n = len(own)
        _, t = np.unique(own, return_inverse=True)
        _, p = np.unique(other, return_inverse=True)
        table = np.bincount(t * (p.max() + 1) + p).astype(float)
        rows, columns = np.bincount(t).astype(float), np.bincount(p).astype(float)
        together = (table * (table - 1)).sum() / 2
        a, b = (rows * (rows - 1)).sum() / 2, (columns * (columns - 1)).sum() / 2
        expected = a * b / (n * (n - 1) / 2) if n > 1 else 0.0
        best = (a + b) / 2
        result[i] = 1.0 if best == expected else (together - expected) / (best - expected)
    return result


def _counted(true: NDArray[np.integer], predicted: NDArray[np.integer], keep: NDArray[np.bool_] | None
             ) -> Iterator[tuple[int, NDArray[np.integer], NDArray[np.integer]]]:
    """Index, and both labels of the pixels that count, of each image that has any."""
    for i in range(len(true)):
        mask = np.ones(true[i].shape, bool) if keep is None else keep[i]
        if mask.any():
            yield i, true[i][mask], predicted[i][mask]


def foreground_ari(true: NDArray[np.integer], predicted: NDArray[np.integer], background: int = 0,
                   ignore: int | None = 255) -> NDArray[np.float64]:
    """ARI over the pixels whose true label is neither `background` nor `ignore` (ARI-F) [N]; NaN without any."""
    keep = true != background
    if ignore is not None:
        keep &= true != ignore
    return adjusted_rand_index(true, predicted, keep)


def adjusted_mutual_information(true: NDArray[np.integer], predicted: NDArray[np.integer],
                                keep: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Adjusted mutual information (Vinh et al. 2010), normalised by the mean of the entropies, of each image.

    Args:
        true, predicted: labels [N, H, W].
        keep: pixels that count [N, H, W]; all of them when None.

    Returns:
        [N]; 1 where both partitions are a single cluster, NaN where no pixel counts.
    """
    result = np.full(len(true), np.nan)
    for i, own, other in _counted(true, predicted, keep):
        n, table = len(own), overlaps(own, other)
        a, b = table.sum(1), table.sum(0)
        if len(a) == len(b) == 1:
            result[i] = 1.0
            continue
        p = table / n
        outer = np.outer(a, b) / n ** 2
        information = float((p[p > 0] * np.log(p[p > 0] / outer[p > 0])).sum())
        expected = _expected_information(a, b, n)
        entropy = [-float((c / n * np.log(c / n)).sum()) for c in (a, b)]
        best = sum(entropy) / 2
        result[i] = (information - expected) / (best - expected) if abs(best - expected) > 1e-12 else 0.0
    return result


def _expected_information(a: NDArray, b: NDArray, n: int) -> float:
    """Mutual information of random partitions with clusters of these sizes (hypergeometric model)."""
    total = 0.0
    for x in a:
        for y in b:
            k = np.arange(max(1, x + y - n), min(x, y) + 1)
            chance = (gammaln(x + 1) + gammaln(y + 1) + gammaln(n - x + 1) + gammaln(n - y + 1) - gammaln(n + 1)
                      - gammaln(k + 1) - gammaln(x - k + 1) - gammaln(y - k + 1) - gammaln(n - x - y + k + 1))
            total += float((k / n * np.log(n * k / (x * y)) * np.exp(chance)).sum())
    return total


def overlaps(true: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many pixels each cluster of one labelling [...] shares with each of another: [clusters, clusters']."""
    t, p = (np.unique(x, return_inverse=True)[1].ravel() for x in (true, predicted))
    return np.bincount(t * (p.max() + 1) + p, minlength=(t.max() + 1) * (p.max() + 1)).reshape(t.max() + 1, -1)


def object_ious(true: NDArray[np.integer], predicted: NDArray[np.integer], background: int = 0, ignore: int = 255
                ) -> tuple[NDArray[np.float64], NDArray[np.integer], NDArray[np.integer]]:
    """Intersection over union of each thing and each segment of an image.

    Args:
        true: labels [H, W]; pixels of `ignore` count nowhere.
        predicted: segments [H, W], any numbers.

    Returns:
        [G, P], the G labels of things, and the P segments.
    """
    counted = true != ignore
    t, p = true[counted], predicted[counted]
    things, segments = np.unique(t), np.unique(p)
    table = overlaps(t, p) if counted.any() else np.zeros((0, 0), int)
    union = table.sum(1)[:, None] + table.sum(0)[None] - table
    shown = things != background
    return (table / np.maximum(union, 1))[shown], things[shown], segments


def mean_iou(true: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean IoU of things and segments paired one to one as well as possible (mIoU), of each image [N, H, W] -> [N].

    NaN without things; a thing for which no segment is left counts 0.
    """
    result = np.full(len(true), np.nan)
    for i, (t, p) in enumerate(zip(true, predicted, strict=True)):
        iou, things, _ = object_ious(t, p)
        if len(things):
            result[i] = iou[linear_sum_assignment(iou, maximize=True)].sum() / len(things)
    return result


def best_overlap(true: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean over things of the IoU with the segment that fits best (mBO), of each image [N, H, W] -> [N]."""
    result = np.full(len(true), np.nan)
    for i, (t, p) in enumerate(zip(true, predicted, strict=True)):
        iou, things, _ = object_ious(t, p)
        if len(things):
            result[i] = iou.max(1).mean()
    return result


@dataclass(frozen=True)
class Persistence:
    """How well segments keep their things over a film (CLEAR MOT, Bernardin and Stiefelhagen 2008).

    Attributes:
        things: visible things, summed over frames.
        misses: those of them without a segment of enough IoU.
        switches: changes of the segment that a thing has, also across frames in which it has none.
    """

    things: int
    misses: int
    switches: int

    @property
    def accuracy(self) -> float:
        """1 - (misses + switches) / things: MOTA without false positives, as segments of the background are none."""
        return 1 - (self.misses + self.switches) / self.things if self.things else float('nan')


def persistence(true: NDArray[np.integer], predicted: NDArray[np.integer], enough: float = 0.5) -> Persistence:
    """Follow the things of a film [T, H, W].

    A thing keeps the segment that it had while their IoU is at least `enough`. The other things are paired with the
    other segments as well as possible, above that IoU.
    """
    held: dict[int, int] = {}
    count = misses = switches = 0
    for t, p in zip(true, predicted, strict=True):
        iou, things, segments = object_ious(t, p)
        count += len(things)
        row = {int(g): i for i, g in enumerate(things)}
        column = {int(s): j for j, s in enumerate(segments)}
        now = {g: held[g] for g in row if held.get(g) in column and iou[row[g], column[held[g]]] >= enough}
        rows = [i for g, i in row.items() if g not in now]
        columns = [j for s, j in column.items() if s not in now.values()]
        open_ = iou[np.ix_(rows, columns)]
        for i, j in zip(*linear_sum_assignment(np.where(open_ >= enough, open_, 0), maximize=True), strict=True):
            if open_[i, j] >= enough:
                thing, segment = int(things[rows[i]]), int(segments[columns[j]])
                switches += held.get(thing, segment) != segment
                now[thing] = segment
        misses += len(things) - len(now)
        held |= now
    return Persistence(count, misses, switches)


def binary_cross_entropy(image: NDArray[np.floating], probability: NDArray[np.floating],
                         keep: NDArray | None = None) -> NDArray[np.float64]:
    """BCE of images [N, ...] under Bernoulli probabilities [N, ...], nats summed over each image: [N].

    Args:
        keep: weight of each pixel [N, ...], such as R-NEM's pixels of colliding balls (relational BCE).
    """
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    loss = -(image * np.log(p) + (1 - image) * np.log1p(-p))
    return np.asarray((loss if keep is None else loss * keep).reshape(len(image), -1).sum(1), np.float64)
