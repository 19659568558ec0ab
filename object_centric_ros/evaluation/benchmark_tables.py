"""Tables of OP3's planning benchmarks, from the records of goals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    """Paper's Table 1: structures built, by both rules; the last row is all of them."""
    header = ('setting', 'structure', 'blocks', 'goals', "paper's rule %", 'se', 'strict whole %', 'se',
              'strict blocks %', 'plan s per block', 'candidates each')
    rows = []
    for label in sorted({r['settings']['label'] for r in records}):
        mine = [r for r in records if r['settings']['label'] == label]
        for name in [*sorted({r['structure'] for r in mine}), 'all']:
            some = [r for r in mine if name in ('all', r['structure'])]
            blocks = {r['blocks'] for r in some}
            plans = sum(r['plans'] for r in some)
            rows.append((label, name, blocks.pop() if len(blocks) == 1 else '-', len(some),
                         *share([r['final']['paper'] for r in some]),
                         *share([r['final']['strict'] == 1 for r in some]),
                         share([r['final']['strict'] for r in some])[0],
                         round(sum(r['planning_s'] for r in some) / max(1, plans), 2),
                         round(float(np.sum([r['candidates'] for r in some])) / max(1, plans))))
    return table(header, rows)
