"""Pairings of goal entities with predicted ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from object_centric_ros.planning.assignment import PAIRINGS, pair_greedy, pair_minimum, pair_optimal

GREEDY_TRAP = np.array([[[0.0, 0.1], [0.2, 0.9]]])


@pytest.mark.parametrize('shape', [(3, 3), (2, 5), (5, 2), (7, 8)])
def test_optimal_is_as_scipy(shape: tuple[int, int]) -> None:
    distances = np.random.default_rng(0).random((20, *shape))
    cost, partner = pair_optimal(distances)
    for d, c, row in zip(distances, cost, partner, strict=True):
        rows, columns = linear_sum_assignment(d)
        assert c == pytest.approx(d[rows, columns].sum() + max(0, shape[0] - shape[1]))
        assert dict(enumerate(row)) == {**dict.fromkeys(range(shape[0]), -1), **dict(zip(rows, columns, strict=True))}


def test_minimum_uses_an_entity_twice_and_greedy_does_not() -> None:
    assert pair_minimum(GREEDY_TRAP)[1].tolist() == [[0, 0]]
    cost, partner = pair_greedy(GREEDY_TRAP)
    assert partner.tolist() == [[0, 1]] and cost[0] == pytest.approx(0.9)
    cost, partner = pair_optimal(GREEDY_TRAP)
    assert partner.tolist() == [[1, 0]] and cost[0] == pytest.approx(0.3)


@pytest.mark.parametrize('name', sorted(PAIRINGS))
def test_no_entities_and_no_goals(name: str) -> None:
    cost, partner = PAIRINGS[name](np.zeros((4, 2, 0)), 1.0)
    assert cost.tolist() == [2] * 4 and (partner == -1).all() and partner.shape == (4, 2)
    cost, partner = PAIRINGS[name](np.zeros((4, 0, 3)), 1.0)
    assert cost.tolist() == [0] * 4 and partner.shape == (4, 0)


def test_greedy_with_too_few_entities() -> None:
    cost, partner = pair_greedy(np.array([[[0.4], [0.1], [0.3]]]))
    assert partner.tolist() == [[-1, 0, -1]] and cost[0] == pytest.approx(2.1)
