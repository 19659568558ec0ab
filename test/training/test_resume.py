"""A run that is stopped, killed or diverges: nothing is lost but the steps since the last checkpoint."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from small_models import every_model
from small_runs import MODEL, STAGES, make_run, paper_run, take_steps, write_episodes

from object_centric_ros.config import to_mapping
from object_centric_ros.errors import InputError
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.training import trainer as module
from object_centric_ros.training.runlog import read_log
from object_centric_ros.training.settings import Stage, TrainingConfig
from object_centric_ros.training.trainer import Trainer
from object_centric_ros.training.watch import WINDOW, Diverged, StepClock, Watch


def stop_after(run: Trainer, steps: int) -> Trainer:
    """The run, which is asked to stop after so many steps."""
    step = run.step

    def counted(stage: Stage, done: float) -> tuple:
        result = step(stage, done)
        run.stop = run.progress['steps'] >= steps
        return result
    run.step = counted  # type: ignore[method-assign]
    return run


def losses(folder: Path) -> list[tuple]:
    return [(e['kind'], e['stage'], e['step'], e.get('loss'), e.get('mse'), e.get('mse_last'))
            for e in read_log(folder)]


@pytest.mark.parametrize('workers', [0, 1])
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                       ) -> None:
    """All three stages of PARTS, stopped inside of each of them; every loss and the last weights."""
    monkeypatch.setattr(module, 'LOG_EVERY', 1)
    settings = {'workers': workers, 'validate_steps': 2}
    expected = make_run(tmp_path, 'whole', **settings).run()
    for steps in (2, 5, 7, 10):
        assert stop_after(make_run(tmp_path, 'parts', **settings), steps).run() == {}
    assert make_run(tmp_path, 'parts', **settings).run() == expected
    assert losses(tmp_path / 'parts') == losses(tmp_path / 'whole') and len(losses(tmp_path / 'parts')) == 23
    whole, parts = (load_model(tmp_path / name / 'model.safetensors')[0].state_dict() for name in ('whole', 'parts'))
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


@pytest.mark.parametrize(('name', 'variant'), every_model())
def test_every_model_resumes_exactly(name: str, variant: str, tmp_path: Path) -> None:
    expected = take_steps(paper_run(tmp_path, name, variant, 'whole'), 4)
    first = paper_run(tmp_path, name, variant, 'parts')
    begun = take_steps(first, 2)
    first._save()
    again = paper_run(tmp_path, name, variant, 'parts')
    assert again.progress['steps'] == 2
    assert begun + take_steps(again, 2) == expected


@pytest.mark.parametrize('sent', [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_process_goes_on_from_the_last_checkpoint(sent: signal.Signals, tmp_path: Path) -> None:
    files = [str(write_episodes(tmp_path / f'{seed}.h5', seed)) for seed in (0, 1)]
    stage = (Stage('frames', steps=400, batch=2, warmup=1, decay='none'),)
    config = TrainingConfig(MODEL, stage, precision='float32', checkpoint_every=0.0, validate_every=1e9, workers=1)
    (tmp_path / 'run.yaml').write_text(yaml.safe_dump(to_mapping(config)), encoding='utf-8')
    command = [sys.executable, '-m', 'object_centric_ros', 'train', '--config', str(tmp_path / 'run.yaml'),
               '--data', files[0], '--validation', files[1], '--out', str(tmp_path / 'run'), '--device', 'cpu',
               '--threads', '1']
    state = tmp_path / 'run' / 'state.safetensors'
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True) as process:
        written = set()  # a few checkpoints, so that it is in the middle of its work
        while process.poll() is None and len(written) < 3:
            if state.exists():
                written.add(state.stat().st_mtime_ns)
            time.sleep(0.05)
        os.killpg(process.pid, sent)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == (-9 if sent == signal.SIGKILL else 130), said
    assert sent == signal.SIGKILL or 'the same command goes on' in said
    short = [line.replace('steps: 400', 'steps: 60') for line in
             (tmp_path / 'run.yaml').read_text(encoding='utf-8').splitlines(True)]
    (tmp_path / 'run.yaml').write_text(''.join(short), encoding='utf-8')
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    begun = int(again.stdout.split('from step ')[1].split(',')[0])
    assert begun > 0 and [e['step'] for e in read_log(tmp_path / 'run') if e['kind'] == 'train'][-1] >= 50


def test_pause_stops_a_call_and_not_the_run(tmp_path: Path) -> None:
    make_run(tmp_path)
    run = Trainer(make_run(tmp_path).config, make_run(tmp_path).data, make_run(tmp_path).held_out,
                  str(tmp_path / 'run'), 1.0, pause=1e-9)
    assert run.run() == {} and run.progress['steps'] == 0
    assert make_run(tmp_path).run()


def test_nonsense_stops_with_step_and_term_and_keeps_the_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                    ) -> None:
    run = make_run(tmp_path, stages=(Stage('frames', steps=50, batch=2),), checkpoint_every=0.0)
    loss = module.stage_loss

    def poisoned(*args: object) -> tuple:
        value, terms = loss(*args)  # type: ignore[arg-type]
        broken = run.progress['steps'] == 3
        return value * (math.nan if broken else 1), terms | ({'kl': math.nan} if broken else {})
    monkeypatch.setattr(module, 'stage_loss', poisoned)
    with pytest.raises(Diverged, match=r'stage 0, step 3: kl not finite; the last good state is .*state\.safetensors'):
        run.run()
    again = make_run(tmp_path, stages=(Stage('frames', steps=50, batch=2),))
    assert again.progress['steps'] == 3 and all(p.isfinite().all() for p in again.model.parameters())


def test_a_broken_gradient_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run._open(STAGES[0])
    name, parameter = next((k, p) for k, p in run.model.named_parameters() if k.startswith('encoder'))
    parameter.register_hook(lambda g: g * math.inf)
    with pytest.raises(Diverged, match=f'stage 0, step 0: gradient of {name}.* not finite; no state was saved'):
        run.step(STAGES[0], 0.0)


def test_a_loss_that_runs_away(tmp_path: Path) -> None:
    watch = Watch()
    said = [watch.step(2.0 + 0.1 * (n % 3), {'nll': 1.0, 'kl': 1.0}, 10.0) for n in range(WINDOW + 20)]
    said += [watch.step(20.0, {'nll': 2.0, 'kl': 18.0}, 10.0) for _ in range(100)]
    assert not any(said) and not watch.suspicious(10.0, 5)
    said = [watch.step(30.0, {'nll': 2.0, 'kl': 28.0}, 10.0) for _ in range(WINDOW)]
    assert watch.suspicious(10.0, 5) and said[-1] == 'the loss rose from 2.1 to 30, most of all kl, now 28'
    assert Watch(**watch.state()) == watch
    run = make_run(tmp_path)
    run.watch = watch
    run._save()
    assert not Path(run.state_path).exists()  # a model on its way to ruin does not replace a good one


def test_early_stopping_ends_with_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage('frames', steps=100, batch=2, patience=2)
    run = make_run(tmp_path, stages=(stage,), validate_steps=5)
    given = iter([3.0, 2.0, 2.5, 2.0, 9.0])
    kept: list[torch.Tensor] = []

    def held_out(stage: Stage) -> float:
        kept.append(next(run.model.parameters()).detach().clone())
        return next(given)
    monkeypatch.setattr(run, 'held_out_loss', held_out)
    assert run.run() and run.progress['steps'] == 20
    model, record = load_model(tmp_path / 'run' / 'model.safetensors')
    assert torch.equal(next(model.parameters()), kept[1]) and record['steps'] == 20
    assert [e['best'] for e in read_log(tmp_path / 'run') if e['kind'] == 'held_out'] == [3, 2, 2, 2]


def test_best_and_newest_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without patience, and also where the stage ends between two validations."""
    run = make_run(tmp_path, stages=(Stage('frames', steps=12, batch=2),), validate_steps=5)
    given = iter([3.0, 2.0, 2.5])
    kept: list[torch.Tensor] = []

    def held_out(stage: Stage) -> float:
        kept.append(next(run.model.parameters()).detach().clone())
        return next(given)
    monkeypatch.setattr(run, 'held_out_loss', held_out)
    assert run.run() and run.progress['steps'] == 12 and len(kept) == 3
    (best, record), (newest, _) = (load_model(tmp_path / 'run' / f'{n}.safetensors') for n in ('best', 'model'))
    assert record['steps'] == 10 and record['validation'] == {'held_out_loss': 2.0}
    assert torch.equal(next(best.parameters()), kept[1]) and torch.equal(next(newest.parameters()), kept[2])


