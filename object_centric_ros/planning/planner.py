"""From a tracked frame and a goal to a plan: CEM over (entity id, place xy) on imagined scenes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.planning.cem import search
from object_centric_ros.planning.commands import Command, Plan
from object_centric_ros.planning.costs import assignment_cost
from object_centric_ros.planning.feasibility import free_place, landing, squarely, supports
from object_centric_ros.planning.goal_images import explain_goal, missing
from object_centric_ros.planning.goals import Goal
from object_centric_ros.planning.imagination import Imagination, Imagined
from object_centric_ros.planning.matching import POOL, Match, alike, entity_distances, wanted_positions
from object_centric_ros.planning.matching import match as match_goal
from object_centric_ros.planning.relations import Relation, next_move
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.entities import TrackedFrame
from object_centric_ros.tracking.settings import TrackerConfig
from object_centric_ros.tracking.tracker import choose_device, load_weights, recorded_camera


class Planner:
    """Plans with a model that the tracker runs too.

    Args:
        model, record: a trained model and its record.
        camera: of the images; None = the record's.
        config: search and tolerances.
        seed: of all random draws; the same frame, goal and seed give the same plan.
        device: where to run.
    """

    def __init__(self, model: CycleModel, record: dict, camera: PinholeCamera | None = None,
                 config: PlannerConfig | None = None, seed: int = 0, device: str = 'auto') -> None:
        self.config = config or PlannerConfig()
        self.model = model.to(choose_device(device)).eval().requires_grad_(False)
        self.record, self.seed = record, seed
        self.camera = camera or recorded_camera(record)
        self.model_id = str(record.get('model_id', 'unsaved'))
        self.imagination = Imagination(self.model, self.camera, self.config.object_height)

    @classmethod
    def load(cls, path: str | None = None, camera: PinholeCamera | None = None, config: PlannerConfig | None = None,
             seed: int = 0, device: str = 'auto', threads: int = 0) -> Planner:
        """A planner from a model file (None: the shipped weights)."""
        if threads > 0:
            torch.set_num_threads(threads)
        model, record = load_weights(path, choose_device(device))
        return cls(model, record, camera, config, seed, device)

    def goal_from_image(self, image: NDArray[np.uint8], looks: int = 8) -> Goal:
        """The entities of a goal image [H, W, 3], found by the same tracker that watches the scene.

        Raises:
            InputError: the image does not fit the camera, or shows no entity.
        """
        return explain_goal(self.model, self.record, self.camera, image, looks, self.seed,
                            str(self.imagination.device))

    def goal_from_places(self, places: dict[int, tuple[float, float]]) -> Goal:
        """Places (x, y) in metres for entities.

        Raises:
            InputError: a place outside of the work area, or two that collide.
        """
        goal = Goal.from_places(places)
        x0, y0, x1, y1 = self.config.work_area
        for entity, (x, y) in goal.places:
            if not (x0 <= x <= x1 and y0 <= y <= y1):
                raise InputError(f'place of entity {entity}', f'x in [{x0}, {x1}] and y in [{y0}, {y1}] m',
                                 f'({x:.3f}, {y:.3f})')
        return goal

    def goal_from_relations(self, relations: Sequence[Relation]) -> Goal:
        """How entities shall stand to each other.

        Raises:
            InputError: relations that cannot hold together, or a region outside of the work area.
        """
        x0, y0, x1, y1 = self.config.work_area
        for r in relations:
            if r.region is not None and not (r.region[0] < x1 and r.region[2] > x0 and r.region[1] < y1
                                             and r.region[3] > y0):
                raise InputError(f'goal: region of entity {r.entity}', f'some of the work area {self.config.work_area}',
                                 r.region)
        return Goal.from_relations(relations)

    def plan(self, frame: TrackedFrame, goal: Goal, n_steps: int | None = None) -> Plan:
        """Commands that bring the scene closer to the goal, at most `n_steps` (None: one for each goal entity).

        Raises:
            InputError: the frame is of another model, shows nothing, or lacks an entity that the goal names.
        """
        began = time.perf_counter()
        torch.set_flush_denormal(True)  # as in the tracker
        if frame.model_id != self.model_id:
            raise InputError('entities', f'latents of model {self.model_id}', f'of {frame.model_id}')
        now = self.imagination.begin(frame)
        unknown = sorted(goal.ids - set(now.ids))
        if unknown:
            raise InputError('goal: entity id', f'among the visible {list(now.ids)}', unknown)
        sure = {e.id for e in frame.entities if e.visible and e.confidence >= self.config.minimum_confidence}
        rng = np.random.default_rng(self.seed)
        first = match = match_goal(now, goal, self.config)
        commands, costs, images, count = [], [match.cost], [self._image(now)], 0
        for _ in range(goal.size if n_steps is None else n_steps):
            if len(match.satisfied) == goal.size:
                break
            move, scored = self._next(now, goal, match, sure, rng)
            count += scored
            if move is None:
                break
            entity, place = move
            height = float(landing(now.positions, entity, place[None], self.config)[1][0])
            x, y, z = map(float, now.positions[entity])
            commands.append(Command(now.ids[entity], (x, y, z), (float(place[0]), float(place[1]), height)))
            now = self.imagination.apply(now, entity, place, height)
            match = match_goal(now, goal, self.config)
            costs.append(match.cost)
            images.append(self._image(now))
        reached, remark = len(first.satisfied) == goal.size, ''
        if reached and (hidden := missing(goal, frame.image, TrackerConfig().unexplained)):
            places = ', '.join(f'({u:.0f}, {v:.0f})' for u, v in hidden)
            reached, remark = False, (f'all entities that were found in the goal picture are in place, but it shows '
                                      f'something at {places} (model pixels) that the scene does not')
        return Plan(tuple(commands), tuple(costs), np.stack(images), first.error, reached, count,
                    time.perf_counter() - began, remark)

    def _next(self, now: Imagined, goal: Goal, match: Match, sure: set[int], rng: np.random.Generator
              ) -> tuple[tuple[int, NDArray[np.float64]] | None, int]:
        """The next move (entity index, place), or None; and how many candidates were looked at."""
        covered = {b for b in supports(now.positions, self.config) if b is not None}
        low = np.array(self.config.work_area[:2]) - self.config.margin
        high = np.array(self.config.work_area[2:]) + self.config.margin
        within = np.asarray(((now.positions[:, :2] >= low) & (now.positions[:, :2] <= high)).all(1))
        able = [i for i, name in enumerate(now.ids) if name in sure and i not in covered and within[i]]
        if goal.relations:
            return next_move(goal.relations, now.positions, now.ids, able, self.config, rng), 1
        wanted = wanted_positions(goal, self.config)
        under = supports(wanted, self.config)
        done = {match.partner[g] for g in match.satisfied}
        # What is to stand on another thing waits until that one is in place.
        waiting = {match.partner[g] for g in match.partner if under[g] is not None and under[g] not in match.satisfied}
        movable = [i for i in able if i not in done and i not in waiting]
        scored = 0
        if goal.places:
            for g in match.partner:
                i = match.partner[g]
                if g in match.satisfied or i not in movable:
                    continue
                if landing(now.positions, i, wanted[g:g + 1, :2], self.config)[0][0]:
                    return (i, wanted[g, :2]), 1
        elif movable:
            def score(which: NDArray[np.intp], places: NDArray[np.float64]) -> NDArray[np.float64]:
                return self._score(now, goal, which, places)
            low, high = np.array(self.config.work_area[:2]), np.array(self.config.work_area[2:])
            entity, place, cost, scored = search(movable, score, self.config, rng)
            proposed, places = self._proposals(now, match, wanted, movable)
            places = places.clip(low, high)
            costs = score(proposed, places)
            scored += len(costs)
            if len(costs) and costs.min() < cost:
                best = int(costs.argmin())
                entity, place, cost = int(proposed[best]), places[best], float(costs[best])
            if cost < match.cost - self.config.minimum_gain:
                return (entity, squarely(now.positions, entity, place, self.config).clip(low, high)), scored
        straight = None if goal.places else self._straight(now, goal, match, wanted, movable)
        return straight or self._make_way(now, match, wanted, under, able, rng), scored

    def _straight(self, now: Imagined, goal: Goal, match: Match, wanted: NDArray[np.float64], movable: list[int]
                  ) -> tuple[int, NDArray[np.float64]] | None:
        """A counterpart to its place where that is free or on a thing in place, whatever the imagined pictures say.

        Of what the goal shows of a thing behind others they can be too blurred to tell that a move helps.
        """
        same = alike(now, goal, self.config)[0]
        low, high = np.array(self.config.work_area[:2]), np.array(self.config.work_area[2:])
        for g, e in match.partner.items():
            place = wanted[g, :2].clip(low, high)
            away = np.linalg.norm(now.positions[e, :2] - place) > 2 * self.config.tolerance
            if g in match.satisfied or e not in movable or not same[g, e] or not away:
                continue
            fine, height = landing(now.positions, e, place[None], self.config)
            if fine[0] and abs(height[0] - wanted[g, 2]) < self.config.object_height:
                return e, squarely(now.positions, e, place, self.config).clip(low, high)
        return None

    @staticmethod
    def _proposals(now: Imagined, match: Match, wanted: NDArray[np.float64], movable: list[int]
                   ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Moves that random places rarely hit: to where the goal shows the counterpart, and onto each other thing."""
        moves = [(e, wanted[g, :2]) for g, e in match.partner.items() if e in movable]
        moves += [(i, place) for i in movable for j, place in enumerate(now.positions[:, :2]) if j != i]
        return np.array([e for e, _ in moves], int), np.array([xy for _, xy in moves], float).reshape(-1, 2)

    def _make_way(self, now: Imagined, match: Match, wanted: NDArray[np.float64], under: list[int | None],
                  able: list[int], rng: np.random.Generator) -> tuple[int, NDArray[np.float64]] | None:
        """Put aside a thing that stands where another has to go, or on one that has to move."""
        for g, e in match.partner.items():
            if g in match.satisfied:
                continue
            near = np.linalg.norm(now.positions[:, :2] - wanted[g, :2], axis=1) < self.config.clearance
            over = np.linalg.norm(now.positions[:, :2] - now.positions[e, :2], axis=1) < self.config.object_height
            over &= now.positions[:, 2] > now.positions[e, 2] + self.config.object_height
            below = under[g]
            base = None if below is None else match.partner.get(below)
            for i in able:
                if i not in (e, base) and (near[i] or over[i]):
                    keep = [(float(x), float(y)) for x, y in wanted[:, :2]]
                    place = free_place(now.positions, i, keep, self.config, rng)
                    if place is not None:
                        return i, place
        return None

    def _score(self, now: Imagined, goal: Goal, which: NDArray[np.intp], places: NDArray[np.float64]
               ) -> NDArray[np.float64]:
        """Eq. 5 of each candidate [N]; inf where the thing could not stand there."""
        costs = np.full(len(which), np.inf)
        fine = np.zeros(len(which), bool)
        for entity in np.unique(which):
            rows = which == entity
            there = np.linalg.norm(places[rows] - now.positions[entity, :2], axis=1) > self.config.tolerance / 2
            fine[rows] = landing(now.positions, int(entity), places[rows], self.config)[0] & there
        if fine.any():
            _, scene = self.imagination.moved(now, which[fine], places[fine])
            same = alike(now, goal, self.config)[0]
            pictures = self.imagination.pictures(now, which[fine], scene, POOL)
            costs[fine] = assignment_cost(entity_distances(goal, pictures, same))[0]
        return costs

    @staticmethod
    def _image(now: Imagined) -> NDArray[np.uint8]:
        image = now.scene().image[0].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        return (image * 255).round().astype(np.uint8)
