"""What one build of a goal left behind, for tables and reports; plain data, judged from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.evaluation.tables import cell, text_table
from object_centric_ros.simulation.tabletop_goals import GoalSpec, goal_errors

TOLERANCE = 0.03
"""A moved block is where it should be within half a block along x, y and z (m)."""


@dataclass(frozen=True)
class SeenEntity:
    """An entity as it was published: id, visible, confidence, position (x, y, z) in m, mean colour RGB in [0, 1]."""

    id: int
    visible: bool
    confidence: float
    position: tuple[float, float, float]
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Seen:
    """What was seen and published at one moment.

    Attributes:
        label: e.g. 'start' or 'plan 2'.
        seconds: since the goal was sent.
        image: camera image [H, W, 3].
        overlay: masks and ids drawn on it [h, w, 3], if published.
        labels: entity ids [S, S], if published.
        entities: by id.
    """

    label: str
    seconds: float
    image: NDArray[np.uint8]
    overlay: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint16] | None = None
    entities: tuple[SeenEntity, ...] = ()


@dataclass(frozen=True)
class Imagined:
    """A plan: when it came (s since the goal was sent) and its frames [1 + N, S, S, 3], the first being the present."""

    seconds: float
    frames: NDArray[np.uint8]


@dataclass(frozen=True)
class Progress:
    """One message of progress: time (s), step from 1, stage, cost, and the command under way (id 0: none; m)."""

    seconds: float
    step: int
    stage: str
    cost: float
    entity: int = 0
    pick: tuple[float, float] = (0.0, 0.0)
    place: tuple[float, float] = (0.0, 0.0)


@dataclass
class Trial:
    """One goal and how it went.

    Attributes:
        seed, blocks, moved, stack, description: the task.
        goal_image: what the planner was given [H, W, 3].
        seen, plans, progress: in order of time.
        latency: rows (seconds, image stamp to arrival of its entities s, time in the model s).
        reached: ground truth says the goal is reached; errors: largest error of each moved block along an axis (m).
        believed: the planner's own verdict; message: its reason for giving up, or what went wrong.
        steps, cost: commands carried out, final cost.
        seconds: from sending the goal to the result.
    """

    seed: int
    blocks: int
    moved: int
    stack: bool
    description: str
    goal_image: NDArray[np.uint8]
    seen: list[Seen] = field(default_factory=list)
    plans: list[Imagined] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    latency: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    reached: bool = False
    errors: tuple[float, ...] = ()
    believed: bool | None = None
    message: str = ''
    steps: int = 0
    cost: float = float('nan')
    seconds: float = float('nan')

    def judge(self, goal: GoalSpec, positions: NDArray[np.float64]) -> None:
        """Compare the true block centres [N, 3] (m) with the goal, by the simulator's rule."""
        errors = goal_errors(goal, positions)
        self.errors = tuple(float(e) for e in errors)
        self.reached = bool((errors <= TOLERANCE).all())

    @property
    def worst_mm(self) -> float:
        """Largest error of any moved block (mm); NaN if it was not measured."""
        return 1000 * max(self.errors, default=float('nan'))


HEADER = ('seed', 'blocks', 'moved', 'stack', 'steps', 'reached', 'planner says', 'worst error mm', 'seconds', 'remark')


def row(trial: Trial) -> tuple[object, ...]:
    """A trial as a row under HEADER."""
    return (trial.seed, trial.blocks, trial.moved, cell(trial.stack), trial.steps, trial.reached, trial.believed,
            round(trial.worst_mm, 1), round(trial.seconds, 1), trial.message)


def trials_table(trials: Sequence[Trial]) -> str:
    """All trials as text."""
    return text_table(HEADER, [row(t) for t in trials])


def summary(trials: Sequence[Trial]) -> str:
    """Counts in one line."""
    reached = sum(t.reached for t in trials)
    agree = sum(t.believed == t.reached for t in trials)
    steps = sum(t.steps for t in trials)
    return (f'{reached} of {len(trials)} goals reached by ground truth (the planner was right about {agree}), '
            f'{steps} pick-and-places, {sum(np.nan_to_num(t.seconds) for t in trials):.0f} s of building')
