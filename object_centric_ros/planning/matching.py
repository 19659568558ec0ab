"""Goal entities against the scene: which entity should fill which, which do already, and what a scene costs (eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from object_centric_ros.planning.costs import assignment_cost, picture_distances
from object_centric_ros.planning.goals import Goal
from object_centric_ros.planning.imagination import Imagined
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.observation import chromaticity

POOL = 2
"""Costs are taken at half resolution."""
COVERS = 0.5
"""A goal entity of this brightness (largest channel of its picture) covers what is behind it."""
CLEARLY = 0.5
"""Colours differ clearly when they do by this part of the colour tolerance."""


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


def match(now: Imagined, goal: Goal, config: PlannerConfig) -> Match:
    """Which entity should fill each goal entity, and which do already."""
    if goal.relations:
        holding = {g for g, r in enumerate(goal.relations) if r.holds(now.positions, now.ids, config)}
        missing = goal.size - len(holding)
        return Match({}, holding, float('inf') if missing else 0.0, float(missing))
    if goal.places:
        partner = {g: now.ids.index(entity) for g, (entity, _) in enumerate(goal.places)}
        errors = {g: float(np.linalg.norm(now.positions[partner[g], :2] - xy))
                  for g, (_, xy) in enumerate(goal.places)}
        satisfied = {g for g, e in errors.items() if e <= config.tolerance}
        return Match(partner, satisfied, max(errors.values()), sum(min(1.0, e / 0.1) for e in errors.values()))
    same, colour = alike(now, goal, config)
    distances = entity_distances(goal, pictures_of(now)[None], same)
    cost, _ = assignment_cost(distances)
    wanted = wanted_positions(goal, config)
    apart = np.linalg.norm(wanted[:, None, :2] - now.positions[None, :, :2], axis=-1)
    level = np.abs(wanted[:, None, 2] - now.positions[None, :, 2]) < config.object_height
    # Looks decide; among like things the nearer one is meant.
    table = colour / config.colour_tolerance + 0.3 * np.minimum(1, apart / 0.1) + 0.1 * ~level
    partner = dict(zip(*(x.tolist() for x in linear_sum_assignment(table)), strict=True))
    # A picture that agrees outweighs a measured place that is a little off.
    near = apart <= config.tolerance
    near |= (apart <= 2 * config.tolerance) & (distances[0] <= config.same_picture)
    satisfied = {g for g, e in partner.items() if level[g, e] and near[g, e] and same[g, e]}
    worst = max(float(apart[g, e]) for g, e in partner.items()) if len(partner) == goal.size else float('inf')
    return Match(partner, satisfied, worst, float(cost[0]))


def alike(now: Imagined, goal: Goal, config: PlannerConfig) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which entity looks like which goal entity [G, E], and by how much their chromaticities differ [G, E]."""
    shades = [chromaticity(np.array(c)) for c in ([e.colour for e in goal.entities], now.hues)]
    difference = np.linalg.norm(shades[0][:, None] - shades[1][None], axis=-1)
    fewest = difference.min(0), difference.min(1, keepdims=True)
    # What is partly hidden shows a little of its neighbour, so what is no other's counterpart may differ more.
    mutual = (difference == fewest[0]) & (difference == fewest[1])
    limit = np.where(mutual, 1.5, 1.0) * config.colour_tolerance
    # Where both have a clearly better counterpart each, they are not meant: yellow is not the goal's orange.
    clearly = CLEARLY * config.colour_tolerance
    others = (difference > fewest[0] + clearly) & (difference > fewest[1] + clearly)
    return np.asarray((difference <= limit) & ~others), difference


def entity_distances(goal: Goal, pictures: torch.Tensor, same: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distances of pictures [N, E, P] to the goal's [N, G, E].

    A thing that looks different (not `same` [G, E]) cannot fill a goal entity, wherever it is.
    """
    wanted = torch.from_numpy(np.stack([e.picture for e in goal.entities])).to(pictures.device)
    wanted = torch.nn.functional.avg_pool2d(wanted, POOL).flatten(1)
    # What the goal hides of a thing behind others, as of a block that carries one, is not held against it.
    bright = wanted.reshape(len(wanted), 3, -1).amax(1)
    seen = 1 - ((bright.sum(0) - bright) / COVERS).clamp(0, 1)
    distances = picture_distances(wanted, pictures, seen.repeat(1, 3)).cpu().numpy()
    return np.where(same[None], distances, np.float32(1))


def pictures_of(now: Imagined) -> torch.Tensor:
    """Masked sub-images of the entities as they are [E, 3 * (S / POOL)^2]."""
    scene = now.scene()
    masked = (scene.masks[0, :, None] * scene.colours[0])[now.offset:]
    return torch.nn.functional.avg_pool2d(masked, POOL).flatten(1)


def wanted_positions(goal: Goal, config: PlannerConfig) -> NDArray[np.float64]:
    """Positions [G, 3] that the goal asks for."""
    if goal.places:
        return np.array([(x, y, config.object_height) for _, (x, y) in goal.places])
    return np.array([e.position for e in goal.entities])
