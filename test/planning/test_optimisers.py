"""CEM, random shooting and MPPI over mixed spaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.planning.cem import METHODS, SearchConfig, Space, optimise

SPACE = Space(np.array([-2.0, 0.0]), np.array([2.0, 3.0]), choices=3, horizon=2)
BEST = np.array([[1.5, 0.5], [-1.0, 2.5]])


def score(choices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Zero at BEST with the choices 2, then 0."""
    away = np.abs(points - BEST).sum((1, 2))
    return away + 2 * (choices[:, 0] != 2) + 2 * (choices[:, 1] != 0)


@pytest.mark.parametrize(('method', 'limit'), [('cem', 0.25), ('mppi', 0.25), ('random', 3.0)])
def test_finds_choices_and_points(method: str, limit: float) -> None:
    found = optimise(SPACE, score, SearchConfig(method, 300, 30, 8, temperature=0.4), np.random.default_rng(0))
    assert found.cost < limit and found.scored == 2400
    assert score(found.choices[None], found.points[None])[0] == found.cost
    if method != 'random':
        assert found.choices.tolist() == [2, 0]
        assert np.abs(found.centre - BEST).max() < 0.4


@pytest.mark.parametrize('method', METHODS)
def test_same_seed_same_plan(method: str) -> None:
    config = SearchConfig(method, 50, 5, 3, momentum=0.2)
    first, second = (optimise(SPACE, score, config, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first.points, second.points) and first.cost == second.cost


def test_nothing_possible_costs_infinity() -> None:
    found = optimise(SPACE, lambda choices, points: np.full(len(points), np.inf), SearchConfig(iterations=2),
                     np.random.default_rng(0))
    assert found.cost == np.inf and found.scored == 400


def test_draws_stay_in_bounds_and_start_where_told() -> None:
    seen = []

    def watch(choices: np.ndarray, points: np.ndarray) -> np.ndarray:
        seen.append(points)
        return score(choices, points)
    optimise(SPACE, watch, SearchConfig(population=40, elites=4, iterations=3), np.random.default_rng(0),
             lambda choices: np.tile(BEST, (len(choices), 1, 1)))
    assert (seen[0] == BEST).all()
    assert all((p >= SPACE.low).all() and (p <= SPACE.high).all() for p in seen)


def test_bad_settings() -> None:
    for bad in ({'method': 'newton'}, {'elites': 0}, {'iterations': 0}, {'momentum': 1.0}, {'temperature': 0.0}):
        with pytest.raises(InputError):
            replace(SearchConfig(), **bad)
    with pytest.raises(InputError):
        Space(np.array([1.0]), np.array([0.0]))
    with pytest.raises(InputError):
        Space(np.array([0.0]), np.array([1.0]), horizon=0)


def test_choices_are_drawn_by_their_prior() -> None:
    seen = []

    def watch(choices: np.ndarray, points: np.ndarray) -> np.ndarray:
        seen.append(choices)
        return score(choices, points)
    optimise(SPACE, watch, SearchConfig(population=400, elites=40, iterations=1), np.random.default_rng(0), None,
             np.array([8.0, 1.0, 1.0]))
    assert abs((seen[0] == 0).mean() - 0.8) < 0.06
