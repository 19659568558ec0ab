"""Tables in the terminal and the numbers in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Spread:
    """Statistics of a sample; NaNs are left out.

    Attributes:
        count: finite values.
        mean, std: mean and standard deviation (of the sample).
        error: standard error of the mean.
        p50, p95: percentiles.
    """

    count: int
    mean: float
    std: float
    error: float
    p50: float
    p95: float

    @classmethod
    def of(cls, values: ArrayLike) -> Spread:
        """Statistics of `values` of any shape; NaN throughout where none is finite."""
        flat = np.asarray(values, float).ravel()
        flat = flat[np.isfinite(flat)]
        if not len(flat):
            return cls(0, *[float('nan')] * 5)
        std = float(flat.std(ddof=1)) if len(flat) > 1 else float('nan')
        p50, p95 = np.percentile(flat, [50, 95])
        return cls(len(flat), float(flat.mean()), std, std / len(flat) ** 0.5, float(p50), float(p95))


def cell(value: object) -> str:
    """A value as a table shows it: three significant digits for fractions, yes and no for truth."""
    if isinstance(value, (bool, np.bool_)):
        return 'yes' if value else 'no'
    if isinstance(value, np.floating):
        value = float(value)
    if isinstance(value, float):
        if not np.isfinite(value):
            return '-'
        if abs(value) >= 1000:
            return f'{value:.0f}'
        return f'{value:.3g}' if abs(value) >= 1e-4 or value == 0 else f'{value:.1e}'
    return '-' if value is None else str(value)


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with aligned columns; numbers to the right, words to the left."""
    cells = [[cell(v) for v in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [all(row[i] is None or isinstance(row[i], (int, float, np.number)) for row in rows)
             for i in range(len(header))]

    def line(values: Sequence[str]) -> str:
        columns = zip(values, widths, right, strict=True)
        return '  '.join(v.rjust(w) if r else v.ljust(w) for v, w, r in columns).rstrip()

    return '\n'.join([line(header), '  '.join('-' * w for w in widths), *map(line, cells)])
