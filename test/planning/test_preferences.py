"""Preferences of examples, closed form against CEM, and the fields that carry plans out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from obai_anchored import SIZE, anchored, with_masks

from object_centric_ros.errors import InputError
from object_centric_ros.models.obai_anchored import UNIT
from object_centric_ros.models.preferences import Preference
from object_centric_ros.planning.cem import SearchConfig
from object_centric_ros.planning.goals import Goal, GoalEntity
from object_centric_ros.planning.preferences import (
    PushConfig,
    action_field,
    goal_of_examples,
    plan_pushes,
    preference_of_examples,
    things_of,
)


def pictures(positions: np.ndarray) -> torch.Tensor:
    """A red square of 6 pixels on gray at each centre [N, 2] (pixels)."""
    images = torch.full((len(positions), 3, SIZE, SIZE), 0.5)
    for image, (u, v) in zip(images, positions.astype(int), strict=True):
        image[:, v - 3:v + 3, u - 3:u + 3] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return images


def scene() -> tuple:
    """A model and its belief [1, 4, 12] about three things at known places, at rest."""
    model = with_masks(anchored())
    belief = model.start(1)
    mean = torch.zeros_like(belief.mean)
    mean[0, 1:, :2] = torch.tensor([[-0.5, -0.5], [0.5, -0.25], [0.0, 0.5]]) / UNIT
    return model, model.restore(mean, torch.full_like(mean, 0.1), belief.memory)


def test_a_preference_is_learned_from_pictures() -> None:
    """Examples around one place; with weights, the part of them that is wanted."""
    model = with_masks(anchored())
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(8, 12, (30, 2)), rng.uniform(20, 24, (30, 2))])
    generator = torch.Generator()
    weight = torch.cat([torch.zeros(30), torch.ones(30)])
    for given, wanted in ((None, places), (weight, places[30:])):
        got = preference_of_examples(model, pictures(places), generator.manual_seed(0), given)
        middle = (wanted.mean(0) / SIZE * 2 - 1) / UNIT
        assert np.allclose(got.mean[:2].numpy(), middle, atol=0.8)
        assert (got.std[0] > 1) == (given is None)  # two places, or one


@pytest.mark.parametrize('horizon', [1, 3])
def test_closed_form_is_no_worse_than_cem(horizon: int) -> None:
    model, belief = scene()
    preference = Preference(torch.tensor([0.5, -0.5, 0, 0, 0, 0]), torch.tensor([0.3, 0.3, 1, 1, 1, 1]))
    search = SearchConfig(population=300, elites=30, iterations=12, spread=0.01)
    closed, cem = (plan_pushes(model, belief, preference, PushConfig(p, horizon, search=search),
                               np.random.default_rng(0)) for p in ('closed', 'cem'))
    assert closed.actions.shape == (horizon, 4, 2) and (closed.candidates, cem.candidates) == (1, 3 * 3600 + 1)
    assert closed.energy <= cem.energy < closed.energy + 20 * horizon
    assert not closed.actions[:, 0].any() and not cem.actions[:, 0].any()  # the background is left alone
    # a thing at (-0.5, -0.5) goes to (0.125, -0.125) at once: 10 and 6 pixels
    assert torch.allclose(closed.actions[0, 1], torch.tensor([10.0, 6.0]), atol=1e-3)
    assert torch.allclose(cem.actions[0, 1], torch.tensor([10.0, 6.0]), atol=2.0)


def test_the_limit_holds() -> None:
    model, belief = scene()
    preference = Preference(torch.full((6,), 5.0), torch.ones(6))
    for planner in ('closed', 'cem'):
        got = plan_pushes(model, belief, preference, PushConfig(planner, 2, limit=3.0), np.random.default_rng(0))
        assert got.actions.abs().max() <= 3.0 + 1e-5


def test_a_field_pushes_what_is_seen() -> None:
    """Each action lies on one pixel of its slot; a slot that another hides gets none."""
    model, belief = scene()
    actions = torch.tensor([[0.0, 0], [1, 2], [3, 4], [5, 6]])
    field = action_field(model, belief, actions, 0.5)
    assert field.shape == (1, 2, SIZE, SIZE) and int((field != 0).any(1).sum()) == 3
    labels = model.scene(belief).masks.argmax(1)[0]
    for k in (1, 2, 3):
        assert torch.equal(field[0][:, labels == k].sum(1), actions[k])
    assert not field[0][:, labels == 0].any()
    hidden = belief.mean.clone()
    hidden[0, 2] = hidden[0, 1]
    both = model.restore(hidden, belief.std, belief.memory)
    assert int((action_field(model, both, actions, 0.6) != 0).any(1).sum()) == 1


def test_the_background_is_no_thing() -> None:
    model, belief = scene()
    assert things_of(model, belief).tolist() == [[False, True, True, True]]


def example(**places: tuple[float, float]) -> Goal:
    shades = {'red': (0.9, 0.1, 0.1), 'green': (0.1, 0.8, 0.1), 'blue': (0.1, 0.1, 0.9)}
    return Goal(tuple(GoalEntity((*xy, 0.03), shades[name], np.full((3, 4, 4), xy[0], np.float32))
                      for name, xy in places.items()))


def test_a_goal_is_what_examples_agree_on() -> None:
    """Red is always about there, blue anywhere, green in one picture only."""
    goal = goal_of_examples([example(red=(0.10, 0.0), blue=(-0.1, 0.1)), example(blue=(0.1, 0.1), red=(0.12, 0.02)),
                             example(red=(0.11, 0.01), blue=(0.0, -0.1), green=(0.0, 0.0))])
    assert [e.colour for e in goal.entities] == [(0.9, 0.1, 0.1)]
    assert goal.entities[0].position == pytest.approx((0.11, 0.01, 0.03))
    assert goal.entities[0].picture[0, 0, 0] == pytest.approx(0.11)


def test_weights_of_examples() -> None:
    """What is not wanted does not count; two that are, three to one."""
    examples = [example(red=(0.0, 0.0)), example(red=(0.04, 0.0)), example(red=(-0.15, 0.15))]
    goal = goal_of_examples(examples, [3.0, 1.0, 0.0])
    assert goal.entities[0].position == pytest.approx((0.01, 0.0, 0.03))
    for bad in ([0.0, 0.0, 0.0], [1.0, -1.0, 1.0], [1.0]):
        with pytest.raises(InputError):
            goal_of_examples(examples, bad)
    for nothing in ([], [Goal.from_places({1: (0.0, 0.0)})], [example(red=(-0.1, 0.0)), example(red=(0.1, 0.0))]):
        with pytest.raises(InputError):
            goal_of_examples(nothing)


def test_bad_settings() -> None:
    for bad in ({'planner': 'mppi'}, {'horizon': 0}, {'limit': 0.0}, {'certain': 2.0}):
        with pytest.raises(InputError):
            PushConfig(**bad)
