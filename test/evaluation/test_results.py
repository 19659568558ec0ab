"""RESULTS.md: every number comes from a file, and what has none says so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from object_centric_ros.cli import main
from object_centric_ros.evaluation.results import find, read_measurements, setting
from object_centric_ros.evaluation.results_rows import ROWS, Row


def write(folder: Path, name: str, **means: float) -> None:
    folder.mkdir(exist_ok=True)
    record = {'steps': 1200, 'minutes': 3.5, 'device': 'CPU x86_64', 'episodes': 5000, 'training': {'seed': 3}}
    metrics = {k: {'mean': v, 'count': 9} for k, v in means.items()}
    (folder / f'{name}.json').write_text(json.dumps({
        'metrics': metrics, 'record': record, 'data': {'episodes': 9, 'seed': 7}, 'settings': {'slots': 5}}))


def test_rows_find_their_runs(tmp_path: Path) -> None:
    write(tmp_path / 'm', 'rnem_balls_4-seed0', ari_f=0.7, bce=30.0, bce_copy=60.0)
    write(tmp_path / 'm', 'rnem_balls_4-seed1', ari_f=0.8, bce=45.0, bce_copy=60.0)
    write(tmp_path / 'm', 'rnem_balls_4x', ari_f=0.1)
    measured = read_measurements(tmp_path / 'm')
    found = find(Row('p', 't', 'w', '0.8', 'rnem_balls_4:ari_f'), measured)
    assert found.runs == [0.7, 0.8] and found.value == pytest.approx(0.75)
    for words in ('1,200 steps', '2 runs (training seeds 3, 3)', 'seed 7'):
        assert words in found.setting
    ratio = find(Row('p', 't', 'w', '', 'rnem_balls_4:bce/rnem_balls_4:bce_copy'), measured)
    assert ratio.runs == [0.5, 0.75]
    for missing in ('', 'rnem_balls:ari_f', 'rnem_balls_4:mse', 'rnem_balls_4:ari_f/rnem_balls_4x:ari_f'):
        none = find(Row('p', 't', 'w', '', missing), measured)
        assert not none.runs and math.isnan(none.value)


def test_benchmarks_are_said_with_their_goals_and_seeds() -> None:
    values = {'kind': 'benchmark', 'data': {'episodes': 50}, 'metrics': {}}
    said = [setting([values | {'settings': {'slots': 'blocks + 2', 'seeds': seeds}}]) for seeds in ('3000 to 3049', 0)]
    assert said == ['50 goals, K = blocks + 2, seeds 3000 to 3049; 1 run', '50 goals, K = blocks + 2, seed 0; 1 run']


def test_page_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / 'm', 'obai_dsprites', ari=0.91)
    write(tmp_path / 'm', 'something', ari=0.2)
    command = ['results', '--measurements', str(tmp_path / 'm'), '--out', str(tmp_path / 'RESULTS.md')]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f'1 of {len(ROWS)} rows measured, from 1 files' in said and 'not asked for by any row: something' in said
    lines = (tmp_path / 'RESULTS.md').read_text(encoding='utf-8').splitlines()
    row = next(line for line in lines if 'ARI, active-dSprites, OBAI' in line)
    assert '| 0.948 | 0.91 |' in row
    assert sum('| not measured |' in line for line in lines) == len(ROWS) - 1
    rows = json.loads((tmp_path / 'RESULTS.json').read_text(encoding='utf-8'))
    assert [r['value'] for r in rows if r['runs']] == [0.91] and rows[0]['row']['theirs'] == '0.8'
    (tmp_path / 'm' / 'bad.json').write_text('{}')
    assert main(command) == 2 and 'metrics with means' in capsys.readouterr().err


def test_rows_are_sound() -> None:
    assert len({(r.paper, r.table, r.what, r.differs) for r in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.theirs and all(part.count(':') == 1 for part in row.ours.split('/') if part)
    assert {r.paper.split()[0] for r in ROWS} == {'R-NEM', 'OP3', 'OBAI', 'EfficientMORL', 'PARTS'}
