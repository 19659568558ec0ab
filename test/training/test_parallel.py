"""Adding up batches and several processes: the same as one large batch, whatever the model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from small_models import SMALL, every_model, small
from small_runs import MODEL, make_run, paper_run, take_steps, write_episodes

from object_centric_ros.config import to_mapping
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.training.runlog import read_log
from object_centric_ros.training.settings import Stage, TrainingConfig

FIRST = [p for p in every_model() if p.values[1] == next(iter(SMALL[p.values[0]].variants))]


def weights(run_model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([v.detach().flatten().float() for v in run_model.state_dict().values()])


@pytest.mark.parametrize(('name', 'variant'), [*FIRST, pytest.param('efficientmorl', 'bottom_up_plus', id='geco')])
def test_accumulated_batches_are_the_larger_batch(name: str, variant: str, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise that is the same for every row: losses, weights, and what moves without gradients."""
    def same(shape: torch.Size, fill: float) -> torch.Tensor:
        wave = torch.linspace(-1, 1, int(torch.Size(shape[-2:]).numel())).view(shape[-2:])
        return (fill + wave).expand(shape).clone()
    large = paper_run(tmp_path, name, variant, 'large', batch=4)
    small_ones = paper_run(tmp_path, name, variant, 'small', batch=2, accumulate=2)
    monkeypatch.setattr(torch, 'randn', lambda shape, **_: same(torch.Size(shape), 0))
    monkeypatch.setattr(torch, 'rand', lambda shape, **_: same(torch.Size(shape), 1).div(2).clamp(0, 0.99))
    monkeypatch.setattr(torch.Tensor, 'exponential_', lambda self, generator: self.copy_(same(self.shape, 2)))
    small_ones.model.load_state_dict(large.model.state_dict())
    for run in (large, small_ones):
        run.optimiser = torch.optim.SGD([p for p in run.model.parameters() if p.requires_grad], 1e-3)
    start = weights(large.model)
    assert take_steps(large, 3) == pytest.approx(take_steps(small_ones, 3), rel=1e-4)
    moved = weights(large.model) - start
    assert moved.norm() > 0
    assert (weights(small_ones.model) - weights(large.model)).norm() < 2e-3 * moved.norm()


ENDING = """
import atexit, glob, pathlib, runpy
def threads():
    names = {pathlib.Path(t).read_text().strip() for t in glob.glob('/proc/self/task/*/comm')}
    if any('gloo' in n for n in names):
        print('alive at the end:', names, flush=True)
atexit.register(threads)
runpy.run_module('object_centric_ros', run_name='__main__')
"""  # the threads of a process group that outlives its run abort the interpreter, now and then


def torchrun(processes: int, folder: Path, config: TrainingConfig, out: str, files: list[str]) -> None:
    """`object-centric train` in so many processes."""
    (folder / f'{out}.yaml').write_text(yaml.safe_dump(to_mapping(config)), encoding='utf-8')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    (folder / 'ending.py').write_text(ENDING, encoding='utf-8')
    command = ['-m', 'torch.distributed.run', '--nproc-per-node', str(processes), '--master-port', str(port)]
    done = subprocess.run([sys.executable, *(command if processes > 1 else []), str(folder / 'ending.py'), 'train',
                           '--config', str(folder / f'{out}.yaml'), '--data', *files[:2], '--validation', files[2],
                           '--out', str(folder / out), '--device', 'cpu', '--threads', '1'], capture_output=True,
                          text=True, timeout=300, check=False, env={**os.environ, 'LOGLEVEL': 'ERROR'})
    assert done.returncode == 0, done.stderr
    assert 'alive at the end' not in done.stdout, done.stdout


@pytest.mark.parametrize('name', ['parts', 'efficientmorl', 'rnem'])
def test_two_processes_are_one_with_twice_the_batch(name: str, tmp_path: Path) -> None:
    """With noise, by the same command; EfficientMORL has GECO, R-NEM flips bits."""
    if name == 'parts':
        model, size = MODEL, 64
        stages = tuple(Stage(o, steps=3, batch=2, warmup=1, horizon=h, arm_fraction=a, episodes=4) for o, h, a in (
            ('frames', 1, 0.5), ('sequences', 3, 0.5)))
    else:
        model = small(name, next(iter(SMALL[name].variants))).config
        size, stages = model.image_size, (Stage('paper', steps=4, batch=2, warmup=1, horizon=3),)
    files = [str(write_episodes(tmp_path / f'{seed}.h5', seed, size)) for seed in range(3)]
    given = {'precision': 'float32', 'validate_steps': 3, 'validation_episodes': 2, 'workers': 0, 'clip': 5.0}
    torchrun(2, tmp_path, TrainingConfig(model, stages, **given), 'two', files)
    twice = tuple(Stage(**{**s.__dict__, 'accumulate': 2}) for s in stages)
    torchrun(1, tmp_path, TrainingConfig(model, twice, **given), 'one', files)
    (two, record), (one, _) = (load_model(tmp_path / out / 'model.safetensors') for out in ('two', 'one'))
    assert record['processes'] == 2
    torch.manual_seed(0)
    start = weights(make_run(tmp_path, 'start', model=model, stages=stages).model)
    moved = (weights(one) - start).norm()
    assert moved > 0 and (weights(two) - weights(one)).norm() < 0.02 * moved
    logs = [[(e['step'], e['mse_last']) for e in read_log(tmp_path / out) if e['kind'] == 'validation']
            for out in ('two', 'one')]
    assert [s for s, _ in logs[0]] == [s for s, _ in logs[1]]
    assert [m for _, m in logs[0]] == pytest.approx([m for _, m in logs[1]], rel=1e-2)
    assert json.loads((tmp_path / 'two' / 'model.json').read_text())['steps'] == sum(s.steps for s in stages)
