"""The cross-entropy method over (entity, place xy): a categorical and, for each entity, a Gaussian."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.planning.settings import PlannerConfig

Score = Callable[[NDArray[np.intp], NDArray[np.float64]], NDArray[np.float64]]


def search(movable: list[int], score: Score, config: PlannerConfig, rng: np.random.Generator
           ) -> tuple[int, NDArray[np.float64], float, int]:
    """The best single move.

    Args:
        movable: entities that may be picked, not empty.
        score: (entities [N], places [N, 2]) -> costs [N], inf where a place is not possible.
        rng: all randomness.

    Returns:
        entity, place (x, y) in metres, its cost (inf when nothing was possible) and how many candidates were scored.
    """
    low, high = np.array(config.work_area[:2]), np.array(config.work_area[2:])
    chance = np.full(len(movable), 1 / len(movable))
    mean = np.tile((low + high) / 2, (len(movable), 1))
    spread = np.full((len(movable), 2), np.inf)
    best: tuple[float, int, NDArray[np.float64]] = (np.inf, movable[0], mean[0])
    count = 0
    for _ in range(config.iterations):
        which = rng.choice(len(movable), config.population, p=chance)
        uniform = rng.uniform(low, high, (config.population, 2))
        noise = rng.standard_normal((config.population, 2))
        gaussian = mean[which] + noise * np.where(np.isinf(spread), 0, spread)[which]
        places = np.clip(np.where(np.isinf(spread[which]), uniform, gaussian), low, high)
        costs = score(np.asarray(movable)[which], places)
        count += len(costs)
        order = np.argsort(costs, kind='stable')[:config.elites]
        order = order[np.isfinite(costs[order])]
        if len(order) == 0:
            continue
        if costs[order[0]] < best[0]:
            best = (float(costs[order[0]]), movable[which[order[0]]], places[order[0]])
        weight = np.bincount(which[order], minlength=len(movable)) / len(order)
        chance = (1 - config.smoothing) * weight + config.smoothing / len(movable)
        for i in range(len(movable)):
            chosen = places[order[which[order] == i]]
            if len(chosen):
                mean[i] = chosen.mean(0)
                spread[i] = np.maximum(chosen.std(0), 0.004) if len(chosen) > 1 else 0.02
    return best[1], best[2], best[0], count
