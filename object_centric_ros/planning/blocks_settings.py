"""Parameters of pick and place of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

from object_centric_ros.errors import InputError
from object_centric_ros.planning.assignment import PAIRINGS
from object_centric_ros.planning.cem import SearchConfig
from object_centric_ros.planning.costs import COSTS

SPACES = ('entity', 'xy')
COMPARABLE = tuple(name for name in COSTS if name != 'subimage')
"""Costs in units of an IoU, as `gain` and `holds` are; a mean over pixels is so small that every goal would hold."""


@dataclass(frozen=True)
class PickPlaceConfig:
    """How actions are searched.

    Attributes:
        actions: 'entity' = (entity id, place xy), 'xy' = (pick xy, place xy).
        picks: where an entity is picked: 'attention', 'centroid' of its mask, or 'both' (their mean where they agree).
        cost: of a pair, one of `COMPARABLE`; pairing: a name of `assignment.PAIRINGS`.
        horizon: longest plan, steps.
        search: the optimiser.
        strides: resolution of all candidates, and of the elites.
        gain: a plan must lower the cost by this much, and by as much again for each entity in place that it moves.
        holds: the largest cost at which a goal entity is in place.
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
        for name, value, known in (('actions', self.actions, SPACES), ('cost', self.cost, COMPARABLE),
                                   ('pairing', self.pairing, tuple(PAIRINGS))):
            if value not in known:
                raise InputError(f'pick and place: {name}', f'one of {known}', value)
        if self.horizon < 1:
            raise InputError('pick and place: horizon', 'at least 1', self.horizon)
