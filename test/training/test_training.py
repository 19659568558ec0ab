"""The trainer on a handful of made-up episodes: it learns, resumes, stops on nonsense and refuses bad files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from object_centric_ros.config import from_mapping, load_yaml, to_mapping
from object_centric_ros.datasets.episodes import FORMAT
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.metrics import adjusted_rand_index, foreground_ari
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.models.parts import PartsConfig
from object_centric_ros.training.data import Episodes
from object_centric_ros.training.settings import Stage, TrainingConfig
from object_centric_ros.training.trainer import Diverged, Trainer

MODEL = PartsConfig(slots=3, latent=8, encoder_channels=(8, 16), attention_size=16, hidden=16, decoder_channels=8,
                    decoder_layers=1, dynamics_size=16, dynamics_heads=2)
STAGES = (Stage('frames', 1, batch=4, warmup=5), Stage('dynamics', 1, batch=4, episodes=4),
          Stage('sequences', 1, batch=2, horizon=3, unobserved=0.5, arm_fraction=0.5))


def write_episodes(path: Path, seed: int) -> Path:
    """Six episodes of one red square that goes where the action says."""
    rng = np.random.default_rng(seed)
    camera = PinholeCamera.looking_at((0, -0.88, 1.0), (0, 0, 0.045), 23, 640, 480)
    frames = np.full((6, 4, 64, 64, 3), 128, np.uint8)
    labels = np.zeros((6, 4, 64, 64), np.uint8)
    actions = rng.uniform(-0.1, 0.1, (6, 3, 4)).astype(np.float32)
    for n in range(6):
        for t in range(4):
            u, v = rng.integers(8, 48, 2)
            frames[n, t, v:v + 8, u:u + 8] = 200, 20, 20
            labels[n, t, v:v + 8, u:u + 8] = 1
    with h5py.File(path, 'w') as f:
        f['frames'], f['labels'], f['actions'], f['arm_frames'] = frames, labels, actions, frames
        f.attrs['meta'] = json.dumps({'format': FORMAT, 'generator': 'test', 'seed': seed, 'camera': camera.to_dict()})
    return path


@pytest.fixture
def episodes(tmp_path: Path) -> tuple[Episodes, Episodes]:
    files = [write_episodes(tmp_path / f'{seed}.h5', seed) for seed in (0, 1)]
    return Episodes(str(files[0]), 0.03), Episodes(str(files[1]), 0.03)


def trainer(episodes: tuple[Episodes, Episodes], folder: Path, minutes: float,
            stages: tuple[Stage, ...] = STAGES) -> Trainer:
    config = TrainingConfig(MODEL, stages, precision='float32', validate_every=1e9, checkpoint_every=1e9,
                            validation_episodes=2)
    return Trainer(config, *episodes, str(folder), minutes)


def test_all_stages_run_and_leave_a_usable_model(episodes: tuple[Episodes, Episodes], tmp_path: Path) -> None:
    result = trainer(episodes, tmp_path / 'run', 0.1).run()
    assert {'ari_f_first', 'ari_f_last', 'open_1', 'copy_1', 'open_3'} <= set(result)
    model, record = load_model(tmp_path / 'run' / 'model.safetensors')
    assert model.config == MODEL and record['validation'] == result and record['steps'] > 3
    PinholeCamera.from_dict(record['camera'])
    assert list((tmp_path / 'run').glob('events.out.tfevents*'))


def test_learns(episodes: tuple[Episodes, Episodes], tmp_path: Path) -> None:
    run = trainer(episodes, tmp_path / 'run', 0.2, (Stage('frames', 1, batch=4, warmup=5, lr=2e-3),))
    losses = []
    step = run._step
    run._step = lambda loss, terms: (losses.append(loss.item()), step(loss, terms))[1]  # type: ignore[method-assign]
    run.run()
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_resumes_with_the_same_random_stream(episodes: tuple[Episodes, Episodes], tmp_path: Path) -> None:
    stage = (Stage('frames', 1, batch=2, warmup=1000),)
    whole, first = (trainer(episodes, tmp_path / name, 1.0, stage) for name in ('whole', 'parts'))

    def steps(run: Trainer, n: int) -> list[float]:
        losses = []
        for _ in range(n):
            run._rate(stage[0], 0.0)
            loss, terms = run._loss(stage[0])
            run._step(loss, terms)
            run.progress['step'] += 1
            losses.append(loss.item())
        return losses
    expected = steps(whole, 6)
    begun = steps(first, 3)
    first._save()
    again = trainer(episodes, tmp_path / 'parts', 1.0, stage)
    assert again.progress['step'] == 3
    assert begun + steps(again, 3) == pytest.approx(expected, rel=1e-5)


def test_stop_saves_and_can_go_on(episodes: tuple[Episodes, Episodes], tmp_path: Path) -> None:
    run = trainer(episodes, tmp_path / 'run', 5.0)
    run.stop = True
    assert run.run() == {}
    assert (tmp_path / 'run' / 'state.safetensors').exists()


def test_divergence_stops_with_step_and_term(episodes: tuple[Episodes, Episodes], tmp_path: Path) -> None:
    run = trainer(episodes, tmp_path / 'run', 1.0)
    with pytest.raises(Diverged, match='stage 0, step 0: nll not finite'):
        run._step(torch.tensor(float('nan'), requires_grad=True), {'nll': float('nan'), 'kl': 1.0})


def test_damaged_state_is_an_error(episodes: tuple[Episodes, Episodes], tmp_path: Path) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'state.safetensors').write_bytes(b'nonsense')
    with pytest.raises(InputError, match='a state of a run with this configuration'):
        trainer(episodes, tmp_path / 'run', 1.0)


def test_configuration_errors_name_file_key_and_value(tmp_path: Path) -> None:
    path = tmp_path / 'run.yaml'
    path.write_text('seed: 1\nmodle: {}\n')
    with pytest.raises(InputError, match=r'run\.yaml: key: expected one of .*model.*, got modle'):
        load_yaml(TrainingConfig, path)
    path.write_text('model: {latent: many}\n')
    with pytest.raises(InputError, match=r"latent: expected a value of type int, got 'many' \(str\)"):
        load_yaml(TrainingConfig, path)
    path.write_text('stages: [{objective: magic, share: 1.0}]\n')
    with pytest.raises(InputError, match='objective: expected one of'):
        load_yaml(TrainingConfig, path)
    with pytest.raises(InputError, match='a readable YAML file'):
        load_yaml(TrainingConfig, tmp_path / 'none.yaml')


def test_configuration_round_trip() -> None:
    config = TrainingConfig(MODEL, STAGES)
    assert from_mapping(TrainingConfig, to_mapping(config), 'x') == config


def test_shipped_configuration_loads() -> None:
    config = load_yaml(TrainingConfig, Path(__file__).parents[2] / 'config' / 'train' / 'tabletop_parts.yaml')
    assert {s.objective for s in config.stages} == {'frames', 'dynamics', 'sequences'}


def test_ari_equals_scikit_learn() -> None:
    from sklearn.metrics import adjusted_rand_score
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 4, (5, 12, 12)), rng.integers(0, 6, (5, 12, 12))
    predicted[0] = true[0] * 3 + 1
    true[1], predicted[1] = 2, 5
    ours = adjusted_rand_index(true, predicted)
    whole = [adjusted_rand_score(a.ravel(), b.ravel()) for a, b in zip(true, predicted, strict=True)]
    assert ours == pytest.approx(whole)
    front = foreground_ari(true, predicted)
    expected = [adjusted_rand_score(a[a > 0], b[a > 0]) for a, b in zip(true, predicted, strict=True)]
    assert front == pytest.approx(expected)
    assert np.isnan(foreground_ari(np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int)))
