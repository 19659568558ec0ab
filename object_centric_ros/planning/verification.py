"""What became of a command, by what is seen before and after it; and how to try again what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from object_centric_ros.planning.commands import Command
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.entities import Entity

DONE, MISSED, SLID, LOST, DISTURBED = 'done', 'missed', 'slid', 'lost', 'disturbed'


@dataclass(frozen=True)
class Finding:
    """What became of a command.

    Attributes:
        kind: DONE; MISSED: it is still where it was; SLID: it is neither there nor at its place; LOST: it is not seen;
            DISTURBED: it is at its place, but something else has moved.
        text: for people.
    """

    kind: str
    text: str


def verify(command: Command, before: Sequence[Entity], after: Sequence[Entity], config: PlannerConfig) -> Finding:
    """Compare the scene with what the command should have made of it.

    Args:
        command: that was carried out.
        before, after: entities that were seen then and are seen now; what is seen in one of them only tells nothing.
        config: `tolerance` is used.
    """
    now = {e.id: e for e in after if e.visible}
    moved = now.get(command.entity_id)
    name = f'entity {command.entity_id}'
    if moved is None:
        return Finding(LOST, f'{name} is not seen after it was moved')
    to_place, to_pick = (float(np.hypot(*np.subtract(moved.position[:2], xy[:2])))
                         for xy in (command.place, command.pick))
    if to_place > 2 * config.tolerance:
        if to_pick <= 2 * config.tolerance:
            return Finding(MISSED, f'{name} is still where it was')
        return Finding(SLID, f'{name} is {1000 * to_place:.0f} mm away from where it was put')
    for e in before:
        other = now.get(e.id)
        if e.visible and other is not None and e.id != command.entity_id:
            gap = float(np.hypot(*np.subtract(e.position[:2], other.position[:2])))
            if gap > 2 * config.tolerance:
                return Finding(DISTURBED, f'{name} was placed, but entity {e.id} has moved by {1000 * gap:.0f} mm')
    return Finding(DONE, f'{name} is at its place')


def from_another_side(command: Command, tries: int, entities: Sequence[Entity], config: PlannerConfig) -> Command:
    """The command with its pick moved aside: first away from the nearest neighbour, then towards it, then across.

    Args:
        command: what to try again.
        tries: how often it failed; 0 changes nothing.
        entities: what is seen.
        config: `retry_offset` and where picks are allowed.
    """
    if tries < 1:
        return command
    here = np.array(command.pick[:2])
    gaps = [here - np.array(e.position[:2]) for e in entities if e.visible and e.id != command.entity_id]
    nearest = min(gaps, key=lambda gap: float(np.hypot(*gap)), default=np.array([1.0, 0.0]))
    away = nearest / max(float(np.hypot(*nearest)), 1e-6)
    across = np.array([-away[1], away[0]])
    side = (away, -away, across, -across)[(tries - 1) % 4]
    x0, y0, x1, y1 = config.work_area
    low, high = np.array([x0, y0]) - config.margin, np.array([x1, y1]) + config.margin
    x, y = np.clip(here + config.retry_offset * side, low, high)
    return replace(command, pick=(float(x), float(y), command.pick[2]))
