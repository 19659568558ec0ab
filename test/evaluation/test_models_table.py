"""The table of models: what it counts is what there is."""

from __future__ import annotations

import json

import pytest
import torch
from small_models import every_model, small

from object_centric_ros.cli import main
from object_centric_ros.evaluation.models_table import Cost, all_configurations, step_cost
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder
from object_centric_ros.models.registry import MODELS
from object_centric_ros.presets import preset_names


def test_counts_arithmetic_and_memory() -> None:
    x, weight = torch.rand(1, 3, 8, 8), torch.rand(5, 3, 3, 3)
    with Cost([x, weight]) as cost:
        y = torch.nn.functional.conv2d(x, weight)
        small_one = y.sum()
        del y
        z = small_one + torch.zeros(100)
    assert cost.flop == 2 * 5 * 3 * 9 * 36
    assert cost.peak == 4 * max(5 * 36 + 1, 1 + 200)
    assert cost.alive == 4 * 101 and z.shape == (100,)


def test_counts_the_same_whatever_convolves() -> None:
    """Inference on a CPU may take another operation for the same convolution."""
    torch.manual_seed(0)
    decoder = SpatialBroadcastDecoder(8, 32, (16, 16, 16))
    with torch.no_grad(), Cost(decoder.parameters()) as inference:
        decoder(torch.rand(1, 2, 8))
    with Cost(decoder.parameters()) as training:
        decoder(torch.rand(1, 2, 8))
    assert inference.flop == pytest.approx(training.flop, rel=0.05)


def test_counts_the_backward_pass_of_a_refinement() -> None:
    with_gradient, without = step_cost(small('parts', 'tabletop')), step_cost(small('parts', 'no_feedback'))
    assert with_gradient.flop > 1.5 * without.flop and with_gradient.peak > without.peak


@pytest.mark.parametrize(('name', 'variant'), every_model())
def test_every_model_has_a_cost(name: str, variant: str) -> None:
    cost = step_cost(small(name, variant))
    assert cost.flop > 1e5 and cost.peak > 1e4


def test_names_every_preset_and_model() -> None:
    found = all_configurations()
    assert set(preset_names()) <= set(found) and {c.name for c in found.values()} == set(MODELS)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['models', '--preset', 'parts_tabletop', '--json']) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row['parameters'] == 681_831 == sum(row['part_parameters'].values())
    assert row['parts']['dynamics'] == 'TransformerLSTM' and row['plans'] and row['config']['latent'] == 32
    assert main(['models', '--preset', 'parts_tabletop', '--slots', '3']) == 0
    said = capsys.readouterr().out
    assert 'Zoran et al. 2021' in said and 'TransformerLSTM' in said and 'gradient_feedback' in said
    assert main(['models', '--preset', 'none_such']) == 2
    assert 'model preset: expected' in capsys.readouterr().err
