"""What a stage is watched for: numbers that are not finite, a loss that runs away, a held-out loss, its time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np
from torch import Tensor, nn

from object_centric_ros.models.cycle import Terms

WINDOW = 50
"""Steps whose losses are compared."""
HALT = 20.0
"""A step that took so many times the usual one was halted from outside."""


class Diverged(RuntimeError):
    """A loss, a term or a gradient is not finite, or the loss ran away; the last good checkpoint stays."""


@dataclass
class Watch:
    """What is remembered of a stage; plain numbers, so that a checkpoint carries them.

    Attributes:
        begun: means of the loss and of its terms over the first steps.
        recent: losses of the last steps.
        best: lowest held-out loss.
        waited: validations since then.
        factor: what the learning rate is multiplied with.
    """

    begun: list[Terms] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    best: float = math.inf
    waited: int = 0
    factor: float = 1.0

    def state(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def step(self, loss: float, terms: Terms, limit: float) -> str:
        """Take a step's loss; what has run away, or ''.

        The loss has when the median of the last `WINDOW` steps is above that of the first ones by `limit` times the
        distance of those from zero.
        """
        if len(self.begun) < WINDOW:
            self.begun.append({'loss': loss, **terms})
        self.recent = [*self.recent[1 - WINDOW:], loss]
        if not self.suspicious(limit):
            return ''
        grown = {k: (v - start) / max(abs(start), 1e-6) for k, v in terms.items() if (start := fmean(
            [b.get(k, math.nan) for b in self.begun])) == start}
        worst = max(grown, key=lambda k: grown[k], default='')
        return f'the loss rose from {self._start():.4g} to {median(self.recent):.4g}' + (
            f', most of all {worst}, now {terms[worst]:.4g}' if worst else '')

    def suspicious(self, limit: float, last: int = WINDOW) -> bool:
        """Whether the losses of the `last` steps are out of bounds; no checkpoint is made of such a model."""
        if len(self.begun) < WINDOW:
            return False
        start = self._start()
        return median(self.recent[-last:]) > start + limit * max(abs(start), 1e-6)

    def _start(self) -> float:
        return median(b['loss'] for b in self.begun)

    def validated(self, loss: float, patience: int, plateau: float) -> tuple[bool, bool]:
        """Take a held-out loss: whether it is the lowest so far, whether the stage has to end (patience 0: never)."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return True, False
        self.waited += 1
        if not patience or self.waited < patience:
            return False, False
        if plateau:
            self.factor, self.waited = self.factor / plateau, 0
        return False, not plateau


class StepClock:
    """Time spent on training, without halts: a suspended process, a machine that slept."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=WINDOW)

    def take(self, seconds: float) -> float:
        """What counts of a step that took so long: all of it, or the median of the last steps where it was halted."""
        usual = median(self.recent) if len(self.recent) >= 10 else math.inf
        self.recent.append(seconds)
        return usual if seconds > HALT * usual else seconds


def not_finite(model: nn.Module, loss: Tensor, terms: list[Terms]) -> str:
    """Names of the terms that are not finite, or of the first parameters whose gradients are not."""
    names = sorted({k for t in terms for k, v in t.items() if not np.isfinite(v)})
    if names:
        return ', '.join(names)
    if not math.isfinite(loss.item()):
        return 'loss'
    bad = [k for k, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return 'gradient of ' + ', '.join(bad[:3]) if bad else 'gradient norm'
