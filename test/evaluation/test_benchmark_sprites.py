"""`object-centric benchmark sprites`: pushes, resuming, tables and what is refused; an untrained model that sees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from obai_anchored import anchored, with_masks

from object_centric_ros.cli import main
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation import benchmark_sprites
from object_centric_ros.evaluation.benchmark_sprites import SpritesTask, push, sprites_table, write_sprites
from object_centric_ros.evaluation.results import read_measurements
from object_centric_ros.models.checkpoint import save_model
from object_centric_ros.models.obai_anchored import UNIT
from object_centric_ros.models.preferences import Preference
from object_centric_ros.models.registry import build_model
from object_centric_ros.presets import load_preset


def test_sprites_come_closer_in_closed_form_and_by_cem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places and effects of actions are known to this model, so one action brings a good part of the way."""
    given = benchmark_sprites.world_config
    monkeypatch.setattr(benchmark_sprites, 'world_config', lambda *a: replace(given(*a), background='black'))
    model = with_masks(anchored())
    goal = Preference(torch.tensor([0.25 / UNIT, -0.25 / UNIT, 0, 0, 0, 0]), torch.tensor([0.3, 0.3, 1, 1, 1, 1]))
    for planner in ('closed', 'cem'):
        task = SpritesTask((0.25, -0.25), observed=1, actions=1, planner=planner)
        results = [push(model, goal, task, seed)[0]['distances'] for seed in (0, 1, 2)]
        before, after = (sum(r[i] for r in results) for i in (0, 1))
        assert after < 0.75 * before


def test_a_run_goes_on_and_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'model.safetensors'
    save_model(file, anchored(), {'model_id': 'test'})
    words = ['benchmark', 'sprites', '--checkpoint', str(file), '--out', str(tmp_path / 'out'), '--actions', '2',
             '--examples', '4', '--planners', 'closed', '--json', str(tmp_path / 'json')]
    assert main([*words, '--episodes', '1', '--modes', 'step']) == 0
    assert main([*words, '--episodes', '2']) == 0
    said = capsys.readouterr().out
    assert '4 runs, 1 of them from an earlier call' in said and 'closed, whole horizon' in said
    lines = (tmp_path / 'out' / 'results.jsonl').read_text().splitlines()
    assert len(lines) == 4 and all(len(json.loads(line)['distances']) == 3 for line in lines)
    assert len(list((tmp_path / 'out' / 'pictures').glob('*.png'))) == 4
    read = read_measurements(tmp_path / 'json')
    assert set(read) == {'obai_sprites_closed_step', 'obai_sprites_closed_whole'}
    assert read['obai_sprites_closed_step']['metrics']['distances_2']['count'] == 2


def test_numbers_of_the_table(tmp_path: Path) -> None:
    settings = {'label': 'closed, one step', 'model': 'm', 'planner': 'closed', 'replan': True, 'moving': False}
    records = [{'goal': str(i), 'seed': i, 'settings': settings, 'distances': [10.0, 2.0 * i], 'within': [0.0, 1.0],
                'plans': 1, 'planning_s': 0.01, 'candidates': 1} for i in range(2)]
    text = sprites_table(records)
    assert '10.00 ± 0.00' in text and '1.00 ± 1.00' in text and '100' in text
    files = write_sprites(records, tmp_path)
    left = json.loads(files[0].read_text())['metrics']['distances_1']
    assert left == {'mean': 1.0, 'std': pytest.approx(2 ** 0.5), 'error': pytest.approx(1.0), 'count': 2}


def test_other_models_and_impossible_tasks_are_refused(tmp_path: Path) -> None:
    file = tmp_path / 'other.safetensors'
    save_model(file, build_model(load_preset('rnem_balls')), {'model_id': 'test'})
    with pytest.raises(InputError, match='an OBAI with action fields'):
        benchmark_sprites.sprites_jobs(str(file), [SpritesTask()], 1, 0, '')
    for bad in ({'goal': (2.0, 0.0)}, {'spread': 0.0}, {'actions': 0}, {'observed': 0}):
        with pytest.raises(InputError):
            SpritesTask(**bad)
