"""Optimisers over short sequences of actions, each a choice and a point: CEM, random shooting and MPPI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.planning.settings import PlannerConfig

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]
Score = Callable[[Ints, Floats], Floats]
"""(choices [N, H], points [N, H, A]) -> costs [N]; inf where a candidate is not possible."""
METHODS = ('cem', 'random', 'mppi')


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        low, high: bounds of a point [A].
        choices: how many things there are to choose from at each step; 1 where nothing is chosen.
        horizon: H, steps.
    """

    low: Floats
    high: Floats
    choices: int = 1
    horizon: int = 1

    def __post_init__(self) -> None:
        low, high = np.asarray(self.low, float), np.asarray(self.high, float)
        if low.ndim != 1 or low.shape != high.shape or not (low <= high).all():
            raise InputError('search space', 'bounds low <= high of one length', (self.low, self.high))
        if self.choices < 1 or self.horizon < 1:
            raise InputError('search space', 'choices >= 1 and horizon >= 1', (self.choices, self.horizon))
        object.__setattr__(self, 'low', low)
        object.__setattr__(self, 'high', high)


@dataclass(frozen=True)
class SearchConfig:
    """How it is searched.

    Attributes:
        method: 'cem': the next draws follow the `elites` best; 'mppi': all draws, weighed by exp(-cost / temperature);
            'random': every iteration draws uniformly.
        population, elites, iterations: of one search.
        smoothing: part of the first distribution over choices that always stays.
        momentum: part of the mean and spread of points that each iteration keeps (0: none).
        spread: smallest standard deviation of points.
        temperature: of MPPI, in units of cost.
    """

    method: str = 'cem'
    population: int = 200
    elites: int = 20
    iterations: int = 5
    smoothing: float = 0.1
    momentum: float = 0.0
    spread: float = 0.05
    temperature: float = 0.05

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError('search.method', f'one of {METHODS}', self.method)
        if not 0 < self.elites <= self.population or self.iterations < 1:
            raise InputError('search', '0 < elites <= population, iterations >= 1',
                             f'elites {self.elites}, population {self.population}, iterations {self.iterations}')
        if not 0 <= self.smoothing <= 1 or not 0 <= self.momentum < 1 or self.spread < 0 or self.temperature <= 0:
            raise InputError('search', 'smoothing in [0, 1], momentum in [0, 1), spread >= 0, temperature > 0', self)


@dataclass(frozen=True)
class Found:
    """The best candidate.

    Attributes:
        choices: [H]; points: [H, A]; cost: theirs (inf: nothing was possible).
        centre: middle of what the last iteration would draw for these choices [H, A]; the best point where unknown.
        scored: candidates.
    """

    choices: Ints
    points: Floats
    cost: float
    centre: Floats
    scored: int


def optimise(space: Space, score: Score, config: SearchConfig, rng: np.random.Generator,
             draw: Callable[[Ints], Floats] | None = None, prior: Floats | None = None) -> Found:
    """Search a mixed space: at each step a categorical over choices, and a Gaussian over points for each choice.

    Args:
        rng: all randomness.
        draw: choices [n, H] -> points [n, H, A], where a choice knows none better; None: uniform in the space.
        prior: weights of choices at first and in what smoothing keeps [O], above 0; None: all alike.
    """
    h, o, n, a = space.horizon, space.choices, config.population, len(space.low)
    first = np.full(o, 1 / o) if prior is None else prior / prior.sum()
    chance, steps = np.tile(first, (h, 1)), np.arange(h)
    known = np.zeros((h, o), bool)
    mean, spread = np.zeros((h, o, a)), np.zeros((h, o, a))
    best, best_cost = (np.zeros(h, np.intp), np.tile((space.low + space.high) / 2, (h, 1))), np.inf
    scored = 0
    for _ in range(config.iterations):
        choices = np.stack([rng.choice(o, n, p=chance[t]) for t in range(h)], 1)
        drawn = known[steps, choices][..., None]
        points = mean[steps, choices] + rng.standard_normal((n, h, a)) * spread[steps, choices]
        if not drawn.all():
            points = np.where(drawn, points, rng.uniform(space.low, space.high, (n, h, a)) if draw is None
                              else draw(choices))
        points = np.clip(points, space.low, space.high)
        costs = np.asarray(score(choices, points), float)
        scored += n
        order = np.argsort(costs, kind='stable')[:np.isfinite(costs).sum()]
        if not len(order):
            continue
        if costs[order[0]] < best_cost:
            best, best_cost = (choices[order[0]].copy(), points[order[0]].copy()), float(costs[order[0]])
        if config.method == 'random':
            continue
        weight = np.zeros(n)
        if config.method == 'cem':
            weight[order[:config.elites]] = 1
        else:
            weight[order] = np.exp((costs[order[0]] - costs[order]) / config.temperature)
        for t in range(h):
            share = np.bincount(choices[:, t], weight, o)
            chance[t] = (1 - config.smoothing) * share / share.sum() + config.smoothing * first
            for i in np.flatnonzero(share):
                mine = weight * (choices[:, t] == i) / share[i]
                centre = mine @ points[:, t]
                # One elite says where, not how sure: a tenth of the space.
                alone = np.count_nonzero(mine > 1e-3) < 2
                width = (space.high - space.low) / 10 if alone else np.sqrt(mine @ np.square(points[:, t] - centre))
                if known[t, i] and config.momentum:
                    centre = config.momentum * mean[t, i] + (1 - config.momentum) * centre
                    width = config.momentum * spread[t, i] + (1 - config.momentum) * width
                mean[t, i], spread[t, i], known[t, i] = centre, np.maximum(width, config.spread), True
    centre = np.where(known[steps, best[0]][:, None], mean[steps, best[0]], best[1])
    return Found(*best, best_cost, centre, scored)


def search(movable: list[int], score: Callable[[Ints, Floats], Floats], config: PlannerConfig,
           rng: np.random.Generator) -> tuple[int, Floats, float, int]:
    """The best single move of one of some things on the table.

    Args:
        movable: entities that may be picked, not empty.
        score: (entities [N], places [N, 2]) -> costs [N], inf where a place is not possible.
        rng: all randomness.

    Returns:
        entity, place (x, y) in metres, its cost (inf when nothing was possible) and how many candidates were scored.
    """
    names = np.asarray(movable)
    found = optimise(Space(np.array(config.work_area[:2]), np.array(config.work_area[2:]), len(movable)),
                     lambda choices, points: score(names[choices[:, 0]], points[:, 0]),
                     SearchConfig('cem', config.population, config.elites, config.iterations, config.smoothing,
                                  spread=0.004), rng)
    return movable[int(found.choices[0])], found.points[0], found.cost, found.scored
