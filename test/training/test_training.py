"""The trainer on a handful of made-up episodes: it learns, resumes, stops on nonsense and refuses bad files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_models import SMALL, every_model, small

from object_centric_ros.cli import main
from object_centric_ros.config import from_mapping, load_yaml, to_mapping
from object_centric_ros.datasets.episodes import EpisodeStore, write_part
from object_centric_ros.datasets.layout import TABLETOP
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.metrics import adjusted_rand_index, foreground_ari
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.models.parts import PartsConfig
from object_centric_ros.models.registry import MODELS, build_model
from object_centric_ros.training.data import Episodes, as_image, dense_field
from object_centric_ros.training.settings import Stage, TrainingConfig
from object_centric_ros.training.trainer import Diverged, Trainer

MODEL = PartsConfig(slots=3, latent=8, encoder_channels=(8, 16), attention_size=16, hidden=16, decoder_channels=8,
                    decoder_layers=1, dynamics_size=16, dynamics_heads=2)
STAGES = (Stage('frames', 1, batch=4, warmup=5), Stage('dynamics', 1, batch=4, episodes=4),
          Stage('sequences', 1, batch=2, horizon=3, unobserved=0.5, arm_fraction=0.5))


def write_episodes(path: Path, seed: int, size: int = 64, action_format: str = 'pick_place_xy') -> Path:
    """Six episodes of one red square here and there, with made-up actions."""
    rng = np.random.default_rng(seed)
    camera = PinholeCamera.looking_at((0, -0.88, 1.0), (0, 0, 0.045), 23, 640, 480)
    frames = np.full((6, 4, size, size, 3), 128, np.uint8)
    labels = np.zeros((6, 4, size, size), np.uint8)
    actions = rng.uniform(-0.1, 0.1, (6, 3, 4)).astype(np.float32)
    if action_format == 'sparse_field':
        actions = rng.uniform(0, size, (6, 3, 2, 4)).astype(np.float32)
    elif action_format == 'discrete':
        actions = np.eye(4, dtype=np.float32)[rng.integers(0, 4, (6, 3))]
    side = size // 8
    for n in range(6):
        for t in range(4):
            u, v = rng.integers(side, 6 * side, 2)
            frames[n, t, v:v + side, u:u + side] = 200, 20, 20
            labels[n, t, v:v + side, u:u + side] = 1
    meta = {'generator': 'test', 'seed': seed, 'camera': camera.to_dict(), 'action_format': action_format,
            'fields': {'arm_frames': TABLETOP['arm_frames']}}
    write_part(path, meta, {'frames': frames, 'labels': labels, 'actions': actions, 'arm_frames': frames})
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


def test_recorded_episodes_need_neither_labels_nor_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for seed in (0, 1):
        with EpisodeStore(write_episodes(tmp_path / f'{seed}.h5', seed)) as store:
            meta = {k: v for k, v in store.meta.items() if k != 'seed'}
            write_part(tmp_path / f'recorded{seed}.h5', meta, store.read(slice(None), ['frames', 'actions']))
        files.append(str(tmp_path / f'recorded{seed}.h5'))
    stages = (Stage('sequences', 1, batch=2, horizon=3),)
    config = tmp_path / 'run.yaml'
    config.write_text(yaml.safe_dump(to_mapping(TrainingConfig(MODEL, stages, precision='float32'))), encoding='utf-8')
    command = ['train', '--config', str(config), '--out', str(tmp_path / 'run'), '--minutes', '0.01', '--device', 'cpu',
               '--data', files[0], '--validation']
    assert main([*command, files[1]]) == 0
    said = capsys.readouterr().out
    assert 'open_1' in said and 'mse_last' in said and 'ari' not in said
    assert main([*command, files[0]]) == 2
    assert 'other episodes than those of training' in capsys.readouterr().err


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


def paper_trainer(name: str, variant: str, folder: Path, run: str, minutes: float = 1.0) -> Trainer:
    """A trainer of a small model by its paper's objective, on data of its size and action format."""
    model = small(name, variant)
    stored = {'field': 'sparse_field', 'discrete': 'discrete'}.get(model.action_format, 'pick_place_xy')
    data = []
    for seed in (0, 1):
        path = folder / f'{seed}.h5'
        if not path.exists():
            write_episodes(path, seed, model.config.image_size, stored)
        data.append(Episodes(str(path), 0.03, None, model.action_format))
    stage = Stage('paper', 1, batch=4, warmup=1, lr=2e-3, horizon=max(SMALL[name].frames, 1))
    config = TrainingConfig(model.config, (stage,), precision='float32', clip=5.0, validate_every=1e9,
                            checkpoint_every=1e9, validation_episodes=2)
    return Trainer(config, *data, str(folder / run), minutes)


def take_steps(run: Trainer, n: int) -> list[float]:
    losses = []
    for _ in range(n):
        run._rate(run.config.stages[0], 0.0)
        loss, terms = run._loss(run.config.stages[0])
        run._step(loss, terms)
        run.progress['step'] += 1
        run.progress['steps'] += 1
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(('name', 'variant'), every_model())
def test_every_model_resumes_exactly(name: str, variant: str, tmp_path: Path) -> None:
    expected = take_steps(paper_trainer(name, variant, tmp_path, 'whole'), 4)
    first = paper_trainer(name, variant, tmp_path, 'parts')
    begun = take_steps(first, 2)
    first._save()
    again = paper_trainer(name, variant, tmp_path, 'parts')
    assert again.progress['steps'] == 2
    assert begun + take_steps(again, 2) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(('name', 'variant'), [p for p in every_model() if p.values[1] == next(iter(
    SMALL[p.values[0]].variants)) or p.values == ('parts', 'paper')])
