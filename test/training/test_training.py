"""The trainer on a handful of made-up episodes: it learns, minds its schedule and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_models import SMALL, every_model, small
from small_runs import MODEL, STAGES, make_run, paper_run, take_steps, write_episodes

from object_centric_ros.cli import main
from object_centric_ros.config import from_mapping, load_yaml, to_mapping
from object_centric_ros.datasets.episodes import EpisodeStore, write_part
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.models.registry import MODELS, build_model
from object_centric_ros.training.runlog import read_log
from object_centric_ros.training.settings import Stage, TrainingConfig

TRAIN = Path(__file__).parents[2] / 'config' / 'train'


def test_all_stages_run_and_leave_a_usable_model(tmp_path: Path) -> None:
    by_clock = tuple(replace(s, steps=0) for s in STAGES)
    result = make_run(tmp_path, stages=by_clock, minutes=0.1).run()
    assert {'ari_f_first', 'ari_f_last', 'open_1', 'copy_1', 'open_3'} <= set(result)
    model, record = load_model(tmp_path / 'run' / 'model.safetensors')
    assert model.config == MODEL and record['validation'] == result and record['steps'] > 3
    PinholeCamera.from_dict(record['camera'])
    assert [d['generator_version'] for d in record['data']] == [3, 3] and [d['seed'] for d in record['data']] == [0, 1]
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


@pytest.mark.parametrize(('name', 'variant'), [p for p in every_model() if p.values[1] == next(iter(
    SMALL[p.values[0]].variants)) or p.values == ('parts', 'paper')])
def test_every_model_learns(name: str, variant: str, tmp_path: Path) -> None:
    """Some steps by the paper's objective lower its held-out loss; the run leaves a model file and validates."""
    run = paper_run(tmp_path, name, variant, steps=15)
    before = run.held_out_loss(run.config.stages[0])
    result = run.run()
    run.progress['steps'] = 0  # the loss of curricula changes with it
    assert run.held_out_loss(run.config.stages[0]) < before
    assert {'ari_f_first', 'mse_first', 'mse_last', 'open_1', 'copy_1'} <= set(result)
    model, record = load_model(tmp_path / 'run' / 'model.safetensors')
    assert model.config == run.config.model and record['steps'] == 15 and np.isfinite(record['validation']['mse_first'])


def test_a_stage_with_fewer_slots(tmp_path: Path) -> None:
    """R-NEM learns to draw with one slot first; what is saved on the way has the slots of the configuration."""
    run = paper_run(tmp_path, 'rnem', next(iter(SMALL['rnem'].variants)))
    stages = (replace(run.config.stages[0], slots=1), run.config.stages[0])
    run = make_run(tmp_path, 'two', run.config.model, stages)
    with pytest.raises(InputError, match='slots'):
        replace(stages[0], slots=-1)
    given: list[int] = []
    rows = run._item
    run._item = lambda stage: (given.append(run.model.start(1).mean.shape[1]), rows(stage))[1]  # type: ignore
    run._open(stages[0])
    take_steps(run, 1)
    run._save()
    kept = load_model(tmp_path / 'two' / 'model.safetensors')[0].config.slots
    assert run.run() and given[0] == 1 and given[-1] == kept == run.config.model.slots > 1


def test_curricula_follow_the_steps_of_the_run(tmp_path: Path) -> None:
    """Temperature, refinements, GECO and horizon of the papers see the optimisation steps."""
    def terms(name: str, variant: str, steps: int, **fields: object) -> dict[str, float]:
        run = paper_run(tmp_path, name, variant, f'{name}{steps}')
        run.model = build_model(replace(run.config.model, **fields))  # type: ignore[arg-type]
        run.optimiser = run._optimiser()
        run._open(run.config.stages[0])
        run.progress['steps'] = steps
        return run.step(run.config.stages[0], 0.0)[1][0]
    assert terms('obai', 'paper', 0)['temperature'] == 1
    assert terms('obai', 'paper', 10 ** 6)['temperature'] == pytest.approx(0.1)
    emorl = {'curriculum_iterations': (2, 1), 'curriculum_steps': (10,)}
    assert [terms('efficientmorl', 'reversed_plus', s, **emorl)['iterations'] for s in (9, 10)] == [2, 1]
    assert 'nll_weight' in terms('efficientmorl', 'reversed_plus', 0)
    asked: list[int] = []
    run = paper_run(tmp_path, 'op3', 'paper')
    model = run.model
    schedule = model.schedule  # type: ignore[operator]
    model.schedule = lambda frames, step, g: (asked.append(step), schedule(frames, step, g))[1]  # type: ignore
    take_steps(run, 3)
    assert asked == [0, 1, 2]


