"""How far predicted entities are from those of a goal: what OP3's eq. 5 is summed over (appendix 6.3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.planning.assignment import pair_optimal

CLOSE = 0.1
"""Colours closer than this (L2 over channels) are the same to the paper's IoU, and one standard deviation to ours."""


@dataclass(frozen=True)
class Pictures:
    """What entities look like: masks [N, E, H, W] in [0, 1] and unmasked colours [N, E, 3, H, W]."""

    masks: Tensor
    colours: Tensor


def picture_distances(goal: Tensor, pictures: Tensor, seen: Tensor | None = None) -> Tensor:
    """Squared distance of masked sub-images, as a part of the goal entity's own energy.

    Args:
        goal: [G, P]; pictures: [N, E, P].
        seen: how much each pixel counts for each goal entity [G, P], in [0, 1]; None: all do.

    Returns:
        [N, G, E] in [0, 1]: 0 the same picture, 1 no better than an empty one.
    """
    weighted = goal if seen is None else goal * seen
    energy = (weighted * goal).sum(-1)
    cross = torch.einsum('gp,nep->nge', weighted, pictures)
    squares = (pictures.square().sum(-1)[:, None] if seen is None
               else torch.einsum('gp,nep->nge', seen, pictures.square()))
    distance = energy[None, :, None] + squares - 2 * cross
    return (distance / energy.clamp(min=1e-6)[None, :, None]).clamp(0, 1)


def assignment_cost(distances: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[dict[int, int]]]:
    """Eq. 5 with each predicted entity used once: the cheapest pairing of goal entities with entities.

    Args:
        distances: [N, G, E].

    Returns:
        cost of each candidate [N] (a goal entity without a partner costs 1), and the pairs goal -> entity.
    """
    cost, partner = pair_optimal(distances)
    return cost, [{g: int(e) for g, e in enumerate(row) if e >= 0} for row in partner]


def subimage_l2(goal: Pictures, things: Pictures) -> Tensor:
    """Mean squared difference of masked sub-images m_k C_k: the paper's cost of single-step stacking.

    Args:
        goal: of one scene [1, G, ...]; things: [N, E, ...].

    Returns:
        [N, G, E].
    """
    a, b = _subimage(goal).flatten(2)[0], _subimage(things).flatten(2)
    pixels = a.shape[-1]
    cross = torch.einsum('gp,nep->nge', a, b)
    return ((a.square().sum(-1)[None, :, None] + b.square().sum(-1)[:, None] - 2 * cross) / pixels).clamp(min=0)


def paper_iou(goal: Pictures, things: Pictures) -> Tensor:
    """1 - IoU that counts pixels where both masks are there and colours are alike (appendix 6.3.3): [N, G, E]."""
    here, there = goal.masks[0, None, :, None] > 0.01, things.masks[:, None] > 0.01
    alike = _colour_distance(goal, things) < CLOSE
    both = (here & there & alike).sum((-2, -1))
    return 1 - both / (here | there).sum((-2, -1)).clamp(min=1)


def released_iou(goal: Pictures, things: Pictures) -> Tensor:
    """The form of the released code: sub-images in place of masks, each channel on its own, and a sum for the union."""
    a, b = _subimage(goal)[0, None, :, None], _subimage(things)[:, None]
    here, there = a > 0.01, b > 0.01
    both = (here & there & ((a - b).square() < 0.08)).sum((-3, -2, -1))
    return 1 - both / (here.sum((-3, -2, -1)) + there.sum((-3, -2, -1))).clamp(min=1)


def soft_iou(goal: Pictures, things: Pictures) -> Tensor:
    """The paper's, without steps: sum of min(m_a, m_b) exp(-|C_a - C_b|^2 / (2 CLOSE^2)) / sum of max(m_a, m_b).

    Where the paper counts pixels this one changes with every fraction of a pixel, as a search wants it, and what is
    hidden in the goal behind its other entities is not held against a thing. As `subimage_l2`.
    """
    here = goal.masks[0, None, :, None]
    there = things.masks[:, None] * unhidden(goal)[None, :, None]
    alike = (_colour_distance(goal, things).square() * (-0.5 / CLOSE ** 2)).exp_()
    both = (torch.minimum(here, there) * alike).sum((-2, -1))
    return 1 - both / torch.maximum(here, there).sum((-2, -1)).clamp(min=1e-6)


def unhidden(goal: Pictures) -> Tensor:
    """For each goal entity the part of each pixel [G, H, W] that no other entity of the goal covers."""
    masks = goal.masks[0]
    return 1 - (masks.sum(0) - masks).clamp(0, 1)


def latent_distance(goal: Tensor, things: Tensor) -> Tensor:
    """Mean squared difference of latents: [G, D] and [N, E, D] -> [N, G, E]."""
    return (goal[None, :, None] - things[:, None]).square().mean(-1)


def composite_mse(goal: Tensor, images: Tensor) -> Tensor:
    """Mean squared difference of whole pictures, no entities (the paper's ablation): [3, H, W], [N, 3, H, W] -> [N]."""
    return (goal[None] - images).square().mean((1, 2, 3))


def picture_unit(goal: Pictures) -> Tensor:
    """What `subimage_l2` and `composite_mse` grow by when a goal entity is elsewhere: missed here, seen there.

    Twice the mean square of the goal's masked sub-images. An IoU grows by 1.
    """
    return 2 * _subimage(goal)[0].square().mean((1, 2, 3)).mean().clamp(min=1e-9)


def latent_unit(slots: Tensor) -> Tensor:
    """What `latent_distance` grows by, about: the mean over pairs of different slots [K, Z] of the goal, K >= 2."""
    apart = latent_distance(slots, slots[None])[0]
    return (apart.sum() / (len(slots) * (len(slots) - 1))).clamp(min=1e-9)


def _subimage(scene: Pictures) -> Tensor:
    return scene.masks[:, :, None] * scene.colours


def _colour_distance(goal: Pictures, things: Pictures) -> Tensor:
    """L2 over channels of unmasked colours [N, G, E, H, W]."""
    return (goal.colours[0, None, :, None] - things.colours[:, None]).square().sum(3).sqrt()


COSTS: dict[str, Callable[[Pictures, Pictures], Tensor]] = {
    'subimage': subimage_l2, 'paper_iou': paper_iou, 'released_iou': released_iou, 'soft_iou': soft_iou}
"""Distances of pairs of entities, by name."""

OBJECTIVES = (*COSTS, 'latent', 'composite')
"""What a search may minimise: these, the distance of latents, and that of whole pictures (the paper's ablation)."""
JUDGE, JUDGE_PAIRING = 'soft_iou', 'optimal'
"""What tells whether a goal entity is in place, whatever is minimised."""
