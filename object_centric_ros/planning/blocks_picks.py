"""Where a blind hand gets an entity: by what the dynamics attend to, or by where its mask is (OP3 appendix 6.5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.interaction import InteractionDynamics
from object_centric_ros.models.op3 import OP3
from object_centric_ros.planning.blocks_inference import Explained

MODES = ('attention', 'centroid', 'both')
MOVES = 0.5
"""An action moves the entity that others attend to more than this (mean over the others, in (0, 1))."""
STEP = 0.1
"""Distance of the picks that are looked at; a pick gets what is less than 0.2 away."""
AGREE = 0.35
"""Two estimates farther apart than this are not averaged."""
OFFSET = np.array([-0.05, -0.11])
"""The middle of what draws attention is that far from a block's centre with the published weights (35 blocks at random:
standard deviations 0.08 and 0.07, standard errors below 0.015)."""

REGION = 0.6
"""Picks of one thing are not farther apart than this on any axis."""


@dataclass(frozen=True)
class Grasps:
    """How to get the things of a scene.

    Attributes:
        points: pick x, y of each [E, 2]; sure: whether it gets the thing at all, by the model [E].
        attention: that each pick of the grid draws from each thing [P, E], in (0, 1).
    """

    points: NDArray[np.float64]
    sure: NDArray[np.bool_]
    attention: NDArray[np.float64]


class Picks:
    """Finds picks for the entities of a scene.

    The paper averages picks, weighed by the attention that each draws. With the interaction attention of the published
    weights this is sharp: it is near one where the pick gets the entity and near zero elsewhere. Here picks lie on a
    grid in place of 500 random ones, and what is below half of the best counts nothing, so that the mean of the whole
    workspace does not mix in.

    Args:
        model: OP3 with actions.
        workspace: ((x0, x1), (y0, y1)).
        camera: for 'centroid' and 'both'; height: plane on which centroids are projected.
        mode: one of MODES.
    """

    def __init__(self, model: OP3, workspace: tuple[tuple[float, float], tuple[float, float]],
                 camera: PinholeCamera | None, height: float, mode: str) -> None:
        if mode not in MODES:
            raise InputError('picks', f'one of {MODES}', mode)
        if camera is None and mode != 'attention':
            raise InputError('picks at centroids', 'a camera', 'none')
        self.model, self.camera, self.height, self.mode = model, camera, height, mode
        self.low, self.high = (np.array([bounds[i] for bounds in workspace], float) for i in (0, 1))
        axes = [np.linspace(*bounds, 1 + round((bounds[1] - bounds[0]) / STEP)) for bounds in workspace]
        self.grid = np.stack([g.ravel() for g in np.meshgrid(*axes)], 1)

    @torch.no_grad()
    def of(self, now: Explained, rng: np.random.Generator) -> Grasps:
        """How to get each thing."""
        places = rng.uniform(self.low, self.high, (len(self.grid), 2))
        attention = self.attention(now, np.column_stack([self.grid, places]))[:, list(now.things)].double()
        drawn = attention.cpu().numpy()
        best = drawn.max(0)
        weight = np.where(drawn >= 0.5 * best, drawn, 0)
        points = weight.T @ self.grid / np.maximum(weight.sum(0), 1e-9)[:, None] - OFFSET
        if self.camera is not None and self.mode != 'attention':
            centroids = self._centroids(now)
            close = np.linalg.norm(centroids - points, axis=1) < AGREE
            averaged = np.where(close[:, None], (centroids + points) / 2, points)
            points = centroids if self.mode == 'centroid' else averaged
        return Grasps(np.clip(points, self.low, self.high), best > MOVES, drawn)

    def middle(self, grasps: Grasps, pick: NDArray[np.float64]) -> NDArray[np.float64]:
        """The middle of the picks around `pick` [2] that move the same thing: to the model they are all as good."""
        away = np.abs(self.grid - pick).max(1)
        drawn = grasps.attention[:, grasps.attention[away.argmin()].argmax()]
        weight = np.where((drawn >= 0.5 * drawn.max()) & (away < REGION), drawn, 0)
        if weight.sum() < 1e-6:
            return pick
        return np.clip(weight @ self.grid / weight.sum() - OFFSET, self.low, self.high)

    def attention(self, now: Explained, actions: NDArray[np.float64]) -> Tensor:
        """What each slot draws from the others when an action is told [N, K], in (0, 1)."""
        told = torch.from_numpy(actions).float().to(now.belief.mean.device)
        state = self.model.latents(now.belief).expand(len(told), -1, -1)
        return cast(InteractionDynamics, self.model.dynamics).interact(state, told).attention.mean(-1)

    def _centroids(self, now: Explained) -> NDArray[np.float64]:
        """Mask centroids on the plane of block centres [E, 2]."""
        assert self.camera is not None
        owner = now.scene.mask_logits[0].argmax(0).cpu().numpy()
        pixels = [np.argwhere(owner == k)[:, ::-1].mean(0) + 0.5 for k in now.things]
        return self.camera.square(owner.shape[0]).to_plane(np.array(pixels), self.height)[:, :2]
