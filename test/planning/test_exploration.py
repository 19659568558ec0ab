"""Random pick-and-places: the mix, where they go, and that a stopped collection goes on with the same draws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.planning.exploration import ANYWHERE, FREE, ONTO, ExplorationConfig, Move, choose
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.entities import Entity, SlotState

NONE = np.zeros(0, np.float32)
CONFIG = ExplorationConfig()
TABLE = ((-0.1, -0.1, 0.03), (0.1, -0.1, 0.03), (0.0, 0.1, 0.03))


def entity(i: int, xyz: tuple[float, float, float], confidence: float = 1.0, visible: bool = True) -> Entity:
    return Entity(i, SlotState(i, NONE, NONE, NONE), confidence, visible, xyz, (0.0, 0.0), (0.0, 0.0, 1.0, 1.0), 1.0,
                  (1.0, 0.0, 0.0))


def scene(*positions: tuple[float, float, float]) -> list[Entity]:
    return [entity(i + 1, xyz) for i, xyz in enumerate(positions)]


def moves(entities: list[Entity], n: int = 150, config: ExplorationConfig = CONFIG, seed: int = 0) -> list[Move]:
    return [choose(seed, i, entities, config) for i in range(n)]


def test_the_mix_is_that_of_op3():
    n = 800
    share = Counter(m.kind for m in moves(scene(*TABLE), n))
    for kind, wanted in ((ANYWHERE, 0.3), (FREE, 0.3), (ONTO, 0.4)):
        deviation = np.sqrt(wanted * (1 - wanted) / n)
        assert abs(share[kind] / n - wanted) < 4 * deviation


def test_where_things_are_put():
    entities = scene(*TABLE)
    x0, y0, x1, y1 = CONFIG.geometry.work_area
    for move in moves(entities):
        command = move.command
        place = np.array(command.place)
        assert x0 <= place[0] <= x1 and y0 <= place[1] <= y1
        if move.kind == ANYWHERE:
            assert command.entity_id == 0 and x0 <= command.pick[0] <= x1 and y0 <= command.pick[1] <= y1
            continue
        mover = next(e for e in entities if e.id == command.entity_id)
        others = np.array([e.position for e in entities if e is not mover])
        assert np.abs(np.subtract(command.pick, mover.position))[:2].max() <= 2 * CONFIG.pick_noise
        if move.kind == FREE:
            assert np.linalg.norm(others[:, :2] - place[:2], axis=1).min() >= CONFIG.geometry.clearance
            assert place[2] == pytest.approx(0.03)
        else:
            assert np.linalg.norm(others - place, axis=1).min() == pytest.approx(0.06)


def test_pick_noise_is_a_parameter():
    def spread(noise: float) -> float:
        config = ExplorationConfig(pick_noise=noise)
        away = [np.subtract(m.command.pick, TABLE[m.command.entity_id - 1])[:2]
                for m in moves(scene(*TABLE), config=config) if m.command.entity_id]
        return float(np.std(away))

    assert spread(0.0) < 1e-12
    assert 0.007 < spread(0.01) < 0.01  # a normal distribution cut off at two deviations has 0.88 of its spread


def test_what_has_something_on_top_is_neither_picked_nor_built_on():
    entities = scene((0.0, 0.0, 0.03), (0.0, 0.0, 0.09), (0.1, 0.1, 0.03))
    done = moves(entities)
    assert {m.command.entity_id for m in done} == {0, 2, 3}
    assert {round(m.command.place[2], 2) for m in done if m.kind == ONTO} == {0.09, 0.15}
    low = moves(entities, config=ExplorationConfig(max_stack=2))
    assert {round(m.command.place[2], 2) for m in low if m.kind == ONTO} == {0.09}


@pytest.mark.parametrize('doubtful', [entity(9, (0.0, 0.0, 0.03), confidence=0.1),
                                      entity(9, (0.0, 0.0, 0.03), visible=False)])
def test_what_is_not_seen_well_is_left_alone_and_kept_clear_of(doubtful):
    for move in moves([*scene((0.1, 0.1, 0.03)), doubtful]):
        assert move.command.entity_id in (0, 1)
        assert move.kind != ONTO
        if move.kind == FREE:
            assert np.hypot(*move.command.place[:2]) >= CONFIG.geometry.clearance


def test_things_just_outside_are_brought_back_and_things_far_out_are_not():
    near = moves(scene((0.185, 0.0, 0.03), (0.0, 0.0, 0.03)))
    assert any(m.command.entity_id == 1 for m in near)
    assert all(abs(m.command.pick[0]) <= 0.195 for m in near)
    assert all(m.command.place[0] <= 0.17 for m in near)
    far = moves(scene((0.25, 0.0, 0.03), (0.0, 0.0, 0.03)))
    assert not any(m.command.entity_id == 1 for m in far)


def test_without_entities_positions_remain():
    assert {m.kind for m in moves([], 50)} == {ANYWHERE}
    assert {m.kind for m in moves([entity(1, (0.0, 0.0, 0.03), confidence=0.0)], 50)} == {ANYWHERE}


def test_a_full_table_leaves_stacking():
    small = ExplorationConfig(PlannerConfig(work_area=(-0.04, -0.02, 0.04, 0.02)))
    entities = scene((-0.035, 0.0, 0.03), (0.035, 0.0, 0.03), (0.0, 0.0, 0.03))
    assert {m.kind for m in moves(entities, 100, small)} == {ANYWHERE, ONTO}


def test_the_same_seed_gives_the_same_sequence_from_anywhere_on():
    entities = scene(*TABLE)
    assert moves(entities) == moves(entities)
    assert [choose(0, i, entities, CONFIG) for i in range(50, 150)] == moves(entities)[50:]
    other = moves(entities, seed=1)
    assert sum(a == b for a, b in zip(moves(entities), other, strict=True)) == 0


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match='pick_noise'):
        ExplorationConfig(pick_noise=-1.0)
    with pytest.raises(InputError, match='max_stack'):
        ExplorationConfig(max_stack=0)
