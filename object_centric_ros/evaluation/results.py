"""`object-centric results`: docs/RESULTS.md and its JSON, the papers' numbers beside ours.

Ours come from files that commands wrote, such as `object-centric evaluate --json`: NAME.json, or NAME-ANYTHING.json,
one for each training run. A file holds `metrics` (name -> mean, count of episodes), and what is known of its making:
`record` of the weights, `data`, `settings`. A row without a file says that it was not measured.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.results_rows import ROWS, Row
from object_centric_ros.evaluation.tables import cell

HEAD = """\
# The papers' results beside ours

Written by `make results` from the measurements in `docs/results`; do not edit. How to add one:

    object-centric train --config config/train/NAME.yaml --data train.h5 --validation validation.h5 --out runs/NAME
    object-centric evaluate --checkpoint runs/NAME/model.safetensors --data test.h5 --seeds 3 \\
      --json docs/results/NAME-seed0.json
    make results

Each run of training is one file, and all are shown: the mean, then each run in brackets. Training data and time are
those of the first file of a row. "Figure only": the paper draws the number and does not print it.
"""


@dataclass(frozen=True)
class Found:
    """What we have for a row.

    Attributes:
        row: what the paper says.
        value: mean over runs of training; NaN without a measurement.
        runs: of each run.
        files: the measurements.
        setting: of training and evaluation, in words.
    """

    row: Row
    value: float = math.nan
    runs: list[float] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    setting: str = ''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `object-centric results`."""
    parser.add_argument('--measurements', default='docs/results', help='folder of JSON files')
    parser.add_argument('--out', default='docs/RESULTS.md', help='the page; its JSON is beside it')


def run(args: argparse.Namespace) -> int:
    """Write both files and say how many rows have a number."""
    measured = read_measurements(Path(args.measurements))
    rows = [find(row, measured) for row in ROWS]
    used = {name for row in rows for name in row.files}
    out = Path(args.out)
    out.write_text(page(rows), encoding='utf-8')
    plain = [{**asdict(r), 'value': None if math.isnan(r.value) else r.value} for r in rows]
    out.with_suffix('.json').write_text(json.dumps(plain, indent=1) + '\n', encoding='utf-8')
    print(f'{out}: {sum(bool(r.runs) for r in rows)} of {len(rows)} rows measured, from {len(used)} files')
    if unused := sorted(set(measured) - used):
        print('not asked for by any row: ' + ', '.join(unused))
    return 0


def read_measurements(folder: Path) -> dict[str, dict[str, Any]]:
    """All JSON files of a folder by name; none where there is no folder."""
    found = {}
    for path in sorted(folder.glob('*.json')):
        try:
            values = json.loads(path.read_text(encoding='utf-8'))
            {k: float(m['mean']) for k, m in values['metrics'].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise InputError(f'{path}', 'metrics with means, as evaluate --json writes them', e) from e
        found[path.stem] = values
    return found


def find(row: Row, measured: dict[str, dict[str, Any]]) -> Found:
    """Our numbers for a row: of all runs that have every part of it."""
    if not row.ours:
        return Found(row)
    parts = [part.split(':') for part in row.ours.split('/')]
    files = [{suffix(stem, name): stem for stem in measured if suffix(stem, name) is not None and
              metric in measured[stem]['metrics']} for name, metric in parts]
    runs = sorted(str(s) for s in set.intersection(*(set(f) for f in files)))
    values = []
    for run_name in runs:
        means = [float(measured[f[run_name]]['metrics'][metric]['mean'])
                 for f, (_, metric) in zip(files, parts, strict=True)]
        values.append(means[0] / means[1] if len(means) > 1 else means[0])
    if not values:
        return Found(row)
    stems = list(dict.fromkeys(f[r] for r in runs for f in files))
    of_runs = [measured[files[0][r]] for r in runs]
    return Found(row, float(np.mean(values)), values, stems, setting(of_runs))


def suffix(stem: str, name: str) -> str | None:
    """What a file's name adds to the row's: '' or '-ANYTHING'; None for a file of something else."""
    rest = stem.removeprefix(name)
    return rest if stem.startswith(name) and (not rest or rest.startswith('-')) else None


def setting(runs: Sequence[dict[str, Any]]) -> str:
    """How the measurements of some runs of training came to be, in words: that of the first, and how many there are."""
    values = runs[0]
    record, data, settings = (values.get(k, {}) for k in ('record', 'data', 'settings'))
    words = []
    if 'steps' in record:
        cpu = f' ({record["cpu_minutes"]} CPU min)' if 'cpu_minutes' in record else ''
        words.append(f'trained on {record.get("episodes", "?"):,} episodes, {record["steps"]:,} steps, '
                     f'{record.get("minutes", "?")} min{cpu}, {record.get("device", "?")}')
    k = f'K = {settings.get("slots", "?")}'
    seeds = settings.get('seeds', '?')
    if values.get('kind') == 'benchmark':
        words.append(f'{data.get("episodes", "?")} goals, {k}, seed{"" if isinstance(seeds, int) else "s"} {seeds}')
    elif data:
        drawn = f' (seed {data["seed"]})' if 'seed' in data else ''
        words.append(f'{data.get("episodes", "?")} test episodes{drawn}')
        words += [f'{k}, inference seeds {seeds}'] if settings else []
    trained = [run.get('record', {}).get('training', {}).get('seed') for run in runs]
    told = '' if None in trained else f' (training seed{"s" if len(runs) > 1 else ""} {", ".join(map(str, trained))})'
    return '; '.join([*words, f'{len(runs)} run{"s" if len(runs) > 1 else ""}{told}'])


def page(rows: Sequence[Found]) -> str:
    """RESULTS.md."""
    parts = [HEAD]
    for paper in dict.fromkeys(r.row.paper for r in rows):
        parts.append(f'## {paper}\n\n| where | what | paper | ours | setting | what differs |\n'
                     '| --- | --- | --- | --- | --- | --- |')
        for r in (r for r in rows if r.row.paper == paper):
            ours = 'not measured'
            if r.runs:
                each = f' ({", ".join(cell(v) for v in r.runs)})' if len(r.runs) > 1 else ''
                ours = cell(r.value) + each
            parts.append(f'| {r.row.table} | {r.row.what} | {r.row.theirs} | {ours} | {r.setting} | {r.row.differs} |')
        parts.append('')
    return '\n'.join(parts)
