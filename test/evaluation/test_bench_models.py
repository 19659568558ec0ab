"""`object-centric bench models`: rows that hold together, and help for the authors' code that leaves no traces."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from object_centric_ros.cli import main
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.authors import Ingredient, checkout
from object_centric_ros.evaluation.beside_authors import step_of
from object_centric_ros.evaluation.timing import measure, peak_memory

CPU = torch.device('cpu')
MODEL = """\
name: op3
image_size: 16
slots: 3
action_size: 4
latent: 6
deterministic: 6
decoder_channels: [8]
refinement_channels: [8]
hidden: 8
recurrent: 8
"""


@pytest.fixture
def preset(tmp_path: Path) -> str:
    path = tmp_path / 'tiny.yaml'
    path.write_text(MODEL)
    return str(path)


def test_table_as_json(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert main(['bench', 'models', '--preset', preset, '--slots', '2', '--batch', '3', '--refinements', '0',
                     '--refinements', '2', '--precision', 'float32', '--precision', 'bfloat16', '--device', 'cpu',
                     '--threads', '1', '--repeats', '2', '--json']) == 0
    finally:
        torch.set_num_threads(threads)
    found = json.loads(capsys.readouterr().out)
    assert (found['device'], found['threads'], found['seed'], found['repeats']) == ('cpu', 1, 0, 2)
    names = ['streaming frame, 0 refinements', 'streaming frame, 2 refinements', 'first frame', 'training step, T = 3']
    assert [(r['precision'], r['what']) for r in found['rows']] == [
        (precision, name) for precision in ('float32', 'bfloat16') for name in names]
    for row in found['rows']:
        frames = 3 if 'training' in row['what'] else 1
        assert row['K'] == 2 and row['batch'] == 3 and row['n'] == 2
        assert 0 < row['25 %'] <= row['ms'] <= row['75 %']
        assert row['images/s'] == pytest.approx(3 * frames * 1000 / row['ms'])


def test_table_in_words(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['bench', 'models', '--preset', preset, '--device', 'cpu', '--threads', str(torch.get_num_threads()),
                 '--repeats', '1']) == 0
    out = capsys.readouterr().out
    assert 'seed 0' in out and 'streaming frame, 4 refinements' in out and 'images/s' in out


@pytest.mark.parametrize(('words', 'message'), [
    (['models', 'perception'], 'models alone'), (['models', '--reference', 'parts=.'], '--reference'),
    (['models', '--reference', 'op3'], '--reference'), (['models', '--batch', '0'], 'positive'),
    (['models', '--refinements', '-1'], 'positive'), (['models', '--preset', 'nothing'], 'preset')])
def test_bad_options(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['bench', *words, '--device', 'cpu', '--threads', str(torch.get_num_threads())]) == 2
    assert message in capsys.readouterr().err


def test_several_things_take_turns() -> None:
    order: list[str] = []

    def work(name: str) -> Any:
        def run() -> torch.Tensor:
            order.append(name)
            return torch.tensor(float(len(order)))
        return run
    timings, first = measure([work('a'), work('b')], 3, CPU)
    assert order == ['a', 'b'] * 5 and len(timings) == 2
    assert all(len(t.wall) == len(t.cpu) == 3 and t.ms(25) <= t.ms() <= t.ms(75) for t in timings)
    assert first[1] == first[0] + 1


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='no Linux')
def test_peak_of_memory() -> None:
    small, large = (peak_memory(lambda n=n: torch.ones(n, 2 ** 18).sum(), CPU) for n in (1, 100))
    if small != small:
        pytest.skip('the system does not tell')
    assert small < 60 and 95 < large < 170


def test_steps_of_training_do_the_same() -> None:
    model = torch.nn.Linear(3, 1)
    before = model.weight.detach().clone()
    step = step_of(model, lambda: model(torch.ones(2, 3)).sum())
    assert step() == step() == pytest.approx((2.0 ** 2 * 4) ** 0.5) and torch.equal(model.weight, before)


def published(folder: Path, text: str) -> Path:
    """A checkout of a package `old`."""
    (folder / 'old').mkdir(parents=True)
    (folder / 'old' / '__init__.py').write_text('')
    (folder / 'old' / 'model.py').write_text(text)
    return folder


def test_imports_from_a_checkout_leave_no_traces(tmp_path: Path) -> None:
    one = published(tmp_path / 'one', 'from plotting_of_old import draw\nvalue = draw(1)\n')
    two = published(tmp_path / 'two', 'value = 2\n')
    path, modules = list(sys.path), set(sys.modules)
    values = []
    for folder in (one, two):
        with checkout(folder, 'old', {'plotting_of_old': {'draw': lambda x: x}}):
            values.append(sys.modules['plotting_of_old'] and __import__('old.model').model.value)
    assert values == [1, 2] and sys.path == path
    assert not {name for name in set(sys.modules) - modules if name.startswith(('old', 'plotting_of_old'))}


def test_a_wrong_checkout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='folder old/'), checkout(tmp_path, 'old', {}):
        pass
    published(tmp_path, 'import no_such_module_at_all\n')
    with pytest.raises(InputError, match='no_such_module_at_all'), checkout(tmp_path, 'old', {}):
        __import__('old.model')


def test_configuration_by_name() -> None:
    net = Ingredient('Net')
    net.settings.update(K=4, size=3)

    class Part:
        @net.capture
        def __init__(self, K: int, size: int, batch: int = 1) -> None:
            self.all = K, size, batch
    assert Part().all == (4, 3, 1) and Part(batch=2).all == (4, 3, 2) and Part(7).all == (7, 3, 1)  # type: ignore[call-arg]
