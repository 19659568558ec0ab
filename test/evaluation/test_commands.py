"""The commands `evaluate` and `bench` on a model of random weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from small_models import SMALL as SMALL_MODELS
from small_models import small
from small_runs import write_episodes

from object_centric_ros.cli import main
from object_centric_ros.datasets.episodes import EpisodeStore, EpisodeWriter
from object_centric_ros.evaluation.speed import measure, resident_mb, stream
from object_centric_ros.models.checkpoint import save_model
from object_centric_ros.models.op3 import OP3, OP3Config
from object_centric_ros.models.parts import Parts, PartsConfig
from object_centric_ros.models.slot_attention import SlotAttention, SlotAttentionConfig
from object_centric_ros.simulation.generate import find_world, generate
from object_centric_ros.simulation.tabletop_scene import TabletopConfig
from object_centric_ros.tracking.tracker import EntityTracker

SMALL = PartsConfig(slots=4, latent=8, encoder_channels=(8, 8), attention_size=16, hidden=16, decoder_channels=8,
                    decoder_layers=1, dynamics_size=16, dynamics_heads=2)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp('model') / 'small.safetensors'
    save_model(path, Parts(SMALL), {'camera': TabletopConfig().camera().to_dict()})
    return str(path)


@pytest.fixture(scope='module')
def episodes(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp('data') / 'held_out.h5'
    generate(path, 'tabletop', episodes=4, seed=77)
    return str(path)


def test_evaluate_prints_every_metric_and_horizon(checkpoint: str, episodes: str,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', '--checkpoint', checkpoint, '--data', episodes, '--episodes', '3']) == 0
    said = capsys.readouterr().out
    assert 'first 3 episodes' in said and 'data seed 77' in said
    for metric in ('foreground ARI, first frame', 'foreground ARI, last frame', 'reconstruction MSE, last frame'):
        row = next(line for line in said.splitlines() if line.startswith(metric))
        assert row.split()[-1] == '3'
    horizons = [line.split()[0] for line in said.splitlines() if re.match(r'\s*[1-4] ', line)]
    assert horizons == ['1', '2', '3', '4']


def test_evaluate_says_what_is_missing(checkpoint: str, episodes: str, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / 'bare.h5'
    with EpisodeStore(episodes) as store, EpisodeWriter(bare, store.meta) as writer:
        writer.append(store.read(slice(0, 1), ['frames', 'actions']))
    assert main(['evaluate', '--checkpoint', checkpoint, '--data', str(bare)]) == 2
    assert 'expected labels' in capsys.readouterr().err
    assert main(['evaluate', '--checkpoint', '/nowhere', '--data', episodes]) == 2
    assert main(['evaluate', '--checkpoint', checkpoint, '--data', episodes, '--episodes', '0']) == 2


@pytest.mark.parametrize(('actions', 'world'), [(4, 'tabletop'), (0, 'balls')])
def test_evaluate_gives_a_model_the_actions_that_it_takes(actions: int, world: str, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    fields = SMALL_MODELS['op3'].fields | {'image_size': 64, 'action_size': actions}
    save_model(tmp_path / 'model.safetensors', OP3(OP3Config(**fields)), {})
    generate(tmp_path / 'held_out.h5', world, find_world(world).config(steps=3), episodes=2, seed=3)
    assert main(['evaluate', '--checkpoint', f'{tmp_path}/model.safetensors', '--data', f'{tmp_path}/held_out.h5']) == 0
    assert 'first 2 episodes' in capsys.readouterr().out


def test_evaluate_makes_its_own_episodes(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', '--checkpoint', checkpoint, '--episodes', '2', '--data-seed', '55']) == 0
    said = capsys.readouterr().out
    assert 'first 2 episodes of object-centric generate tabletop, 5 frames each (data seed 55)' in said


def test_evaluate_tracking_counts_over_all_episodes(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['--episodes', '2', '--actions', '1', '--blocks', '2', '3', '--seed', '9']
    assert main(['evaluate', 'tracking', '--checkpoint', checkpoint, *words]) == 0
    said = capsys.readouterr().out
    assert 'seed 9:' in said and 'seed 10:' in said
    assert said.splitlines()[-1].split()[0] == '2'


def test_bench_measures_speed_and_memory(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['--frames', '10', '--memory-frames', '20', '--threads', '1']
    assert main(['bench', 'perception', 'memory', '--checkpoint', checkpoint, *words]) == 0
    said = capsys.readouterr().out
    assert 'frames a second (10 frames' in said and 'EntityTracker.step' in said
    assert 'Memory over 20 frames' in said
    assert main(['bench', 'everything', '--checkpoint', checkpoint]) == 2
    assert main(['bench', 'perception', '--checkpoint', checkpoint, '--frames', '0']) == 2


def test_the_stream_moves_blocks_and_shows_the_arm() -> None:
    frames = [frame for _, frame in zip(range(120), stream(seed=1, still=3, arm=2), strict=False)]
    assert frames[0][0].shape == (480, 640, 3) and frames[0][0].dtype == np.uint8
    assert not np.array_equal(frames[0][0], frames[1][0])  # the noise of a camera
    assert sum(moving for _, _, moving in frames) == 48
    actions = [i for i, (_, action, _) in enumerate(frames) if action is not None]
    assert actions and all(i % 5 == 0 for i in actions)  # with the first frame after the arm


def test_memory_is_read_at_the_marks(checkpoint: str) -> None:
    speed = measure(EntityTracker.load(checkpoint, threads=1), 6, warm_up=2, memory_at=(2, 6))
    assert sorted(speed.memory) == [2, 6]
    assert 10 < speed.memory[6] == pytest.approx(resident_mb(), rel=0.5)
    assert speed.step.count == 6 and speed.step.mean >= speed.model.mean > 0


@pytest.mark.parametrize('name', sorted(SMALL_MODELS))
def test_evaluate_scores_any_model(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small(name, next(iter(SMALL_MODELS[name].variants)))
    save_model(tmp_path / 'model.safetensors', model, {})
    stored = {'field': 'sparse_field', 'discrete': 'discrete'}.get(model.action_format, 'pick_place_xy')
    data = write_episodes(tmp_path / 'data.h5', 5, model.config.image_size, stored)
    command = ['evaluate', '--checkpoint', str(tmp_path / 'model.safetensors'), '--data', str(data), '--seeds', '2',
               '--slots', '2', '--observed', '2', '--device', 'cpu', '--activeness', '--json',
               str(tmp_path / 'out.json')]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert 'K = 2, seeds [0, 1]' in said and 'mBO, later frames' in said and 'straight on' in said
    found = json.loads((tmp_path / 'out.json').read_text())
    assert found['record']['model_id'].startswith(name)
    assert found['data']['seed'] == 5 and found['data']['episodes'] == 6
    assert len(found['metrics']['ari_f']['seeds']) == 2 and found['metrics']['open_2']['count'] == 6
    assert {'miou', 'mota', 'ami_f', 'line_1', 'copy_2'} <= set(found['metrics']) and 'open_3' not in found['metrics']
    assert len(found['activeness']) > 0 and ('bce' in found['metrics']) == (name == 'rnem')


def test_single_pictures_and_dci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'pieces.h5'
    generate(str(path), 'tetrominoes', episodes=3, seed=5)
    model = SlotAttention(SlotAttentionConfig(image_size=35, slots=4, latent=8, features=8, decoder_channels=8))
    save_model(tmp_path / 'model.safetensors', model, {})
    command = ['evaluate', '--checkpoint', str(tmp_path / 'model.safetensors'), '--data', str(path), '--device', 'cpu']
    assert main([*command, '--json', str(tmp_path / 'out.json'), '--first-refinements', '1']) == 0
    found = json.loads((tmp_path / 'out.json').read_text())
    assert {'ari_f_first', 'mse_first', 'miou'} <= set(found['metrics']) and 'ari_f_last' not in found['metrics']
    assert found['settings']['first_refinements'] == 1
    capsys.readouterr()
    assert main([*command, '--dci']) == 2
    assert 'ten or more that a slot holds' in capsys.readouterr().err
