"""Tables of OP3's planning benchmarks, from the records of goals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from object_centric_ros import __version__
from object_centric_ros.evaluation.benchmark_run import Record, share, table


def pick_place_table(records: Sequence[Record]) -> str:
    """Paper's Table 2: part of blocks in place, for each number of blocks and setting; errors are standard errors."""
    header = ('actions', 'blocks', 'goals', "paper's rule %", 'se', 'at 0.2 %', 'se', 'strict %', 'se', 'whole goals %',
              'best paper %', 'best strict %', 'picks that hit %', 'actions each', 'right about it %', 'plan s')
    rows = []
    for label, blocks in sorted({(r['settings']['label'], r['blocks']) for r in records}):
        some = [r for r in records if (r['settings']['label'], r['blocks']) == (label, blocks)]
        final = {k: share([r['final'][k] for r in some]) for k in ('paper_0.3', 'paper_0.2', 'strict')}
        picks, hits = (sum(r[k] for r in some) for k in ('picks', 'hits'))
        rows.append((label, blocks, len(some), *final['paper_0.3'], *final['paper_0.2'], *final['strict'],
                     share([r['final']['strict'] == 1 for r in some])[0],
                     share([r['best']['paper_0.3'] for r in some])[0], share([r['best']['strict'] for r in some])[0],
                     f'{100 * hits / picks:.1f} ({hits}/{picks})' if picks else '-', round(picks / len(some), 1),
                     share([r['believed'] == (r['final']['strict'] == 1) for r in some])[0],
                     round(float(sum(r['planning_s'] for r in some) / max(1, sum(r['plans'] for r in some))), 2)))
    return table(header, rows)


def stack_table(records: Sequence[Record]) -> str:
    """Paper's Table 1: structures built, by three rules; the last row is all of them."""
    header = ('setting', 'structure', 'blocks', 'goals', "paper's rule %", 'se', 'strict places %', 'se',
              'and shapes, colours %', 'se', 'blocks in place %', 'and alike %', 'plan s per block', 'candidates each')
    rows = []
    for label in sorted({r['settings']['label'] for r in records}):
        mine = [r for r in records if r['settings']['label'] == label]
        for name in [*sorted({r['structure'] for r in mine}), 'all']:
            some = [r for r in mine if name in ('all', r['structure'])]
            blocks = {r['blocks'] for r in some}
            plans = sum(r['plans'] for r in some)
            rows.append((label, name, blocks.pop() if len(blocks) == 1 else '-', len(some),
                         *share([r['final']['paper'] for r in some]),
                         *(v for k in ('position', 'strict') for v in share([r['final'][k] == 1 for r in some])),
                         *(share([r['final'][k] for r in some])[0] for k in ('position', 'strict')),
                         round(sum(r['planning_s'] for r in some) / max(1, plans), 2),
                         round(float(np.sum([r['candidates'] for r in some])) / max(1, plans))))
    return table(header, rows)


def write_measurements(records: Sequence[Record], folder: Path) -> list[Path]:
    """One JSON file for each task and setting, as `object-centric results` reads them; stacking is one task."""
    groups: dict[str, list[Record]] = {}
    for r in records:
        stack = 'structure' in r
        name = 'op3_stack' if stack else f'op3_pick_place_{r["blocks"]}_{r["settings"]["actions"]}'
        label = r['settings']['label'].removesuffix(r['settings'].get('actions', 'op3')).strip()
        groups.setdefault('_'.join([name, *label.split()]), []).append(r)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, some in sorted(groups.items()):
        values: dict[str, Callable[[Record], float]] = {
            'built': lambda r: r['final']['paper'], 'places': lambda r: r['final']['position'] == 1,
            'places_and_looks': lambda r: r['final']['strict'] == 1} if 'structure' in some[0] else {
            'accuracy': lambda r: r['final']['paper_0.3'], 'accuracy_0.2': lambda r: r['final']['paper_0.2'],
            'strict': lambda r: r['final']['strict'], 'whole': lambda r: r['final']['strict'] == 1,
            'best_accuracy': lambda r: r['best']['paper_0.3'], 'picks': lambda r: r['picks'],
            'hits': lambda r: r['hits'], 'right_about_it': lambda r: r['believed'] == (r['final']['strict'] == 1)}
        seeds = sorted({r['seed'] for r in some})
        content = {
            'kind': 'benchmark', 'version': __version__, 'record': {'model_id': "OP3, authors' weights"},
            'data': {'episodes': len(some)},
            'settings': {**some[0]['settings'], 'slots': 'blocks + 2',
                         'seeds': seeds[0] if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'},
            'metrics': {k: _statistics([float(value(r)) for r in some]) for k, value in values.items()}}
        file = folder / f'{name}.json'
        file.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
        files.append(file)
    return files


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation of goals, standard error of the mean, and their number."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {'mean': float(np.mean(values)), 'std': std, 'error': std / len(values) ** 0.5, 'count': len(values)}
