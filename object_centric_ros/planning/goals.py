"""Goals: what an image shows, or a place for each of some entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.planning.relations import Relation, check
from object_centric_ros.tracking.entities import TrackedFrame


@dataclass(frozen=True)
class GoalEntity:
    """One thing of a goal image.

    Attributes:
        position: (x, y, z) in work_plane, metres.
        colour: mean RGB in [0, 1].
        picture: masked sub-image m_k * C_k [3, S, S] (OP3 section 3.3).
    """

    position: tuple[float, float, float]
    colour: tuple[float, float, float]
    picture: NDArray[np.float32]


@dataclass(frozen=True)
class Goal:
    """What is to be reached: exactly one of the three is not empty.

    Attributes:
        entities: of a goal image.
        places: entity id -> (x, y) in work_plane, metres.
        relations: between entities, in the order in which they are brought about.
        image: the goal's model image, uint8 [S, S, 3], where there is one.
        unexplained: places (u, v) in it, model pixels, that none of the entities explains.
    """

    entities: tuple[GoalEntity, ...] = ()
    places: tuple[tuple[int, tuple[float, float]], ...] = ()
    relations: tuple[Relation, ...] = ()
    image: NDArray[np.uint8] | None = None
    unexplained: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if bool(self.entities) + bool(self.places) + bool(self.relations) != 1:
            raise InputError('goal', 'entities of a goal image, places for entities, or relations between them',
                             f'{len(self.entities)}, {len(self.places)} and {len(self.relations)}')

    @property
    def size(self) -> int:
        """How many things, or relations, the goal speaks of."""
        return len(self.entities) or len(self.places) or len(self.relations)

    @property
    def ids(self) -> set[int]:
        """Entities that the goal names."""
        named = {i for r in self.relations for i in (r.entity, r.other) if i is not None}
        return named | {i for i, _ in self.places}

    @classmethod
    def from_frame(cls, frame: TrackedFrame) -> Goal:
        """The goal that a tracked goal image shows.

        Raises:
            InputError: no entity was found in it.
        """
        seen = [e for e in frame.entities if e.visible]
        if not seen:
            raise InputError('goal image', 'at least one entity on the table', 'none that the model finds')
        pictures = frame.masks[:, None] * frame.colours
        return cls(tuple(GoalEntity(e.position, e.colour, pictures[e.state.slot]) for e in seen), image=frame.image)

    @classmethod
    def from_relations(cls, relations: Sequence[Relation]) -> Goal:
        """How entities shall stand to each other, see `relations.check`."""
        return cls(relations=check(relations))

    @classmethod
    def from_places(cls, places: dict[int, tuple[float, float]]) -> Goal:
        """A place for each of some entities, (x, y) in work_plane, metres."""
        for entity, xy in places.items():
            if len(xy) != 2 or not np.isfinite(xy).all():
                raise InputError(f'place of entity {entity}', 'finite (x, y) in metres', xy)
        return cls(places=tuple((int(k), (float(v[0]), float(v[1]))) for k, v in places.items()))
