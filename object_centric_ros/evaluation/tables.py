"""Tables in the terminal and the numbers in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from object_centric_ros import __version__


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


def mean_of_seeds(values: list[dict[str, np.ndarray]], key: str) -> np.ndarray:
    """A metric of each episode [N], the mean over seeds."""
    return np.mean([v[key] for v in values], 0)


def seed_means(values: list[dict[str, np.ndarray]], key: str) -> list[float]:
    """The mean over episodes of each seed."""
    return [Spread.of(v[key]).mean for v in values]


def write_scores(path: str, record: dict[str, Any], data: dict[str, Any], settings: dict[str, Any],
                 values: list[dict[str, np.ndarray]], activity: list[float] | None = None) -> None:
    """All numbers with their setting: what `object-centric results` reads."""
    metrics = {}
    for key in values[0]:
        seeds = [v for v in values if key in v]
        s = Spread.of(mean_of_seeds(seeds, key))
        metrics[key] = {'mean': s.mean, 'std': s.std, 'error': s.error, 'count': s.count,
                        'seeds': seed_means(seeds, key)}
    found = {'kind': 'model', 'version': __version__, 'record': record, 'data': data, 'settings': settings,
             'metrics': metrics} | ({'activeness': activity} if activity is not None else {})
    with open(path, 'w', encoding='utf-8') as f:
        json.dump(found, f, indent=1)
