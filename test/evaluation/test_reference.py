"""OP3 with its authors' weights: the reconstruction and prediction that they published code for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from object_centric_ros.cli import main
from object_centric_ros.evaluation.reference import episode_metrics, goal_metrics, load_authors
from test.golden import DATA, needs_data

CPU = torch.device('cpu')


@needs_data
def test_reconstruction_of_goals(tmp_path: Path) -> None:
    goals = tmp_path / 'op3' / 'stack_goals'
    goals.mkdir(parents=True)
    (goals / 'bridge.npz').symlink_to(DATA / 'op3' / 'stack_goals' / 'bridge.npz')
    model = load_authors('op3_released_stack', DATA / 'op3' / 'stack_s64d64_v1.safetensors', CPU)
    (found,) = goal_metrics(model, tmp_path, range(1), 3)
    assert found.blocks == 5 and found.slots == 7 and found.mse.shape == (1, 3, 4)
    mse = found.mse.mean((0, 1))
    assert mse[3] <= 0.0014 and mse[3] < mse[1] < mse[0]
    assert found.ari.mean() > 0.5


@needs_data
def test_reconstruction_and_open_loop_of_episodes() -> None:
    model = load_authors('op3_released_pick_place', DATA / 'op3' / 'pick_place_curriculum.safetensors', CPU)
    values = episode_metrics(model, DATA, range(1), 4)
    assert values['first'].mean() <= 0.0010
    assert (values['open'].mean((0, 1)) < 0.5 * values['copy'].mean((0, 1))).all()
    assert (values['stream'].mean((0, 1)) < 0.0016).all()


def test_without_the_data_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'reference', '--data', str(tmp_path)]) == 2
    assert 'folder with op3/' in capsys.readouterr().err
    assert main(['evaluate', 'reference', '--seeds', '0']) == 2


@needs_data
def test_command_prints_both_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'op3' / 'stack_goals').mkdir(parents=True)
    for file in ('stack_s64d64_v1.safetensors', 'pick_place_curriculum.safetensors', 'pick_place_two_blocks.npz'):
        (tmp_path / 'op3' / file).symlink_to(DATA / 'op3' / file)
    with np.load(DATA / 'op3' / 'stack_goals' / 'stacked.npz') as full:
        one = {k: full[k][:1] for k in ('images', 'labels')}
        blocks = np.frombuffer(json.dumps(json.loads(bytes(full['blocks']))[:1]).encode(), np.uint8)
    np.savez(tmp_path / 'op3' / 'stack_goals' / 'stacked.npz', blocks=blocks, **one)
    assert main(['evaluate', 'reference', '--data', str(tmp_path), '--episodes', '1', '--seeds', '1']) == 0
    said = capsys.readouterr().out
    assert 'stacked' in said and 'ARI-F' in said and 't+4' in said
