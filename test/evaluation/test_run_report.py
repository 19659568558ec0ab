"""The page about a run, and the pictures in it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SMALL, action_for, small, warm
from small_runs import paper_run

from object_centric_ros.cli import main
from object_centric_ros.evaluation.charts import Series, line_chart
from object_centric_ros.evaluation.run_report import films
from object_centric_ros.evaluation.slot_pictures import (
    Attention,
    Relations,
    as_picture,
    refinement_steps,
    roll_out,
    slots_over_time,
    traversals,
)


@pytest.mark.parametrize('name', sorted(SMALL))
def test_report_of_any_model(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = paper_run(tmp_path, name, next(iter(SMALL[name].variants)), steps=2)
    run.run()
    assert main(['report', str(tmp_path / 'run'), '--data', run.held_out.store.path, '--episodes', '1']) == 0
    page = (tmp_path / 'run' / 'report.html').read_text(encoding='utf-8')
    for heading in ('Learning curves', 'Slots over time', 'Roll-out beside what happened', 'Refinement', 'traversals'):
        assert heading in page
    assert not re.search(r'(src|href)="(?!data:)', page) and '<script' not in page
    assert ('attention of slot 0' in page) == (name in ('efficientmorl', 'parts', 'slot_attention'))
    assert ('acting on slot 0' in page) == (name in ('rnem', 'op3'))


def test_pictures_show_what_the_model_makes(tmp_path: Path) -> None:
    run = paper_run(tmp_path, 'op3', 'paper')
    model, film = run.model.eval(), films(run.model, run.held_out.store.path, 1)[0]
    rows = dict(slots_over_time(model, film))
    assert film.images.shape[1] == 4 and {len(v) for v in rows.values()} == {4}
    assert np.array_equal(rows['image'][2], as_picture(film.images[0, 2]))
    slots = np.sum([rows[f'slot {k}'][0].astype(float) for k in range(3)], 0)  # type: ignore[union-attr]
    assert np.abs(slots - rows['reconstruction'][0]).max() <= 3 or slots.max() > 255
    rolled = dict(roll_out(model, film, 2))
    assert np.array_equal(rolled['predicted from 2'][0], rows['reconstruction'][0])
    assert not np.array_equal(rolled['predicted from 2'][2], rows['reconstruction'][2])
    assert len(refinement_steps(model, film)[0][1]) == 1 + model.config.first_iterations
    shown = traversals(model, film, dimensions=2)
    variances = [float(name.split(', ')[1]) for name, _ in shown]
    assert len(shown) == 2 and variances[0] >= variances[1] and {len(images) for _, images in shown} == {7}


def test_attention_is_what_the_part_returned() -> None:
    model = small('slot_attention', 'small')
    images = torch.rand(2, 3, 16, 16)
    with Attention(model) as attention, torch.no_grad():
        slots = model.start(2, generator=torch.Generator().manual_seed(0)).mean
        _, told = model.attend(slots, model.encode(images))  # type: ignore[operator]
    assert torch.equal(torch.stack(attention.maps()).flatten(1), told[0])
    assert 'attend' not in vars(model)


@pytest.mark.parametrize(('name', 'variant'), [('rnem', 'r_nem'), ('op3', 'paper')])
def test_relations_are_the_weights_of_the_prediction(name: str, variant: str) -> None:
    """The map of a slot is the sum of the others' masks by its weights; what is weighed by nobody is black."""
    model = small(name, variant)
    belief, told = warm(model, 1), action_for(model, 1)
    masks = torch.eye(3)[:, :, None].expand(3, 3, 2)  # slot j has row j
    with Relations(model) as relations, torch.no_grad():
        model.predict(belief, told)
    maps = relations.maps(masks)
    assert len(maps) == (3 if told is None else 4) and not any(p._forward_hooks for p in model.modules())
    with torch.no_grad():
        if name == 'rnem':
            _, weight = model.interaction(model.cell.state(belief.mean))  # type: ignore[operator, union-attr]
            assert torch.allclose(torch.stack(maps)[..., 0], weight[0])
        else:
            found = model.dynamics(model.latents(belief), told)[1]  # type: ignore[operator]
            assert torch.allclose(maps[1][[0, 2], 0], found.attention[0, 1])
            assert torch.allclose(maps[3][:, 0], found.action_attention[0])
    assert all(maps[k][k].abs().max() == 0 for k in range(3))


def test_charts_below_zero() -> None:
    chart = line_chart([Series('a', np.array([0.0, 1.0]), np.array([-30.0, -10.0]), 'red')], 't', 'x', 'y',
                       from_zero=False)
    points = re.search(r'polyline points="([^"]+)"', chart)
    assert points and len({p.split(',')[1] for p in points[1].split()}) == 2 and '>-20<' in chart


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['report', str(tmp_path)]) == 2
    assert 'a folder of `object-centric train`' in capsys.readouterr().err
