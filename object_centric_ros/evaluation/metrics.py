"""Segmentation metrics on label images, vectorised over a batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
    for i in range(len(true)):
        mask = np.ones(true[i].shape, bool) if keep is None else keep[i]
        n = int(mask.sum())
        if n == 0:
            continue
        _, t = np.unique(true[i][mask], return_inverse=True)
        _, p = np.unique(predicted[i][mask], return_inverse=True)
        table = np.bincount(t * (p.max() + 1) + p).astype(float)
        rows, columns = np.bincount(t).astype(float), np.bincount(p).astype(float)
        together = (table * (table - 1)).sum() / 2
        a, b = (rows * (rows - 1)).sum() / 2, (columns * (columns - 1)).sum() / 2
        expected = a * b / (n * (n - 1) / 2) if n > 1 else 0.0
        best = (a + b) / 2
        result[i] = 1.0 if best == expected else (together - expected) / (best - expected)
    return result


def foreground_ari(true: NDArray[np.integer], predicted: NDArray[np.integer], background: int = 0,
                   ignore: int | None = 255) -> NDArray[np.float64]:
    """ARI over the pixels whose true label is neither `background` nor `ignore` (ARI-F) [N]; NaN without any."""
    keep = true != background
    if ignore is not None:
        keep &= true != ignore
    return adjusted_rand_index(true, predicted, keep)