def test_every_model_learns(name: str, variant: str, tmp_path: Path) -> None:
    """Some steps by the paper's objective lower it; the run leaves a model file and validates."""
    run = paper_trainer(name, variant, tmp_path, 'run', minutes=0.001)
    rgb, actions = run.data.sequences(np.random.default_rng(0), 6, run.config.stages[0].horizon, 0.0)
    images = run.model.observe(rgb.flatten(0, 1)).unflatten(0, rgb.shape[:2])

    def measured() -> float:
        with torch.set_grad_enabled(True):
            return float(np.mean([run.model.eval().episode_loss(
                images, actions if actions.numel() else None, 0, torch.Generator().manual_seed(s))[0].item()
                for s in range(3)]))
    before = measured()
    take_steps(run, 25)
    result = run.run()
    assert measured() < before
    assert {'ari_f_first', 'mse_first', 'mse_last', 'open_1', 'copy_1'} <= set(result)
    model, record = load_model(tmp_path / 'run' / 'model.safetensors')
    assert model.config == run.config.model and record['steps'] > 25 and np.isfinite(record['validation']['mse_first'])


TRAIN = Path(__file__).parents[2] / 'config' / 'train'


@pytest.mark.parametrize('file', sorted(f.name for f in TRAIN.glob('*.yaml')))
def test_shipped_configurations_load(file: str) -> None:
    config = load_yaml(TrainingConfig, TRAIN / file)
    assert '#' in (TRAIN / file).read_text() and build_model(config.model).config == config.model


def test_every_model_has_a_training_configuration() -> None:
    trained = {load_yaml(TrainingConfig, file).model.name for file in TRAIN.glob('*.yaml')}
    assert trained == set(MODELS), 'a registered model needs a file in config/train'


def test_actions_become_what_the_model_takes(tmp_path: Path) -> None:
    path = str(write_episodes(tmp_path / 'a.h5', 0))
    assert Episodes(path, 0.03, None, 'none').actions(slice(0, 2)).shape == (2, 3, 0)
    stored = Episodes(path, 0.03, None, 'pick_place_xy').actions(np.array([4, 1]))
    image = Episodes(path, 0.03).actions(np.array([4, 1]))
    assert stored.shape == (2, 3, 4) and image.shape == (2, 3, 5) and (image[..., 0] == 1).all()
    with pytest.raises(InputError, match='actions: expected what field can be made of, got pick_place_xy'):
        Episodes(path, 0.03, None, 'field')


def test_dense_field() -> None:
    sparse = np.array([[[2.5, 1.0, 0.1, 0.2], [2.0, 1.9, 0.3, 0.0], [0, 0, 0, 0]]], np.float32)
    field = dense_field(sparse, 4, 6)
    assert field.shape == (1, 2, 4, 6) and field[0, :, 1, 2] == pytest.approx([0.4, 0.2])
    assert np.count_nonzero(field) == 2


def test_gray_frames_become_colour() -> None:
    image = as_image(np.full((2, 3, 4, 5, 1), 51, np.uint8))
    assert image.shape == (2, 3, 3, 4, 5) and torch.allclose(image, torch.tensor(0.2))


def test_frames_must_fit_the_model(tmp_path: Path) -> None:
    data = Episodes(str(write_episodes(tmp_path / 'a.h5', 0, 32)), 0.03)
    with pytest.raises(InputError, match=r'expected 64x64 pixels, the image_size of the model, got 32x32'):
        trainer((data, data), tmp_path / 'run', 1.0)


def test_rates_and_optimisers(episodes: tuple[Episodes, Episodes], tmp_path: Path) -> None:
    run = trainer(episodes, tmp_path / 'run', 1.0)
    stage = Stage('paper', 1, lr=1e-3, warmup=10, half_life=100)
    rates = []
    for step in (0, 9, 100, 200):
        run.progress['step'] = step
        run._rate(stage, 0.99)
        rates.append(run.optimiser.param_groups[0]['lr'])
    assert rates == pytest.approx([1e-4, 1e-3 * 0.5 ** 0.09, 5e-4, 2.5e-4])
    config = TrainingConfig(MODEL, STAGES, optimiser='rmsprop')
    assert isinstance(Trainer(config, *episodes, str(tmp_path / 'other'), 1.0).optimiser, torch.optim.RMSprop)
    with pytest.raises(InputError, match='optimiser'):
        TrainingConfig(MODEL, STAGES, optimiser='sgd')
    with pytest.raises(InputError, match='half_life'):
        Stage('paper', 1, half_life=-1)


def test_stages_must_suit_the_model() -> None:
    with pytest.raises(InputError, match="objective 'paper' for a model op3"):
        TrainingConfig(small('op3', next(iter(SMALL['op3'].variants))).config, STAGES)
    with pytest.raises(InputError, match='refines from samples'):
        TrainingConfig(small('parts', 'paper').config, STAGES)
