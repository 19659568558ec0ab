"""Random pick-and-places for collecting data, in the mix of OP3 (6.5.2), over the entities that are seen.

Action n of a collection depends on the seed, on n and on what is seen then, on nothing else: a collection that was
stopped goes on with the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.planning.commands import Command
from object_centric_ros.planning.feasibility import free_place, supports
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.entities import Entity

ANYWHERE, FREE, ONTO = 'anywhere', 'free', 'onto'
MIX = {ANYWHERE: 0.3, FREE: 0.3, ONTO: 0.4}
"""From anywhere to anywhere; an entity to a free place; an entity onto another."""
NO_ENTITY = 0


@dataclass(frozen=True)
class ExplorationConfig:
    """What is safe and what is wanted; metres.

    Attributes:
        geometry: work_area, margin, object_height, clearance, on_top and minimum_confidence are used.
        pick_noise: standard deviation of the pick around an entity's centre, in x and in y; cut off at twice that.
        max_stack: no stack is built higher than so many things on purpose.
    """

    geometry: PlannerConfig = field(default_factory=PlannerConfig)
    pick_noise: float = 0.005
    max_stack: int = 3

    def __post_init__(self) -> None:
        if self.pick_noise < 0 or self.max_stack < 1:
            raise InputError('exploration', 'pick_noise >= 0 m and max_stack >= 1',
                             f'{self.pick_noise} and {self.max_stack}')


@dataclass(frozen=True)
class Move:
    """A command and why it was chosen.

    Attributes:
        kind: ANYWHERE, FREE or ONTO; what a crowded or an empty table leaves, which need not be what was drawn.
        command: its entity_id is NO_ENTITY for ANYWHERE.
    """

    kind: str
    command: Command


def choose(seed: int, index: int, entities: Sequence[Entity], config: ExplorationConfig) -> Move:
    """Action `index` of the collection with this `seed`.

    What is picked is visible, trusted, within the work area (or `margin` of it) and has nothing on top; places are
    within the work area. Entities that are not visible or not trusted are never picked or built on, but kept clear of.

    Args:
        seed, index: 0 or more.
        entities: what is seen; none when nothing is known.
        config: see there.
    """
    rng = np.random.default_rng([seed, index])
    geometry = config.geometry
    kind = str(rng.choice(list(MIX), p=list(MIX.values())))
    positions = np.array([e.position for e in entities], float).reshape(-1, 3)
    tops = _tops(entities, positions, geometry)
    movable = [i for i in tops if _within(positions[i], geometry.work_area, geometry.margin)]
    if kind == ANYWHERE or not movable:
        return _anywhere(rng, geometry)
    mover = movable[rng.integers(len(movable))]
    bases = [i for i in tops if i != mover and _within(positions[i], geometry.work_area)
             and _level(positions[i], geometry) < config.max_stack]
    free = None if kind == ONTO and bases else free_place(positions, mover, (), geometry, rng)
    if bases and free is None:
        x, y, z = positions[bases[rng.integers(len(bases))]]
        return Move(ONTO, _command(rng, entities[mover], (x, y, z + 2 * geometry.object_height), config))
    if free is not None:
        return Move(FREE, _command(rng, entities[mover], (free[0], free[1], geometry.object_height), config))
    return _anywhere(rng, geometry)


def _anywhere(rng: np.random.Generator, geometry: PlannerConfig) -> Move:
    x0, y0, x1, y1 = geometry.work_area
    (px, py), (qx, qy) = rng.uniform((x0, y0), (x1, y1), (2, 2)).tolist()
    height = geometry.object_height
    return Move(ANYWHERE, Command(NO_ENTITY, (px, py, height), (qx, qy, height)))


def _command(rng: np.random.Generator, entity: Entity, place: tuple[float, float, float], config: ExplorationConfig
             ) -> Command:
    x0, y0, x1, y1 = config.geometry.work_area
    margin, limit = config.geometry.margin, 2 * config.pick_noise
    noise = np.clip(rng.normal(0.0, config.pick_noise, 2), -limit, limit)
    x, y = np.clip(np.array(entity.position[:2]) + noise, (x0 - margin, y0 - margin), (x1 + margin, y1 + margin))
    return Command(entity.id, (float(x), float(y), entity.position[2]), (float(place[0]), float(place[1]),
                                                                        float(place[2])))


def _tops(entities: Sequence[Entity], positions: NDArray[np.float64], geometry: PlannerConfig) -> list[int]:
    """Entities that can be counted on and that nothing stands on."""
    under = set(supports(positions, geometry))
    return [i for i, e in enumerate(entities)
            if i not in under and e.visible and e.confidence >= geometry.minimum_confidence]


def _within(position: NDArray[np.float64], area: tuple[float, float, float, float], margin: float = 0.0) -> bool:
    x0, y0, x1, y1 = area
    return bool(x0 - margin <= position[0] <= x1 + margin and y0 - margin <= position[1] <= y1 + margin)


def _level(position: NDArray[np.float64], geometry: PlannerConfig) -> int:
    """1 for what stands on the table, 2 for what stands on that, and so on."""
    return round((float(position[2]) + geometry.object_height) / (2 * geometry.object_height))
