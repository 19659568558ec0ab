"""What the model does not plan: to put aside what is in the way, and what to do where it sees no good move.

The model's picture of a block that lands on the edge of another is a blur, which still is cheaper than a block that
stays away; and a bridge on two blocks is not what it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from object_centric_ros.planning.blocks_inference import Explained
from object_centric_ros.planning.blocks_places import Places, Standing, Targets
from object_centric_ros.planning.blocks_rollout import Move
from object_centric_ros.planning.cem import Floats, Ints

FITS = 0.3
"""A thing may go where a goal entity is, without the model, when its colour weighs at least this."""


@dataclass(frozen=True)
class Clearing:
    """A scene in which something has to make way.

    Attributes:
        places: reads places off pictures.
        now: the scene; standing: where its things are; targets: where they may have to go.
        points: how they are picked [E, 2]; able: those that can be; in_place: those that are where they have to be.
        rng: all randomness.
    """

    places: Places
    now: Explained
    standing: Standing
    targets: Targets
    points: Floats
    able: Ints
    in_place: set[int]
    rng: np.random.Generator

    def first(self, moves: list[Move]) -> list[Move]:
        """The moves, or, where the first one would let a thing go over one that has to go elsewhere, that one aside."""
        move = moves[0]
        e = (self.now.things.index(move.slot) if move.slot is not None
             else int(np.abs(self.standing.places - np.array(move.pick)).max(1).argmin()))
        t = self.places.in_the_way(self.standing, np.array(move.place), self.in_place | {e})
        while t is not None and self.standing.below[t] >= 0:
            t = int(self.standing.below[t])
        return moves if t is None or t == e or t not in self.able else [self.aside(t)]

    def without_model(self, wanted: list[int]) -> list[Move]:
        """A move for one of the things that are wanted elsewhere; none: there is nothing to try.

        To a free or supported target of its colour; or, where it stands on another thing or is mixed up with others,
        those aside.
        """
        steady = self.places.steady(self.standing, self.targets, self.in_place)
        for e in (e for e in wanted if e in self.able):
            fit = np.where(steady, self.targets.weight[e], 0)
            if fit.max(initial=0) >= FITS:
                return [self._move(e, self.targets.places[int(fit.argmax())])]
        for e in wanted:
            under = int(self.standing.below[e])
            near = [i for i in self.able if i != e and i not in self.in_place and self._touch(e, int(i))]
            near = [under] if under in self.able else near or ([e] if e in self.able else [])
            if near:
                return [self.aside(int(self.rng.choice(near)))]
        return []

    def aside(self, i: int) -> Move:
        """Thing i to where the scene is emptiest."""
        return self._move(i, self.places.aside(self.standing, i, self.targets, self.rng))

    def _move(self, i: int, place: Floats) -> Move:
        (x, y), (u, v) = self.points[i], place
        return Move(self.now.things[i], (float(x), float(y)), (float(u), float(v)))

    def _touch(self, a: int, b: int) -> bool:
        """Whether two things border on each other in the picture (within two pixels)."""
        owner = self.now.scene.mask_logits[0].argmax(0)
        first, second = ((owner == self.now.things[i]).float()[None, None] for i in (a, b))
        return bool((torch.nn.functional.max_pool2d(first, 5, 1, 2) * second).sum() > 0)
