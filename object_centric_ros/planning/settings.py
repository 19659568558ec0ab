"""Parameters of the planner; lengths in metres."""

from __future__ import annotations

from dataclasses import dataclass

from object_centric_ros.errors import InputError


@dataclass(frozen=True)
class PlannerConfig:
    """How plans are searched and when a goal holds.

    Attributes:
        population, elites, iterations: of the cross-entropy method.
        smoothing: part of the old distribution that each iteration keeps.
        work_area: (x0, y0, x1, y1) in which things may be placed.
        margin: how far outside of it things may still be picked up.
        object_height: height of an object's centre above what it stands on; half its width.
        clearance: smallest distance between the centres of things that stand side by side.
        on_top: largest distance between the centres of things that stand on each other.
        tolerance: largest distance of an entity to its place at which the goal holds.
        same_picture: largest picture distance (eq. 5) at which an entity up to twice the tolerance away is in place.
        colour_tolerance: largest distance in chromaticity between a goal entity and its counterpart.
        minimum_gain: a command must lower the cost by this part of one entity's share.
        minimum_confidence: entities below are not picked.
        retry_offset: how far aside a thing is picked that was missed.
        max_misses: times that one thing may be missed in a row before the build is given up.
        patience: plans in a row that do not lower the cost after which it is given up.
    """

    population: int = 192
    elites: int = 16
    iterations: int = 4
    smoothing: float = 0.1
    work_area: tuple[float, float, float, float] = (-0.17, -0.17, 0.17, 0.17)
    margin: float = 0.025
    object_height: float = 0.03
    clearance: float = 0.066
    on_top: float = 0.02
    tolerance: float = 0.018
    same_picture: float = 0.3
    colour_tolerance: float = 0.16
    minimum_gain: float = 0.08
    minimum_confidence: float = 0.2
    retry_offset: float = 0.008
    max_misses: int = 3
    patience: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.elites <= self.population or self.iterations < 1:
            raise InputError('planner', '0 < elites <= population, iterations >= 1',
                             f'elites {self.elites}, population {self.population}, iterations {self.iterations}')
        if self.retry_offset < 0 or self.max_misses < 1 or self.patience < 1:
            raise InputError('planner', 'retry_offset >= 0, max_misses and patience >= 1',
                             f'{self.retry_offset}, {self.max_misses}, {self.patience}')
        x0, y0, x1, y1 = self.work_area
        if not (x0 < x1 and y0 < y1):
            raise InputError('planner.work_area', '(x0, y0, x1, y1) with x0 < x1 and y0 < y1', self.work_area)
