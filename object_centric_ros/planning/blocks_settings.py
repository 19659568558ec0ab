"""Parameters of pick and place of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

from object_centric_ros.errors import InputError
from object_centric_ros.planning.assignment import PAIRINGS
from object_centric_ros.planning.cem import SearchConfig
from object_centric_ros.planning.costs import OBJECTIVES

SPACES = ('entity', 'xy')


@dataclass(frozen=True)
class PickPlaceConfig:
    """How actions are searched.

    Attributes:
        actions: 'entity' = (entity id, place xy), 'xy' = (pick xy, place xy).
        picks: where an entity is picked: 'attention', 'centroid' of its mask, or 'both' (their mean where they agree).
        cost: that the search minimises, a name of `costs.OBJECTIVES`; all are taken in the same unit, a goal entity
            that is elsewhere (`costs.picture_unit`, `costs.latent_unit`).
        pairing: in it, a name of `assignment.PAIRINGS`; whole pictures have none.
        horizon: longest plan, steps.
        search: the optimiser.
        strides: resolution of all candidates, and of the elites.
        gain: a plan must lower the cost by this much, and by as much again for each entity in place that it moves.
        holds: the largest cost at which a goal entity is in place; always that of the judge (`blocks_judge`).
        near: it also is where its ray meets the table that close to its goal's (on both axes),
        alike: and its mean colour that close (L2 over channels).
    """

    actions: str = 'entity'
    picks: str = 'both'
    cost: str = 'soft_iou'
    pairing: str = 'optimal'
    horizon: int = 3
    search: SearchConfig = field(default_factory=SearchConfig)
    strides: tuple[int, int] = (4, 2)
    gain: float = 0.1
    holds: float = 0.25
    near: float = 0.4
    alike: float = 0.12

    def __post_init__(self) -> None:
        for name, value, known in (('actions', self.actions, SPACES), ('cost', self.cost, OBJECTIVES),
                                   ('pairing', self.pairing, tuple(PAIRINGS))):
            if value not in known:
                raise InputError(f'pick and place: {name}', f'one of {known}', value)
        if self.horizon < 1:
            raise InputError('pick and place: horizon', 'at least 1', self.horizon)
