"""From a tracked frame and a goal to a plan: CEM over (entity id, place xy) on imagined scenes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.planning.cem import search
from object_centric_ros.planning.commands import Command, Plan
from object_centric_ros.planning.costs import assignment_cost, picture_distances
from object_centric_ros.planning.feasibility import free_place, landing, squarely, supports
from object_centric_ros.planning.goals import Goal
from object_centric_ros.planning.imagination import Imagination, Imagined
from object_centric_ros.planning.relations import Relation, next_move
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.entities import TrackedFrame
from object_centric_ros.tracking.observation import chromaticity
from object_centric_ros.tracking.tracker import EntityTracker, choose_device, load_weights, recorded_camera

POOL = 2  # costs are taken at half resolution
COVERS = 0.5  # a goal entity of this brightness (largest channel of its picture) covers what is behind it


@dataclass(frozen=True)
class Match:
    """Goal entities against the scene.

    Attributes:
        partner: goal index -> entity index that should fill it.
        satisfied: goal indices that hold.
        error: worst distance (m) of a goal entity to its partner; inf where one has none.
        cost: eq. 5; of relations, how many do not hold.
    """

    partner: dict[int, int]
    satisfied: set[int]
    error: float
    cost: float


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
        """The entities of a goal image [H, W, 3], found by the same tracker that watches the scene."""
        tracker = EntityTracker(self.model, self.record, self.camera, device=str(self.imagination.device),
                                seed=self.seed)
        frame = tracker.step(image, stamp=0.0)
        for look in range(1, looks):
            frame = tracker.step(image, stamp=float(look) / 10)
        return Goal.from_frame(frame)

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
        first = match = self.match(now, goal)
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
            match = self.match(now, goal)
            costs.append(match.cost)
            images.append(self._image(now))
        reached = len(first.satisfied) == goal.size
        return Plan(tuple(commands), tuple(costs), np.stack(images), first.error, reached, count,
                    time.perf_counter() - began)

    def match(self, now: Imagined, goal: Goal) -> Match:
        """Which entity should fill each goal entity, and which do already."""
        if goal.relations:
            holding = {g for g, r in enumerate(goal.relations) if r.holds(now.positions, now.ids, self.config)}
            missing = goal.size - len(holding)
            return Match({}, holding, float('inf') if missing else 0.0, float(missing))
        if goal.places:
            partner = {g: now.ids.index(entity) for g, (entity, _) in enumerate(goal.places)}
            errors = {g: float(np.linalg.norm(now.positions[partner[g], :2] - xy))
                      for g, (_, xy) in enumerate(goal.places)}
            satisfied = {g for g, e in errors.items() if e <= self.config.tolerance}
            return Match(partner, satisfied, max(errors.values()), sum(min(1.0, e / 0.1) for e in errors.values()))
        alike, colour = self._alike(now, goal)
        distances = self._distances(goal, self._pictures(now)[None], alike)
        cost, _ = assignment_cost(distances)
        wanted = self._wanted(goal)
        apart = np.linalg.norm(wanted[:, None, :2] - now.positions[None, :, :2], axis=-1)
        level = np.abs(wanted[:, None, 2] - now.positions[None, :, 2]) < self.config.object_height
        # Looks decide; among like things the nearer one is meant.
        table = colour / self.config.colour_tolerance + 0.3 * np.minimum(1, apart / 0.1) + 0.1 * ~level
        partner = dict(zip(*(x.tolist() for x in linear_sum_assignment(table)), strict=True))
        # A picture that agrees outweighs a measured place that is a little off.
        near = apart <= self.config.tolerance
        near |= (apart <= 2 * self.config.tolerance) & (distances[0] <= self.config.same_picture)
        satisfied = {g for g, e in partner.items() if level[g, e] and near[g, e] and alike[g, e]}
        worst = max(float(apart[g, e]) for g, e in partner.items()) if len(partner) == goal.size else float('inf')
        return Match(partner, satisfied, worst, float(cost[0]))

    def _alike(self, now: Imagined, goal: Goal) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which entity looks like which goal entity [G, E], and by how much their chromaticities differ [G, E]."""
        shades = [chromaticity(np.array(c)) for c in ([e.colour for e in goal.entities], now.hues)]
        difference = np.linalg.norm(shades[0][:, None] - shades[1][None], axis=-1)
        # What is partly hidden shows a little of its neighbour, so what is no other's counterpart may differ more.
        mutual = (difference == difference.min(0)) & (difference == difference.min(1, keepdims=True))
        limit = np.where(mutual, 1.5, 1.0) * self.config.colour_tolerance
        return np.asarray(difference <= limit), difference

    def _distances(self, goal: Goal, pictures: torch.Tensor, alike: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Distance of pictures [N, G, E]; a thing that looks different cannot fill a goal entity, wherever it is."""
        wanted = self._goal_pictures(goal)
        # What the goal hides of a thing behind others, as of a block that carries one, is not held against it.
        bright = wanted.reshape(len(wanted), 3, -1).amax(1)
        seen = 1 - ((bright.sum(0) - bright) / COVERS).clamp(0, 1)
        distances = picture_distances(wanted, pictures, seen.repeat(1, 3)).cpu().numpy()
        return np.where(alike[None], distances, np.float32(1))

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
        wanted = self._wanted(goal)
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
        return self._make_way(now, match, wanted, under, able, rng), scored

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
            pictures = self.imagination.pictures(now, which[fine], scene, POOL)
            costs[fine] = assignment_cost(self._distances(goal, pictures, self._alike(now, goal)[0]))[0]
        return costs

    def _wanted(self, goal: Goal) -> NDArray[np.float64]:
        """Positions [G, 3] that the goal asks for."""
        if goal.places:
            return np.array([(x, y, self.config.object_height) for _, (x, y) in goal.places])
        return np.array([e.position for e in goal.entities])

    def _goal_pictures(self, goal: Goal) -> torch.Tensor:
        pictures = torch.from_numpy(np.stack([e.picture for e in goal.entities])).to(self.imagination.device)
        return torch.nn.functional.avg_pool2d(pictures, POOL).flatten(1)

    def _pictures(self, now: Imagined) -> torch.Tensor:
        scene = now.scene()
        masked = (scene.masks[0, :, None] * scene.colours[0])[now.offset:]
        return torch.nn.functional.avg_pool2d(masked, POOL).flatten(1)

    @staticmethod
    def _image(now: Imagined) -> NDArray[np.uint8]:
        image = now.scene().image[0].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        return (image * 255).round().astype(np.uint8)