def test_rates(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    def rates(stage: Stage, *at: tuple[int, float]) -> list[float]:
        found = []
        for step, done in at:
            run.progress['step'] = step
            run._rate(stage, done)
            found.append(run.optimiser.param_groups[0]['lr'])
        return found
    halved = rates(Stage('paper', lr=1e-3, warmup=10, half_life=100), (0, 0.99), (9, 0.99), (100, 0.99), (200, 0.99))
    assert halved == pytest.approx([1e-4, 1e-3 * 0.5 ** 0.09, 5e-4, 2.5e-4])
    assert rates(Stage('paper', lr=1e-3, warmup=1), (5, 0.5), (5, 0.85), (5, 1.0)) == pytest.approx([1e-3, 5e-4, 5e-5])
    cosine = Stage('paper', lr=1e-3, warmup=1, decay='cosine')
    assert rates(cosine, (5, 0.0), (5, 0.5), (5, 1.0)) == pytest.approx([1e-3, 5e-4, 0])
    run.watch.factor = 0.5
    assert rates(Stage('paper', lr=1e-3, warmup=1, decay='none'), (5, 1.0)) == pytest.approx([5e-4])


def test_optimisers_and_layouts(tmp_path: Path) -> None:
    run = make_run(tmp_path, optimiser='rmsprop', channels_last=False)
    assert isinstance(run.optimiser, torch.optim.RMSprop)
    convolutions = [p for p in run.model.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert all(p.is_contiguous() for p in convolutions)
    other = make_run(tmp_path, 'other')
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in other.model.parameters()
               if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1)
    stage = (Stage('frames', steps=3, batch=4),)
    losses = [take_steps(make_run(tmp_path, name, stages=stage, channels_last=last), 3)
              for name, last in (('a', True), ('b', False))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_mixed_precision_is_near_the_full_one(tmp_path: Path) -> None:
    stage = (Stage('sequences', steps=3, batch=4, horizon=2),)
    full, mixed = (take_steps(make_run(tmp_path, p, stages=stage, precision=p), 3) for p in ('float32', 'bfloat16'))
    assert mixed != full and mixed == pytest.approx(full, rel=0.02)


def test_compiled_parts_learn_the_same(tmp_path: Path) -> None:
    """With a backend that needs no compiler; the weights keep their names."""
    plain = paper_run(tmp_path, 'rnem', 'rnn_em', 'plain')
    expected = take_steps(plain, 3)
    run = make_run(tmp_path, 'compiled', plain.config.model, plain.config.stages, clip=5.0, compile=True,
                   compile_backend='aot_eager')
    losses = take_steps(run, 3)
    assert losses[0] == pytest.approx(expected[0], rel=1e-4)
    assert losses == pytest.approx(expected, rel=2e-2)  # Adam makes much of rounding in small gradients
    assert expected[2] < 0.97 * expected[0]
    assert all(part._compiled_call_impl is not None for part in run.model.children())
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()
    with pytest.raises(InputError, match=r'compile_backend: expected one of .*inductor.*, got fast'):
        TrainingConfig(compile=True, compile_backend='fast')


def test_log_and_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, stages=(Stage('frames', steps=100, batch=2),), validate_steps=50).run()
    entries = read_log(tmp_path / 'run')
    assert [(e['kind'], e['step']) for e in entries] == [
        ('train', 50), ('validation', 50), ('held_out', 50), ('train', 100), ('validation', 100), ('held_out', 100),
        ('validation', 100)]
    assert {'loss', 'nll', 'kl', 'mse', 'rate', 'steps_per_second', 'seconds'} <= set(entries[0])
    assert 'frames: 100%' in capsys.readouterr().err


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


@pytest.mark.parametrize(('what', 'key'), [
    ({'half_life': -1}, 'half_life'), ({'decay': 'slow'}, 'decay'), ({'accumulate': 0}, 'accumulate'),
    ({'plateau': 3.0}, 'plateau'), ({'objective': 'dynamics', 'patience': 2}, 'patience')])
def test_impossible_stages(what: dict, key: str) -> None:
    with pytest.raises(InputError, match=key):
        Stage(**{'objective': 'paper', **what})
    with pytest.raises(InputError, match='optimiser'):
        TrainingConfig(MODEL, STAGES, optimiser='sgd')


def test_configuration_round_trip() -> None:
    config = TrainingConfig(MODEL, STAGES)
    assert from_mapping(TrainingConfig, to_mapping(config), 'x') == config


@pytest.mark.parametrize('file', sorted(f.name for f in TRAIN.glob('*.yaml')))
def test_shipped_configurations_load(file: str) -> None:
    config = load_yaml(TrainingConfig, TRAIN / file)
    assert '#' in (TRAIN / file).read_text() and build_model(config.model).config == config.model


def test_every_model_has_a_training_configuration() -> None:
    trained = {load_yaml(TrainingConfig, file).model.name for file in TRAIN.glob('*.yaml')}
    assert trained == set(MODELS), 'a registered model needs a file in config/train'


def test_frames_must_fit_the_model(tmp_path: Path) -> None:
    make_run(tmp_path)
    for file in tmp_path.glob('*.h5'):
        write_episodes(file, 0, 32)
    with pytest.raises(InputError, match=r'expected 64x64 pixels, the image_size of the model, got 32x32'):
        make_run(tmp_path)


def test_stages_must_suit_the_model() -> None:
    with pytest.raises(InputError, match="objective 'paper' for a model op3"):
        TrainingConfig(small('op3', next(iter(SMALL['op3'].variants))).config, STAGES)
    with pytest.raises(InputError, match='refines from samples'):
        TrainingConfig(small('parts', 'paper').config, STAGES)


def test_a_stage_scores_what_its_objective_says(tmp_path: Path) -> None:
    """Likelihood and KL weight of a stage reach the model, and are gone after it."""
    run = make_run(tmp_path, stages=(Stage('frames', steps=1, batch=4, likelihood='mixture', beta=0.5),))
    usual = type(run.model.likelihood)  # type: ignore[attr-defined]
    run._open(run.config.stages[0])
    assert run.model.config.beta == 0.5 and type(run.model.likelihood).__name__ != usual.__name__  # type: ignore
    run.run()
    assert run.model.config == MODEL and type(run.model.likelihood) is usual  # type: ignore[attr-defined]
