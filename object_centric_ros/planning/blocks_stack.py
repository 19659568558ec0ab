"""Single-step stacking with OP3 (section 5.1, appendix 6.5.1): which block to let go next, and from where.

A candidate is a picture of the scene with one more block in the air, as the task has it; the model says what it will
look like when it has settled. The cost of a candidate is that of the goal entity which it is to fill (greedy form of
eq. 5), and goal entities are filled once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.belief import Scene
from object_centric_ros.models.op3 import OP3
from object_centric_ros.planning.blocks_fit import Draw, Drop, Fits, Kind, Likeness, drop_of
from object_centric_ros.planning.blocks_inference import Explained
from object_centric_ros.planning.blocks_insert import inserted, settled
from object_centric_ros.planning.blocks_rollout import looks, pictures
from object_centric_ros.planning.cem import Floats, Ints, SearchConfig, Space, optimise
from object_centric_ros.planning.coarse import coarsened, subsampled
from object_centric_ros.planning.costs import (
    COSTS,
    JUDGE,
    OBJECTIVES,
    Pictures,
    composite_mse,
    latent_distance,
    latent_unit,
    picture_unit,
)

ORDERS = ('lowest', 'cheapest')
TURNS = dict.fromkeys(('cube', 'tetrahedron'), (0.0, pi / 8, pi / 4, 3 * pi / 8))
"""Turns about the vertical that are tried (rad); a quarter of a turn changes nothing."""
DARK = 0.1
"""A slot whose channels are all below this draws the black background."""


@dataclass(frozen=True)
class StackConfig:
    """How drops are searched.

    Attributes:
        cost: of a candidate, a name of `costs.OBJECTIVES`, in units of a goal entity that is elsewhere; with
            'composite' the judge of costs.py tells which goal entity the chosen one fills.
        order: which goal entity comes next: the 'lowest' in the picture that is not filled (what carries others comes
            first), or the 'cheapest', whichever a candidate fits best (the paper's).
        around: draw first candidates around the blocks that look most like the goal entity where it is seen (and count
            how much a candidate would look like it there), or uniformly (as published).
        search: the optimiser.
        stride: resolution of inference and costs.
        refinements: of a candidate's new slot.
        colour_spread, side_spread, air: of first draws: standard deviations of colours (RGB) and of x, and how far
            above its place a block is held.
        doubt: shapes that differ this much more from the goal entity are e times rarer in first draws.
    """

    cost: str = 'soft_iou'
    order: str = 'lowest'
    around: bool = True
    search: SearchConfig = field(default_factory=lambda: SearchConfig('cem', 30, 5, 2, spread=0.01))
    stride: int = 2
    refinements: int = 4
    colour_spread: float = 0.03
    side_spread: float = 0.04
    air: tuple[float, float] = (0.05, 0.3)
    doubt: float = 0.05

    def __post_init__(self) -> None:
        if self.cost not in OBJECTIVES:
            raise InputError('stacking: cost', f'one of {OBJECTIVES}', self.cost)
        if self.order not in ORDERS:
            raise InputError('stacking: order', f'one of {ORDERS}', self.order)


@dataclass(frozen=True)
class StackPlan:
    """The next block.

    Attributes:
        drop: what to let go.
        target: which goal entity (index of its things) it fills.
        cost: that the model expects for the pair.
        imagined: [3, H, W] what the model expects to see.
        scored: candidates; seconds: planning time.
    """

    drop: Drop
    target: int
    cost: float
    imagined: Tensor
    scored: int
    seconds: float


def lit(things: Pictures) -> Pictures:
    """Masks only where a thing is not black: before a black background it does not matter whose a pixel is."""
    return Pictures(things.masks * (things.colours.amax(2) > DARK), things.colours)


def _newest(scene: Scene) -> Pictures:
    return lit(Pictures(scene.masks[:, -1:], scene.colours[:, -1:]))


@dataclass(frozen=True)
class Proposals:
    """For one goal entity: the shapes as they look most like it, and the comparison."""

    likeness: Likeness
    fits: Fits


class StackPlanner:
    """Plans from pictures; never from the simulator's state.

    Args:
        model: OP3 without actions.
        shapes: what there is to choose from.
        bounds: ((x0, x1), (y0, y1), (z0, z1)) of drops.
        camera: of the pictures; depth: y at which goal entities are taken to be, which a picture does not tell.
        config: search and cost.
    """

    def __init__(self, model: OP3, shapes: Sequence[str], bounds: Sequence[tuple[float, float]],
                 camera: PinholeCamera, depth: float, config: StackConfig | None = None) -> None:
        self.config, self.camera, self.depth = config or StackConfig(), camera, depth
        self.kinds: tuple[Kind, ...] = tuple((shape, turn) for shape in shapes for turn in TURNS.get(shape, (0.0,)))
        if model.config.action_size:
            raise InputError('model', 'OP3 without actions', model.action_format)
        self.model = model
        self.fine, self.coarse = coarsened(model, 1), coarsened(model, self.config.stride)
        low, high = (np.array([b[i] for b in bounds], float) for i in (0, 1))
        if self.config.around:
            low[1] = high[1] = depth
        self.space = Space(np.append(low, [0, 0, 0]), np.append(high, [1, 1, 1]), len(self.kinds))

    @torch.no_grad()
    def plan(self, now: Explained, goal: Explained, left: Sequence[int], draw: Draw, rng: np.random.Generator,
             generator: torch.Generator) -> StackPlan:
        """The next block for one of the goal entities `left` (indices of goal.things, not empty)."""
        started, c = time.perf_counter(), self.config
        if not left:
            raise InputError('goal entities left', 'at least one', 'none')
        wanted = [self._lowest(goal, left)] if c.order == 'lowest' else list(left)
        present = self.coarse.decode(self.coarse.latents(now.belief))
        targets = self._pictures(self.coarse, goal, wanted)
        state = self.coarse.latents(now.belief)

        proposals = [self._proposals(now, goal, g, draw) for g in wanted] if c.around else []

        def score(choices: Ints, points: Floats) -> Floats:
            drops = [drop_of(self.kinds[i], p) for i, p in zip(choices[:, 0], points[:, 0], strict=True)]
            images = torch.from_numpy(draw(drops)).to(state.device).permute(0, 3, 1, 2).float() / 255
            seen = subsampled(images, c.stride)
            costs = []
            for part in seen.split(50):
                predicted = settled(self.coarse, state, inserted(self.coarse, present, part, c.refinements, generator))
                new = self.coarse.decode(predicted[:, -1:])
                scene = Scene(torch.cat([present.colours.expand(len(part), -1, -1, -1, -1), new.colours], 1),
                              torch.cat([present.mask_logits.expand(len(part), -1, -1, -1), new.mask_logits], 1))
                costs.append(self._costs(goal, wanted, targets, scene, predicted[:, -1:], c.stride).min(1).values)
            expected = torch.cat(costs).double().cpu().numpy()
            if not proposals:
                return expected
            there = [[replace(d, position=(d.position[0], d.position[1], float(p.fits.points[i, 2])))
                      for d, i in zip(drops, choices[:, 0], strict=True)] for p in proposals]
            # What it would look like in place tells shapes and colours apart that the model's pictures blur.
            return expected + np.min([p.likeness.costs(d) for p, d in zip(proposals, there, strict=True)], 0)
        around, prior = self._around(proposals, rng) if proposals else (None, None)
        found = optimise(self.space, score, c.search, rng, around, prior)
        drop = drop_of(self.kinds[found.choices[0]], found.points[0])
        cost, target, imagined = self._finish(now, goal, wanted, drop, draw, generator)
        return StackPlan(drop, target, cost, imagined, found.scored, time.perf_counter() - started)

    def _finish(self, now: Explained, goal: Explained, wanted: list[int], drop: Drop, draw: Draw,
                generator: torch.Generator) -> tuple[float, int, Tensor]:
        """The chosen one at full resolution: its cost, the goal entity that it fills, and what is expected."""
        image = torch.from_numpy(draw([drop])).to(self.model.initial_mean.device).permute(0, 3, 1, 2).float() / 255
        new = inserted(self.fine, now.scene, image, self.config.refinements, generator)
        predicted = settled(self.fine, self.fine.latents(now.belief), new)
        scene = self.fine.decode(predicted)
        targets = self._pictures(self.fine, goal, wanted)
        costs = self._costs(goal, wanted, targets, scene, predicted[:, -1:], 1)[0]
        fills = COSTS[JUDGE](targets, _newest(scene))[0, :, 0] if self.config.cost == 'composite' else costs
        best = int(fills.argmin())
        return float(costs[best]), wanted[best], scene.image[0]

    def _costs(self, goal: Explained, wanted: Sequence[int], targets: Pictures, scene: Scene, latents: Tensor,
               stride: int) -> Tensor:
        """Of each candidate for each of the goal entities `wanted` [N, W].

        Args:
            targets: what those look like; scene: the candidates, the new slot last; latents: of that [N, 1, Z].
        """
        name = self.config.cost
        if name == 'latent':
            slots = self.model.latents(goal.belief)[0]
            return latent_distance(slots[[goal.things[g] for g in wanted]], latents)[:, :, 0] / latent_unit(slots)
        if name == 'composite':
            mse = composite_mse(subsampled(goal.image, stride), scene.image) / picture_unit(targets)
            return mse[:, None].expand(-1, len(wanted))
        costs = COSTS[name](targets, _newest(scene))[:, :, 0]
        return costs / picture_unit(targets) if name == 'subimage' else costs

    def _pictures(self, model: OP3, goal: Explained, wanted: Sequence[int]) -> Pictures:
        scene = model.decode(model.latents(goal.belief))
        slots = [goal.things[g] for g in wanted]
        return lit(Pictures(scene.masks[:, slots], scene.colours[:, slots]))

    def _lowest(self, goal: Explained, left: Sequence[int]) -> int:
        """The one whose mask's centre is lowest in the picture; of some at one height the leftmost."""
        centres = looks(lit(pictures(goal)))[0][list(left)]
        level = np.round((centres[:, 1].max() - centres[:, 1]) / 4)
        return left[int(np.lexsort((centres[:, 0], level))[0])]

    def _proposals(self, now: Explained, goal: Explained, g: int, draw: Draw) -> Proposals:
        """The shapes as they look most like goal entity g."""
        mask = lit(pictures(goal)).masks[0, g]
        likeness = Likeness(goal.image, mask, now.image, draw)
        x, z = self._at_depth(looks(likeness.goal)[0][0])
        return Proposals(likeness, likeness.fit(self.kinds, np.array([x, self.depth, z]),
                                                lambda pixel: np.array(self._at_depth(pixel))))

    def _around(self, proposals: Sequence[Proposals], rng: np.random.Generator
                ) -> tuple[Callable[[Ints], Floats], Floats]:
        """Draws around the proposals, and weights of the shapes."""
        c, points = self.config, np.stack([p.fits.points for p in proposals])  # [W, S, 6]
        costs = np.stack([p.fits.costs for p in proposals])
        weight = np.exp(-(costs - costs.min(1, keepdims=True)) / c.doubt).sum(0) + 1e-3

        def draw(choices: Ints) -> NDArray[np.float64]:
            n = len(choices)
            drawn = points[rng.integers(len(points), size=n), choices[:, 0]].copy()
            drawn[:, 0] += c.side_spread * rng.standard_normal(n)
            drawn[:, 2] += rng.uniform(*c.air, n)
            drawn[:, 3:] += c.colour_spread * rng.standard_normal((n, 3))
            return np.clip(drawn, self.space.low, self.space.high)[:, None]
        return draw, weight

    def _at_depth(self, pixel: Floats) -> tuple[float, float]:
        """Where the ray of a pixel meets the plane y = depth: x and z."""
        camera = self.camera.square(self.model.config.image_size)
        ray = camera.rotation @ np.array([(pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy, 1.0])
        along = (self.depth - camera.position[1]) / ray[1]
        return float(camera.position[0] + along * ray[0]), float(camera.position[2] + along * ray[2])
