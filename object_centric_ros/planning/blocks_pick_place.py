"""Multi-step pick and place of blocks with OP3 (appendix 6.5.2): what to pick, where to place it, steps ahead.

The model predicts in latent space, all candidates at once. Of each only the slots that it moves are decoded, on a
coarse grid first and a finer one for the elites; all other slots keep the pictures that they have now.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.planning.assignment import PAIRINGS
from object_centric_ros.planning.blocks_inference import Explained, Inference
from object_centric_ros.planning.blocks_picks import Picks
from object_centric_ros.planning.blocks_rollout import Rollout, looks, pictures
from object_centric_ros.planning.cem import Floats, Found, Ints, SearchConfig, Space, optimise
from object_centric_ros.planning.costs import COSTS

SPACES = ('entity', 'xy')
BLOCKED = 0.2
"""A goal entity's place is taken where another thing covers this part of its mask."""


@dataclass(frozen=True)
class PickPlaceConfig:
    """How actions are searched.

    Attributes:
        actions: 'entity' = (entity id, place xy), 'xy' = (pick xy, place xy).
        picks: where an entity is picked: 'attention', 'centroid' of its mask, or 'both' (their mean where they agree).
        cost: of a pair, a name of `costs.COSTS`; pairing: a name of `assignment.PAIRINGS`.
        horizon: longest plan, steps.
        search: the optimiser.
        strides: resolution of all candidates, and of the elites.
        gain: a plan must lower the cost by this much, and by as much again for each entity in place that it moves.
        holds: the largest cost at which a goal entity is in place.
        near: it also is where its mask's centre is that close to its goal's (pixels),
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
    near: float = 2.0
    alike: float = 0.12

    def __post_init__(self) -> None:
        for name, value, known in (('actions', self.actions, SPACES), ('cost', self.cost, tuple(COSTS)),
                                   ('pairing', self.pairing, tuple(PAIRINGS))):
            if value not in known:
                raise InputError(f'pick and place: {name}', f'one of {known}', value)
        if self.horizon < 1:
            raise InputError('pick and place: horizon', 'at least 1', self.horizon)


@dataclass(frozen=True)
class Move:
    """One action: the slot that is meant (None: whatever is there), and pick and place x, y."""

    slot: int | None
    pick: tuple[float, float]
    place: tuple[float, float]


@dataclass(frozen=True)
class BlocksPlan:
    """What to do and what the model expects of it.

    Attributes:
        moves: empty when the goal holds, or when nothing lowers the cost.
        reached: whether every goal entity is in place by what the model sees.
        present, expected: cost now and after the moves (eq. 5).
        each: cost of each goal entity now [G].
        imagined: [3, H, W] what the model expects to see after the moves.
        scored: candidates; seconds: planning time.
        reason: why there are no moves.
    """

    moves: tuple[Move, ...]
    reached: bool
    present: float
    expected: float
    each: tuple[float, ...]
    imagined: Tensor
    scored: int
    seconds: float
    reason: str = ''


class PickPlacePlanner:
    """Plans from what was inferred of the scene and of a goal picture; never from the simulator.

    Args:
        inference: of both pictures, with the model that predicts.
        workspace: ((x0, x1), (y0, y1)) of picks and places.
        camera: of the pictures, for picks at mask centroids; height: plane of block centres.
        config: search and costs.
    """

    def __init__(self, inference: Inference, workspace: tuple[tuple[float, float], tuple[float, float]],
                 camera: PinholeCamera | None = None, height: float = 0.0, config: PickPlaceConfig | None = None
                 ) -> None:
        self.config = config or PickPlaceConfig()
        if inference.model.action_format != 'pick_place_xy':
            raise InputError('model', 'OP3 with actions (pick x, y, place x, y)', inference.model.action_format)
        self.inference, self.model = inference, inference.model
        self.low, self.high = (np.array([bounds[i] for bounds in workspace], float) for i in (0, 1))
        self.picks = Picks(self.model, workspace, camera, height, self.config.picks)
        self.rollout = Rollout(self.model, self.config.strides)

    def costs(self, now: Explained, goal: Explained) -> tuple[Floats, Ints, NDArray[np.bool_]]:
        """The scene as it is, at full resolution: cost of each goal entity [G], its partner [G] (-1: none), and whether
        it is in place [G]."""
        wanted, there = pictures(goal), pictures(now)
        distances = COSTS[self.config.cost](wanted, there).cpu().numpy()
        partner = PAIRINGS[self.config.pairing](distances, 1.0)[1][0]
        each = np.array([1.0 if e < 0 else float(distances[0, g, e]) for g, e in enumerate(partner)])
        (centres, shades), (centres2, shades2) = looks(wanted), looks(there)
        c = self.config
        close = np.linalg.norm(centres - centres2[partner], axis=1) <= c.near
        close &= np.linalg.norm(shades - shades2[partner], axis=1) <= c.alike
        return each, partner, (partner >= 0) & ((each <= c.holds) | close)

    @torch.no_grad()
    def plan(self, now: Explained, goal: Explained, rng: np.random.Generator, nudge: float = 0.0) -> BlocksPlan:
        """The best sequence of moves that the search finds.

        Args:
            nudge: standard deviation of what is added to picks, after a pick that got nothing.
        """
        started = time.perf_counter()
        if not goal.things:
            return self._nothing(now, started, True, 'the goal shows no entities', np.zeros(0))
        if not now.things:
            return self._nothing(now, started, False, 'the scene shows no entities', np.ones(len(goal.things)))
        each, partner, held = self.costs(now, goal)
        if held.all():
            return self._nothing(now, started, True, 'the goal holds', each)
        points, sure = self.picks.of(now, rng)
        points = np.clip(points + nudge * rng.standard_normal(points.shape), self.low, self.high)
        able = np.flatnonzero(sure)
        if not len(able):
            return self._nothing(now, started, False, 'no entity can be picked', each)
        horizon = min(self.config.horizon, int((~held).sum()) + int(held.any()))
        keep = [now.things[e] for e in partner[held]]
        if self.config.actions == 'entity':
            moves, found = self._search_entities(now, goal, points, able, horizon, keep, rng)
        else:
            moves, found = self._search_points(now, goal, horizon, keep, rng)
        present = float(each.sum())
        blocking = self._blocking(now, goal, partner, held, able)
        if blocking is not None:
            moves = [self._aside(now, blocking, points, rng)]
        elif not moves or found.cost > present - self.config.gain:
            moves = self._make_way(now, partner[~held], points, able, rng)
            if not moves:
                return self._nothing(now, started, False, 'nothing lowers the cost', each, found.scored)
        expected, imagined = self.rollout.imagine(now, goal, moves, self.config)
        return BlocksPlan(tuple(moves), False, present, expected, tuple(each.tolist()), imagined, found.scored,
                          time.perf_counter() - started)

    def _search_entities(self, now: Explained, goal: Explained, points: Floats, able: Ints, horizon: int,
                         keep: list[int], rng: np.random.Generator) -> tuple[list[Move], Found]:
        slots, c = np.array([now.things[e] for e in able]), self.config
        view = self.rollout.begin(now, goal, keep)
        nothing = len(able)  # the last choice

        def score(choices: Ints, places: Floats) -> Floats:
            return view.score_entities(np.append(slots, -1)[choices], np.append(points[able], [[0, 0]], 0)[choices],
                                       places, c)
        found = optimise(Space(self.low, self.high, nothing + 1, horizon), score, c.search, rng)
        moves, at = [], {int(s): tuple(points[e]) for s, e in zip(slots, able, strict=True)}
        for choice, place in zip(found.choices, found.points, strict=True):
            if choice != nothing:
                slot = int(slots[choice])
                moves.append(Move(slot, (float(at[slot][0]), float(at[slot][1])), (float(place[0]), float(place[1]))))
                at[slot] = tuple(place)
        return moves, found

    def _search_points(self, now: Explained, goal: Explained, horizon: int, keep: list[int],
                       rng: np.random.Generator) -> tuple[list[Move], Found]:
        view = self.rollout.begin(now, goal, keep)
        space = Space(np.tile(self.low, 2), np.tile(self.high, 2), 1, horizon)

        def draw(n: int) -> NDArray[np.float64]:
            # Most picks get nothing (2 %): of ten draws the one is taken of which the model expects most.
            tried = rng.uniform(space.low, space.high, (10 * n, 4))
            moving = self.picks.moving(now, tried)
            chosen = rng.choice(len(tried), (n, horizon), p=moving / moving.sum())
            return tried[chosen]

        def score(_: Ints, actions: Floats) -> Floats:
            return view.score_points(actions, self.config)
        found = optimise(space, score, self.config.search, rng, draw)
        # Anywhere within reach is as good to the model; the middle of what works is the safest.
        middle = found.points.copy()
        middle[:, :2] = found.centre[:, :2]
        if score(found.choices[None], middle[None])[0] > found.cost + self.config.gain / 2:
            middle = found.points
        return [Move(None, (float(a[0]), float(a[1])), (float(a[2]), float(a[3]))) for a in middle], found

    def _make_way(self, now: Explained, wanted: Ints, points: Floats, able: Ints, rng: np.random.Generator
                  ) -> list[Move]:
        """A thing that is wanted elsewhere but stands on another, or that others are mixed up with: part them.

        Whatever can be picked next to it in the picture is put where the scene is emptiest.
        """
        for e in wanted[wanted >= 0]:
            near = [i for i in able if i != e and self._touch(now, int(e), int(i))]
            near = near or ([e] if e in able else [])
            if near:
                return [self._aside(now, int(rng.choice(near)), points, rng)]
        return []

    def _aside(self, now: Explained, i: int, points: Floats, rng: np.random.Generator) -> Move:
        """Thing i to the emptiest of some random places."""
        tries = rng.uniform(self.low, self.high, (64, 2))
        gap = np.linalg.norm(tries[:, None] - np.delete(points, i, 0)[None], axis=-1).min(1, initial=np.inf)
        place = tries[gap.argmax()]
        return Move(now.things[i], (float(points[i, 0]), float(points[i, 1])), (float(place[0]), float(place[1])))

    def _blocking(self, now: Explained, goal: Explained, partner: Ints, held: NDArray[np.bool_], able: Ints
                  ) -> int | None:
        """A thing that can be picked, is not in place itself, and is seen where another one has to go; or None.

        The model's picture of a block that lands on the edge of another is a blur, which still is cheaper than a block
        that stays away; what really happens there is chance.
        """
        wanted, there = pictures(goal).masks[0] > 0.5, pictures(now).masks[0] > 0.5
        in_place = set(partner[held].tolist())
        for g in np.flatnonzero(~held & (partner >= 0)):
            for i in able:
                if i != partner[g] and i not in in_place:
                    covered = (wanted[g] & there[i]).sum() / wanted[g].sum().clamp(min=1)
                    if float(covered) > BLOCKED:
                        return int(i)
        return None

    @staticmethod
    def _touch(now: Explained, a: int, b: int) -> bool:
        """Whether two things border on each other in the picture (within two pixels)."""
        owner = now.scene.mask_logits[0].argmax(0)
        first, second = ((owner == now.things[i]).float()[None, None] for i in (a, b))
        return bool((torch.nn.functional.max_pool2d(first, 5, 1, 2) * second).sum() > 0)

    @staticmethod
    def _nothing(now: Explained, started: float, reached: bool, reason: str, each: Floats, scored: int = 0
                 ) -> BlocksPlan:
        return BlocksPlan((), reached, float(each.sum()), float(each.sum()), tuple(each.tolist()),
                          now.scene.image[0], scored, time.perf_counter() - started, reason)
