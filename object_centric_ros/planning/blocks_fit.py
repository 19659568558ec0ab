"""Which block a goal entity is: every shape is drawn where the entity is seen, moved and coloured until it looks alike.

Proposals for the search only. The picture of a block in the air is what the task gives for any candidate; here it is
asked for with the block at its goal's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.planning.blocks_rollout import looks
from object_centric_ros.planning.cem import Floats
from object_centric_ros.planning.costs import Pictures, soft_iou

DIFFERENT = 10 / 255
"""A pixel shows something new when a channel differs by more than this."""
STEPS = 5
DIM = 0.6
"""First colours are that much darker than what is seen: the light may make colours full that are not."""
FULL = 0.98
Kind = tuple[str, float]
"""A shape and its turn about the vertical (rad)."""
Draw = Callable[[Sequence['Drop']], NDArray[np.uint8]]
"""Blocks, one at a time, held in the air over the present scene -> pictures uint8 [N, H, W, 3]; the task gives it."""


@dataclass(frozen=True)
class Drop:
    """A block to let go: its shape, colour RGB, position x, y, z, and turn about the vertical (rad)."""

    shape: str
    rgb: tuple[float, float, float]
    position: tuple[float, float, float]
    yaw: float = 0.0


@dataclass(frozen=True)
class Fits:
    """Each kind of block as it looks most like a goal entity.

    Attributes:
        points: x, y, z, r, g, b of each kind [S, 6]; costs: how much it differs then [S], in [0, 1].
    """

    points: Floats
    costs: Floats


class Likeness:
    """Compares blocks held at a goal entity's place with what is seen of it.

    Args:
        image: the goal [3, H, W]; mask: where the entity is in it [H, W].
        present: the scene as it is [3, H, W].
        draw: see `Draw`.
    """

    def __init__(self, image: Tensor, mask: Tensor, present: Tensor, draw: Draw) -> None:
        self.draw, self.present = draw, present
        self.goal = Pictures((mask * self._new(image[None])[0])[None, None], image[None, None])

    def costs(self, drops: Sequence[Drop]) -> Floats:
        """How little blocks resemble the entity [N]: `soft_iou` of what is new in their pictures."""
        return np.asarray(soft_iou(self.goal, self.blocks(drops))[:, 0, 0].double().cpu().numpy())

    def blocks(self, drops: Sequence[Drop]) -> Pictures:
        """The blocks alone."""
        images = torch.from_numpy(self.draw(drops)).to(self.present.device).permute(0, 3, 1, 2).float() / 255
        return Pictures(self._new(images)[:, None], images[:, None])

    def _new(self, images: Tensor) -> Tensor:
        """Where pictures [N, 3, H, W] show something new; shadows, which only darken, do not count [N, H, W]."""
        return (images > self.present + DIFFERENT).any(1).float()

    def fit(self, kinds: Sequence[Kind], start: Floats, at: Callable[[Floats], Floats]) -> Fits:
        """All kinds, each moved by the difference of mask centres and coloured by what differs where both are seen.

        Args:
            start: x, y, z [3] where the middle of the entity's mask is.
            at: pixel [2] -> x, z.
        """
        centres, shades = looks(self.goal)
        wanted = at(centres[0])
        best_points, best = np.zeros((len(kinds), 6)), np.full(len(kinds), np.inf)
        full = np.zeros((len(kinds), 3), bool)
        points = np.tile(np.append(start, np.clip(shades[0], 0.05, 1) * DIM), (len(kinds), 1))
        for _ in range(STEPS):
            seen = self.blocks([drop_of(k, p) for k, p in zip(kinds, points, strict=True)])
            costs = soft_iou(self.goal, seen)[:, 0, 0].double().cpu().numpy()
            better = costs < best
            best, best_points = np.where(better, costs, best), np.where(better[:, None], points, best_points)
            points = points.copy()
            for i in range(len(kinds)):
                if not float(seen.masks[i].sum()):
                    continue
                centre = looks(Pictures(seen.masks[i:i + 1], seen.colours[i:i + 1]))[0][0]
                x, z = wanted - at(centre)
                points[i, 0], points[i, 2] = points[i, 0] + x, points[i, 2] + z
                ratio, full_now = self._brighter(seen.masks[i, 0], seen.colours[i, 0])
                full[i] = full_now if better[i] else full[i]
                points[i, 3:] = np.clip(points[i, 3:] * ratio, 0.02, 1)
        # Where the light makes a channel full, all from the darkest that does to one look the same: the middle.
        best_points[:, 3:] = np.where(full, (best_points[:, 3:] + 1) / 2, best_points[:, 3:])
        return Fits(best_points, best)

    def _brighter(self, mask: Tensor, colours: Tensor) -> tuple[Floats, NDArray[np.bool_]]:
        """Ratio of the entity's colour to a block's where both are seen [3], from what is not full in both, and whether
        most is [3]."""
        here, wanted = self.goal.masks[0, 0] * mask, self.goal.colours[0, 0]
        weight = here * ((wanted < FULL) | (colours < FULL))
        mine, theirs = ((weight * c).sum((1, 2)) for c in (colours, wanted))
        ratio = torch.where(weight.sum((1, 2)) > 1, theirs / mine.clamp(min=1e-3), torch.ones_like(mine))
        full = weight.sum((1, 2)) < 0.5 * here.sum()
        return np.asarray(ratio.clamp(0.25, 4).double().cpu().numpy()), full.cpu().numpy()


def drop_of(kind: Kind, point: Floats) -> Drop:
    """From x, y, z, r, g, b."""
    x, y, z, r, g, b = (float(v) for v in point)
    return Drop(kind[0], (r, g, b), (x, y, z), kind[1])
