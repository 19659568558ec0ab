"""Goals that say how things shall stand to each other, and the moves that lead there. Metres, work_plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.planning.feasibility import free_place, landing, supports
from object_centric_ros.planning.settings import PlannerConfig

SIDES = {'left_of': (-1, 0), 'right_of': (1, 0), 'in_front_of': (0, -1), 'behind': (0, 1)}
"""Directions as the camera sees the table: x to the right, y away from it."""
KINDS = ('on', 'within', *SIDES)
DRAWS = 500

Positions = NDArray[np.float64]


@dataclass(frozen=True)
class Relation:
    """What shall hold of one entity.

    Attributes:
        kind: 'on': it stands on the other; 'left_of', 'right_of', 'in_front_of', 'behind': its centre is at least the
            planner's clearance to that side of the other's; 'within': its centre is in the region.
        entity: id of what it speaks of, and what is moved.
        other: id, of all kinds but 'within'.
        region: (x0, y0, x1, y1) of 'within'.
    """

    kind: str
    entity: int
    other: int | None = None
    region: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError('goal: relation', f'one of {", ".join(KINDS)}', self.kind)
        if self.kind == 'within':
            if self.other is not None or self.region is None or not np.isfinite(self.region).all() or not (
                    self.region[0] < self.region[2] and self.region[1] < self.region[3]):
                raise InputError(f'goal: region of entity {self.entity}', 'x0 < x1 and y0 < y1, and no other entity',
                                 self.region if self.other is None else f'entity {self.other}')
        elif self.other is None or self.other == self.entity or self.region is not None:
            raise InputError(f'goal: {self.kind} of entity {self.entity}', 'another entity and no region',
                             self.other if self.region is None else self.region)

    def __str__(self) -> str:
        return f'{self.entity} {self.kind.replace("_", " ")} {self.region or self.other}'

    def holds(self, positions: Positions, ids: Sequence[int], config: PlannerConfig) -> bool:
        """Whether it does for entities at these positions [N, 3]."""
        at = positions[ids.index(self.entity)]
        if self.region is not None:
            x0, y0, x1, y1 = self.region
            return bool(x0 <= at[0] <= x1 and y0 <= at[1] <= y1)
        assert self.other is not None
        gap = at - positions[ids.index(self.other)]
        if self.kind == 'on':
            level = abs(gap[2] - 2 * config.object_height) < config.object_height
            return bool(level and np.hypot(gap[0], gap[1]) < config.object_height)
        return bool(np.dot(gap[:2], SIDES[self.kind]) >= config.clearance - config.tolerance / 2)


def check(relations: Sequence[Relation]) -> tuple[Relation, ...]:
    """The relations in the order in which they are brought about: what carries another thing first.

    Raises:
        InputError: none at all, one thing on two others, two on one, or things that would stand on each other.
    """
    if not relations:
        raise InputError('goal: relations', 'at least one', 'none')
    on = [r for r in relations if r.kind == 'on']
    for role in ('entity', 'other'):
        names = [getattr(r, role) for r in on]
        if len(set(names)) < len(names):
            raise InputError('goal: relations', 'each entity on one other, and each under one other',
                             ', '.join(map(str, on)))
    try:
        order = list(TopologicalSorter({r.entity: {r.other} for r in on}).static_order())
    except CycleError as e:
        raise InputError('goal: relations', 'no entity above itself', ', '.join(map(str, on))) from e
    beside = [r for r in relations if r.kind != 'on']
    return (*beside, *sorted(on, key=lambda r: order.index(r.entity)))


def next_move(relations: Sequence[Relation], positions: Positions, ids: Sequence[int], able: Sequence[int],
              config: PlannerConfig, rng: np.random.Generator) -> tuple[int, NDArray[np.float64]] | None:
    """The next move (index, place [2]) towards the relations, or None.

    Args:
        relations: as `check` orders them.
        positions: [N, 3] of all entities; ids: their names.
        able: indices that may be picked now.
        rng: all randomness.
    """
    for relation in relations:
        if relation.holds(positions, ids, config):
            continue
        i = ids.index(relation.entity)
        free = {i} | ({ids.index(relation.other)} if relation.kind == 'on' and relation.other is not None else set())
        in_the_way = [j for j, under in enumerate(supports(positions, config)) if under in free and j != i]
        place = None if in_the_way or i not in able else _place(relations, relation, i, positions, ids, config, rng)
        if place is not None:
            return i, place
        for j in in_the_way:
            if j in able:
                aside = free_place(positions, j, (), config, rng)
                if aside is not None:
                    return j, aside
    return None


def _place(relations: Sequence[Relation], wanted: Relation, i: int, positions: Positions, ids: Sequence[int],
           config: PlannerConfig, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """A place for entity i at which `wanted` holds, and nothing is lost that holds already."""
    x0, y0, x1, y1 = config.work_area
    if wanted.kind == 'on':
        assert wanted.other is not None
        places = positions[None, ids.index(wanted.other), :2].clip((x0, y0), (x1, y1))
        best = places[0]
    else:
        places = rng.uniform((x0, y0), (x1, y1), (DRAWS, 2))
        if wanted.region is not None:
            a, b, c, d = wanted.region
            places = rng.uniform((a, b), (c, d), (DRAWS, 2))
            best = np.array([(a + c) / 2, (b + d) / 2])
        else:
            assert wanted.other is not None
            best = positions[ids.index(wanted.other), :2] + 1.5 * config.clearance * np.array(SIDES[wanted.kind])
    fine, heights = landing(positions, i, places, config)
    on_table = heights < 1.5 * config.object_height
    fine &= ~on_table if wanted.kind == 'on' else on_table
    about = [r for r in relations if r is not wanted and ids[i] in (r.entity, r.other)]
    keep = [wanted, *(r for r in about if r.holds(positions, ids, config) or r.entity == ids[i])]
    moved = positions.copy()
    for n in np.argsort(np.linalg.norm(places - best, axis=1)):
        if fine[n]:
            moved[i] = (*places[n], heights[n])
            if all(r.holds(moved, ids, config) for r in keep):
                return np.asarray(places[n])
    return None
