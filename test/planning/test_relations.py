"""Goals by relations: what holds, what cannot, and moves that lead there on a table of points."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.planning.feasibility import landing
from object_centric_ros.planning.relations import Relation, check, next_move
from object_centric_ros.planning.settings import PlannerConfig

CONFIG = PlannerConfig()
IDS = (7, 3, 5)
TABLE = np.array([[0.0, 0.0, 0.03], [0.1, 0.1, 0.03], [0.1, 0.1, 0.09]])


@pytest.mark.parametrize(('relation', 'holds'), [
    (Relation('on', 5, 3), True),
    (Relation('on', 3, 5), False),
    (Relation('on', 7, 3), False),
    (Relation('left_of', 7, 3), True),
    (Relation('right_of', 7, 3), False),
    (Relation('in_front_of', 7, 3), True),
    (Relation('behind', 3, 7), True),
    (Relation('left_of', 5, 3), False),
    (Relation('within', 7, region=(-0.01, -0.01, 0.01, 0.01)), True),
    (Relation('within', 3, region=(-0.01, -0.01, 0.01, 0.01)), False),
])
def test_what_holds(relation: Relation, holds: bool) -> None:
    assert relation.holds(TABLE, IDS, CONFIG) is holds


@pytest.mark.parametrize(('make', 'error'), [
    (lambda: Relation('under', 1, 2), 'expected one of on, within'),
    (lambda: Relation('on', 1, 1), 'another entity'),
    (lambda: Relation('on', 1), 'another entity'),
    (lambda: Relation('within', 1, region=(0.1, 0, 0, 1)), 'x0 < x1'),
    (lambda: Relation('within', 1, region=(0, 0, float('nan'), 1)), 'x0 < x1'),
    (lambda: Relation('within', 1, 2), 'x0 < x1'),
    (lambda: check([]), 'at least one'),
    (lambda: check([Relation('on', 1, 2), Relation('on', 2, 1)]), 'no entity above itself'),
    (lambda: check([Relation('on', 1, 2), Relation('on', 1, 3)]), 'each entity on one other'),
    (lambda: check([Relation('on', 1, 2), Relation('on', 3, 2)]), 'each entity on one other'),
])
def test_what_cannot_be(make, error: str) -> None:
    with pytest.raises(InputError, match=error):
        make()


def test_a_tower_is_built_from_below() -> None:
    top, middle = Relation('on', 1, 2), Relation('on', 2, 3)
    assert check([top, middle, Relation('left_of', 3, 4)]) == (Relation('left_of', 3, 4), middle, top)


def bring_about(relations: list[Relation], positions: np.ndarray, moves: int = 8) -> int:
    """Carry the moves out on paper, as an arm would: what is covered stays; how many it took."""
    relations, positions = list(check(relations)), positions.copy()
    for n in range(moves):
        if all(r.holds(positions, IDS, CONFIG) for r in relations):
            return n
        able = [i for i in range(len(positions)) if not any(
            np.hypot(*(positions[i] - p)[:2]) < 0.03 < p[2] - positions[i, 2] for p in positions)]
        move = next_move(relations, positions, IDS, able, CONFIG, np.random.default_rng(n))
        assert move is not None and move[0] in able
        fine, height = landing(positions, move[0], move[1][None], CONFIG)
        assert fine[0]
        positions[move[0]] = (*move[1], height[0])
    raise AssertionError([str(r) for r in relations if not r.holds(positions, IDS, CONFIG)])


@pytest.mark.parametrize(('relations', 'moves'), [
    ([Relation('on', 5, 3)], 0),
    ([Relation('on', 7, 5)], 1),
    ([Relation('on', 7, 3)], 2),  # what stands there is put aside first
    ([Relation('on', 3, 5)], 2),  # and so is what stands on the one that moves
    ([Relation('on', 3, 7), Relation('on', 5, 3)], 3),
    ([Relation('left_of', 3, 7), Relation('left_of', 5, 3)], 3),
    ([Relation('within', 5, region=(-0.15, -0.15, -0.05, -0.05)), Relation('behind', 5, 7)], None),
    ([Relation('within', 5, region=(-0.15, 0.08, -0.05, 0.15)), Relation('behind', 5, 7)], 1),
])
def test_moves_that_lead_there(relations: list[Relation], moves: int | None) -> None:
    if moves is None:
        with pytest.raises(AssertionError):
            bring_about(relations, TABLE)
    else:
        assert bring_about(relations, TABLE) == moves