def test_halts_are_no_training_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StepClock()
    assert [clock.take(s) for s in (50.0, *[1.0] * 9)] == [50.0, *[1.0] * 9]  # too few to know what is usual
    assert clock.take(3600.0) == 1 and clock.take(19.0) == 19
    assert [clock.take(100.0) for _ in range(60)][-1] == 100  # not a halt: steps take longer now
    run = make_run(tmp_path, stages=(Stage('frames', steps=15, batch=2),))
    now, step = [0.0], run.step
    monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])

    def halted(stage: Stage, done: float) -> tuple:
        now[0] += 1000.0 if run.progress['step'] == 12 else 2.0
        return step(stage, done)
    run.step = halted  # type: ignore[method-assign]
    run.deadline = math.inf
    run.run()
    record = load_model(tmp_path / 'run' / 'model.safetensors')[1]
    assert run.progress['seconds'] == 30 and record['minutes'] == 0.5 and run.progress['cpu_seconds'] > 0


def test_plateau_lowers_the_rate_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage('frames', steps=20, batch=2, patience=2, plateau=4.0, lr=1e-3, warmup=1, decay='none')
    run = make_run(tmp_path, stages=(stage,), validate_steps=5)
    monkeypatch.setattr(run, 'held_out_loss', lambda stage: 1.0)
    factors = []
    validated = Watch.validated

    def spied(self: Watch, *args: float) -> tuple[bool, bool]:
        found = validated(self, *args)  # type: ignore[arg-type]
        factors.append(self.factor)
        return found
    monkeypatch.setattr(Watch, 'validated', spied)
    assert run.run() and factors == [1, 1, 0.25, 0.25]


def test_damaged_state_is_an_error(tmp_path: Path) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'state.safetensors').write_bytes(b'nonsense')
    with pytest.raises(InputError, match='a state of a run with this configuration'):
        make_run(tmp_path)


def test_state_of_another_batch_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, stages=(Stage('frames', steps=9, batch=2),))
    take_steps(run, 2)
    run._save()
    with pytest.raises(InputError, match='global_batch'):
        take_steps(make_run(tmp_path, stages=(Stage('frames', steps=9, batch=3),)), 1)
