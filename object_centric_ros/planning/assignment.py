"""Which predicted entity stands for which goal entity (OP3 eq. 5): three ways to pair them, many scenes at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import permutations
from math import perm

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[np.floating]
Pairing = tuple[NDArray[np.float64], NDArray[np.intp]]
MISSING = 1.0
"""What a goal entity without a partner costs: as much as one that is nowhere near."""
_TABLE = 800  # pairings that are tried one by one; beyond them scipy, scene by scene


def pair_minimum(distances: Array, missing: float = MISSING) -> Pairing:
    """Each goal entity with the entity that is closest to it, as in eq. 5: one may stand for several.

    Args:
        distances: [N, G, E].
        missing: cost of a goal entity where there is no entity at all.

    Returns:
        cost of each scene [N], and the partner of each goal entity [N, G] (-1: none).
    """
    n, g, e = distances.shape
    if not e:
        return np.full(n, missing * g), np.full((n, g), -1)
    partner = distances.argmin(2)
    return np.take_along_axis(distances, partner[..., None], 2).sum((1, 2)).astype(float), partner


def pair_greedy(distances: Array, missing: float = MISSING) -> Pairing:
    """The closest pair of all, then the closest of what is left, and so on; each entity once. As `pair_minimum`."""
    n, g, e = distances.shape
    left, rows = distances.astype(float), np.arange(n)
    cost, partner = np.full(n, missing * max(0, g - e)), np.full((n, g), -1)
    for _ in range(min(g, e)):
        a, b = np.divmod(left.reshape(n, -1).argmin(1), e)
        cost += left[rows, a, b]
        partner[rows, a] = b
        left[rows, a], left[rows, :, b] = np.inf, np.inf
    return cost, partner


def pair_optimal(distances: Array, missing: float = MISSING) -> Pairing:
    """The pairing with the smallest sum in which each entity is used once. As `pair_minimum`."""
    n, g, e = distances.shape
    turned = g > e
    d = (distances.swapaxes(1, 2) if turned else distances).astype(float)
    few, many = min(g, e), max(g, e)
    if not few:
        return np.full(n, missing * g), np.full((n, g), -1)
    if perm(many, few) <= _TABLE:
        table = _pairings(few, many)
        sums = d[:, np.arange(few), table].sum(2)
        chosen = table[sums.argmin(1)]
    else:
        chosen = np.stack([linear_sum_assignment(one)[1] for one in d]) if n else np.zeros((0, few), np.intp)
    cost = np.take_along_axis(d, chosen[..., None], 2).sum((1, 2)) + missing * (g - few)
    if not turned:
        return cost, chosen
    partner = np.full((n, g), -1)
    np.put_along_axis(partner, chosen, np.arange(few)[None].repeat(n, 0), 1)
    return cost, partner


@lru_cache(maxsize=32)
def _pairings(few: int, many: int) -> NDArray[np.intp]:
    return np.array(list(permutations(range(many), few)), np.intp).reshape(-1, few)


PAIRINGS: dict[str, Callable[[Array, float], Pairing]] = {
    'minimum': pair_minimum, 'greedy': pair_greedy, 'optimal': pair_optimal}
