"""What planning hands out: commands, plans and the outcome of a build."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Command:
    """Move one entity: the unit of action of the package.

    Attributes:
        entity_id: what to pick.
        pick: its centre (x, y, z) in work_plane, metres.
        place: where to put it (x, y, z) in work_plane, metres; z is the expected height of its centre.
    """

    entity_id: int
    pick: tuple[float, float, float]
    place: tuple[float, float, float]


@dataclass(frozen=True)
class Plan:
    """A sequence of commands and what the model expects of it.

    Attributes:
        commands: in order; empty when nothing lowers the cost.
        costs: expected cost before the first command and after each, length 1 + len(commands).
        imagined: predicted model images, uint8 [1 + len(commands), S, S, 3]; the first is the present.
        goal_error: worst distance (m) of a goal entity to its counterpart now; inf where one has none.
        reached: whether the goal holds already.
        candidates: how many actions were evaluated.
        seconds: planning time.
        remark: why the goal is not held for reached though all of its entities are in place.
    """

    commands: tuple[Command, ...]
    costs: tuple[float, ...]
    imagined: NDArray[np.uint8]
    goal_error: float
    reached: bool
    candidates: int
    seconds: float
    remark: str = ''


@dataclass(frozen=True)
class Outcome:
    """How a command or a whole build ended.

    Attributes:
        success: whether it did what it should.
        message: the reason when not.
        steps: executed commands (builds).
        cost: final cost (builds).
        achieved: where the object ended up (x, y, z), work_plane metres (commands).
        history: all plans (builds).
        remarks: what was seen after each command (builds).
    """

    success: bool
    message: str
    steps: int = 0
    cost: float = float('nan')
    achieved: tuple[float, float, float] | None = None
    history: tuple[Plan, ...] = field(default=())
    remarks: tuple[str, ...] = field(default=())
