"""OP3 with its authors' weights: the reconstruction and prediction that they published code for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from object_centric_ros.cli import main
from object_centric_ros.evaluation.reference import Goals, episode_metrics, goal_metrics, load_authors
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


def test_the_likeliest_of_several_seeds_is_kept() -> None:
    mse = np.arange(5 * 2 * 4).reshape(5, 2, 4).astype(float)
    loss = np.array([[3, 1], [2, 4], [7, 5], [8, 0], [-9, -9]], float)
    goals = Goals('towers', 9, 11, 1, mse, mse[:, :, 0], loss)
    kept, ari = goals.likeliest(2)  # the fifth seed has no partner
    assert np.array_equal(kept, [[mse[1, 0, 3], mse[0, 1, 3]], [mse[2, 0, 3], mse[3, 1, 3]]])
    assert np.array_equal(ari, [[mse[1, 0, 0], mse[0, 1, 0]], [mse[2, 0, 0], mse[3, 1, 0]]])
    assert np.array_equal(goals.likeliest(1)[0], mse[:, :, 3])


@needs_data
def test_reconstruction_of_goals_in_the_released_batch(tmp_path: Path) -> None:
    goals = tmp_path / 'op3' / 'stack_goals'
    goals.mkdir(parents=True)
    (goals / 'bridge.npz').symlink_to(DATA / 'op3' / 'stack_goals' / 'bridge.npz')
    model = load_authors('op3_released_stack', DATA / 'op3' / 'stack_s64d64_v1.safetensors', CPU)
    (found,) = goal_metrics(model, tmp_path, range(1), together=True)
    assert (found.batch, found.mse.shape, found.ari.shape) == (5, (1, 5, 4), (1, 5))
    assert found.mse[..., -1].mean() <= 0.0014 and found.ari.mean() > 0.5


@needs_data
def test_reconstruction_and_open_loop_of_episodes() -> None:
    model = load_authors('op3_released_pick_place', DATA / 'op3' / 'pick_place_curriculum.safetensors', CPU)
    values = episode_metrics(model, DATA, range(1), 8)
    assert values['first'].mean() <= 0.0010
    authors = np.array([0.0018, 0.0025, 0.0037, 0.0035])  # of the same eight episodes, their code and another seed
    ahead = values['open'].mean((0, 1))
    assert (ahead <= 1.1 * authors).all() and (ahead >= 0.8 * authors).all()
    assert (ahead < 0.5 * values['copy'].mean((0, 1))).all()
    assert (values['stream'].mean((0, 1)) < 0.0016).all()


@needs_data
def test_entities_map_to_picks_that_hit_a_block() -> None:
    model = load_authors('op3_released_pick_place', DATA / 'op3' / 'pick_place_curriculum.safetensors', CPU)
    low, high = torch.tensor([-2.5, 1.0, -2.5, 1.0]), torch.tensor([2.5, 4.0, 2.5, 4.0])
    hits = []
    with np.load(DATA / 'op3' / 'pick_place_two_blocks.npz') as data:
        for frame, blocks in zip(data['frames'][:5, 0], json.loads(bytes(data['blocks'])), strict=False):
            x = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                belief = model.infer(x, None, 4, None, generator)
                owner = model.scene(belief).mask_logits.argmax(1)
                picks = model.entity_pick(belief, low, high, generator)[0].numpy()
            places = np.array([b['position_m'][:2] for b in blocks['start']])
            things = [k for k in range(len(picks)) if 20 < (owner == k).sum() < 700]
            hits += [np.abs(places - picks[k]).max(1).min() < 0.6 for k in things]  # a block is 1.2 wide
    assert len(hits) >= 8 and np.mean(hits) >= 0.7


@needs_data
def test_bfloat16_reconstructs_alike() -> None:
    model = load_authors('op3_released_pick_place', DATA / 'op3' / 'pick_place_curriculum.safetensors', CPU)
    with np.load(DATA / 'op3' / 'pick_place_two_blocks.npz') as data:
        images = torch.from_numpy(data['frames'][:4, 0]).permute(0, 3, 1, 2).float() / 255
    errors = []
    for low in (False, True):
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=low):
            scenes = [model.scene(model.infer(x[None], None, 4, None, torch.Generator().manual_seed(0)))
                      for x in images]
        assert scenes[0].colours.dtype == torch.float32
        errors.append(float((torch.cat([s.image for s in scenes]) - images).square().mean()))
    assert errors[1] == pytest.approx(errors[0], rel=0.05)  # of four images; over 20 runs it is 1 %


def test_without_the_data_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'reference', '--data', str(tmp_path)]) == 2
    assert 'folder with op3/' in capsys.readouterr().err
    assert main(['evaluate', 'reference', '--seeds', '0']) == 2
    assert main(['evaluate', 'reference', '--reference', 'parts=folder']) == 2
    assert 'op3=DIR' in capsys.readouterr().err


@needs_data
def test_command_prints_both_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'op3' / 'stack_goals').mkdir(parents=True)
    for file in ('stack_s64d64_v1.safetensors', 'pick_place_curriculum.safetensors', 'pick_place_two_blocks.npz'):
        (tmp_path / 'op3' / file).symlink_to(DATA / 'op3' / file)
    with np.load(DATA / 'op3' / 'stack_goals' / 'stacked.npz') as full:
        one = {k: full[k][:1] for k in ('images', 'labels')}
        blocks = np.frombuffer(json.dumps(json.loads(bytes(full['blocks']))[:1]).encode(), np.uint8)
    np.savez(tmp_path / 'op3' / 'stack_goals' / 'stacked.npz', blocks=blocks, **one)
    assert main(['evaluate', 'reference', '--data', str(tmp_path), '--episodes', '1', '--seeds', '1', '--json',
                 str(tmp_path / 'op3_authors.json')]) == 0
    said = capsys.readouterr().out
    assert 'stacked' in said and 'ARI-F' in said and 't+4' in said
    found = json.loads((tmp_path / 'op3_authors.json').read_text())['metrics']
    assert {'mse_goals', 'ari_f_goals', 'mse_stacked_batch', 'mse_first', 'open_4', 'copy_4'} <= set(found)
    assert found['mse_goals']['count'] == 1
