"""Multi-step pick and place of blocks with OP3 (appendix 6.5.2): what to pick, where to place it, steps ahead.

The model predicts in latent space, all candidates at once. Of each only the slots that it moves are decoded, on a
coarse grid first and a finer one for the elites; all other slots keep the pictures that they have now.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.planning.blocks_clearing import Clearing
from object_centric_ros.planning.blocks_inference import Explained, Inference
from object_centric_ros.planning.blocks_judge import Judge
from object_centric_ros.planning.blocks_picks import Grasps, Picks
from object_centric_ros.planning.blocks_places import Places, Targets
from object_centric_ros.planning.blocks_rollout import Move, Rollout
from object_centric_ros.planning.blocks_settings import PickPlaceConfig
from object_centric_ros.planning.cem import Floats, Found, Ints, Space, optimise

AGREE = 0.3
"""So far the model's place may be from that of the goal's ray; a block goes to the middle of the two."""
NOISE = 0.12
"""Standard deviation of first draws around places worth trying."""
ANYWHERE = 0.1
"""Weight of places anywhere, beside those worth trying, which together have one for a thing of the right colour."""
FAR = 0.15
"""What is added for a place anywhere: what the model shows of it is farther off than a ray is."""


@dataclass(frozen=True)
class BlocksPlan:
    """What to do and what the model expects of it.

    Attributes:
        moves: empty when the goal holds, or when nothing lowers the cost.
        reached: whether every goal entity is in place by what the model sees.
        present, expected: cost now and after the moves, by the judge, whatever was minimised.
        each: cost of each goal entity now [G], by the judge.
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
        camera: of the pictures; height: of the centre of a block on the table, half its width.
        config: search and costs.
    """

    def __init__(self, inference: Inference, workspace: tuple[tuple[float, float], tuple[float, float]],
                 camera: PinholeCamera, height: float, config: PickPlaceConfig | None = None) -> None:
        self.config = config or PickPlaceConfig()
        if inference.model.action_format != 'pick_place_xy':
            raise InputError('model', 'OP3 with actions (pick x, y, place x, y)', inference.model.action_format)
        self.inference, self.model = inference, inference.model
        self.low, self.high = (np.array([bounds[i] for bounds in workspace], float) for i in (0, 1))
        self.picks = Picks(self.model, workspace, camera, height, self.config.picks)
        self.rollout = Rollout(self.model, self.config.strides)
        self.places = Places(camera.square(self.model.config.image_size), height, self.low, self.high)
        self.judge = Judge(self.places, self.config)

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
        verdict = self.judge.verdict(now, goal)
        each, partner, held = verdict.each, verdict.partner, verdict.held
        if held.all():
            return self._nothing(now, started, True, 'the goal holds', each)
        standing = self.places.standing(now)
        grasps = self.picks.of(now, rng)
        points = np.clip(grasps.points + nudge * rng.standard_normal(grasps.points.shape), self.low, self.high)
        able = np.flatnonzero(grasps.sure & (standing.below < 0))
        if not len(able):
            return self._nothing(now, started, False, 'no entity can be picked', each)
        horizon = min(self.config.horizon, int((~held).sum()) + int(held.any()))
        keep = [now.things[e] for e in partner[held]]
        targets = self.places.targets(now, goal, np.flatnonzero(~held))
        if self.config.actions == 'entity':
            moves, found = self._search_entities(now, goal, points, able, horizon, keep, targets, rng)
        else:
            moves, found = self._search_points(now, goal, grasps, horizon, keep, targets, rng)
        way = Clearing(self.places, now, standing, targets, points, able, {int(e) for e in partner[held]}, rng)
        if not moves or found.cost > self.rollout.begin(now, goal).present(self.config) - self.config.gain:
            moves = way.without_model([int(e) for e in partner[~held & (partner >= 0)]])
        else:
            moves = way.first(moves)
        if self.config.actions == 'xy':
            moves = [replace(m, slot=None) for m in moves]
        if not moves:
            return self._nothing(now, started, False, 'nothing lowers the cost', each, found.scored)
        expected, imagined = self.rollout.imagine(now, goal, moves)
        return BlocksPlan(tuple(moves), False, float(each.sum()), expected, tuple(each.tolist()), imagined,
                          found.scored, time.perf_counter() - started)

    def _search_entities(self, now: Explained, goal: Explained, points: Floats, able: Ints, horizon: int,
                         keep: list[int], targets: Targets, rng: np.random.Generator) -> tuple[list[Move], Found]:
        """Each choice is a thing and one of the places worth trying, or anywhere; the last is to do nothing."""
        slots, c, options = np.array([now.things[e] for e in able]), self.config, len(targets.places) + 1
        view = self.rollout.begin(now, goal, keep)
        nothing = len(able) * options
        weight = np.column_stack([targets.weight[able], np.full(len(able), ANYWHERE)]).ravel()
        who = np.append(np.repeat(np.arange(len(able)), options), len(able))

        def draw(choices: Ints) -> Floats:
            return self._around(targets, np.where(choices == nothing, options - 1, choices % options), rng)

        def score(choices: Ints, places: Floats) -> Floats:
            anywhere = ((choices % options == options - 1) & (choices != nothing)).sum(1)
            return view.score_entities(np.append(slots, -1)[who[choices]],
                                       np.append(points[able], [[0, 0]], 0)[who[choices]], places, c) + FAR * anywhere
        found = optimise(Space(self.low, self.high, nothing + 1, horizon), score, c.search, rng, draw,
                         np.append(weight, weight.mean()))
        moves, at = [], {int(s): tuple(points[e]) for s, e in zip(slots, able, strict=True)}
        for choice, point in zip(found.choices, found.points, strict=True):
            if choice != nothing:
                slot = int(slots[who[choice]])
                place = self._agreed(targets, int(choice) % options, point)
                moves.append(Move(slot, (float(at[slot][0]), float(at[slot][1])), (float(place[0]), float(place[1]))))
                at[slot] = tuple(place)
        return moves, found

    def _search_points(self, now: Explained, goal: Explained, grasps: Grasps, horizon: int, keep: list[int],
                       targets: Targets, rng: np.random.Generator) -> tuple[list[Move], Found]:
        """Each choice is one of the places worth trying, or anywhere."""
        view, options = self.rollout.begin(now, goal, keep), len(targets.places) + 1
        space = Space(np.tile(self.low, 2), np.tile(self.high, 2), options, horizon)
        # Most picks get nothing (2 %): the more the model expects of one, the more often it is drawn.
        chance = grasps.attention @ np.column_stack([targets.weight, np.full(len(now.things), ANYWHERE)]) + 1e-6

        def draw(choices: Ints) -> Floats:
            picks = np.empty((*choices.shape, 2))
            for i in np.unique(choices):
                here = choices == i
                picks[here] = self.picks.grid[rng.choice(len(chance), here.sum(), p=chance[:, i] / chance[:, i].sum())]
            return np.concatenate([picks, self._around(targets, choices, rng)], -1)

        def score(choices: Ints, actions: Floats) -> Floats:
            return view.score_points(actions, self.config) + FAR * (choices == options - 1).sum(1)
        weight = np.append(targets.weight.max(0), ANYWHERE)
        found = optimise(space, score, self.config.search, rng, draw, weight)
        moves = []
        for choice, a in zip(found.choices, found.points, strict=True):
            pick, place = self.picks.middle(grasps, a[:2]), self._agreed(targets, int(choice), a[2:])
            moves.append(Move(None, (float(pick[0]), float(pick[1])), (float(place[0]), float(place[1]))))
        return moves, found

    def _around(self, targets: Targets, options: Ints, rng: np.random.Generator) -> Floats:
        """Places [..., 2] around targets; the last option is anywhere."""
        anywhere = rng.uniform(self.low, self.high, (*options.shape, 2))
        near = np.append(targets.places, [[0, 0]], 0)[options] + NOISE * rng.standard_normal(anywhere.shape)
        return np.where((options == len(targets.places))[..., None], anywhere, near)

    @staticmethod
    def _agreed(targets: Targets, option: int, point: Floats) -> Floats:
        """The mean of what the ray and the model say, where the model does not go far from it."""
        if option == len(targets.places):
            return point
        target = targets.places[option]
        return np.asarray((target + np.clip(point, target - AGREE, target + AGREE)) / 2)

    @staticmethod
    def _nothing(now: Explained, started: float, reached: bool, reason: str, each: Floats, scored: int = 0
                 ) -> BlocksPlan:
        return BlocksPlan((), reached, float(each.sum()), float(each.sum()), tuple(each.tolist()),
                          now.scene.image[0], scored, time.perf_counter() - started, reason)
