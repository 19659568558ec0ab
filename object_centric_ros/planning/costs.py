"""How far a scene is from a goal (OP3 section 3.3, eq. 5)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def picture_distances(goal: Tensor, pictures: Tensor) -> Tensor:
    """Squared distance of masked sub-images, as a part of the goal entity's own energy.

    Args:
        goal: [G, P]; pictures: [N, E, P].

    Returns:
        [N, G, E] in [0, 1]: 0 the same picture, 1 no better than an empty one.
    """
    energy = goal.square().sum(-1)
    cross = torch.einsum('gp,nep->nge', goal, pictures)
    distance = energy[None, :, None] + pictures.square().sum(-1)[:, None] - 2 * cross
    return (distance / energy.clamp(min=1e-6)[None, :, None]).clamp(0, 1)


def assignment_cost(distances: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[dict[int, int]]]:
    """Eq. 5 with each predicted entity used once: the cheapest pairing of goal entities with entities.

    Args:
        distances: [N, G, E].

    Returns:
        cost of each candidate [N] (a goal entity without a partner costs 1), and the pairs goal -> entity.
    """
    costs, pairs = np.empty(len(distances)), []
    for n, d in enumerate(distances):
        rows, columns = linear_sum_assignment(d)
        costs[n] = d[rows, columns].sum() + (d.shape[0] - len(rows))
        pairs.append(dict(zip(rows.tolist(), columns.tolist(), strict=True)))
    return costs, pairs
