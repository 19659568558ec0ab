"""Single-step stacking with OP3 (section 5.1, appendix 6.5.1): which block to let go next, and from where.

A candidate is a picture of the scene with one more block in the air, as the task has it; the model says what it will
look like when it has settled. The cost of a candidate is that of the goal entity which it is to fill (greedy form of
eq. 5), and goal entities are filled once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.belief import Scene
from object_centric_ros.models.op3 import OP3
from object_centric_ros.planning.blocks_inference import Explained
from object_centric_ros.planning.blocks_insert import inserted, settled
from object_centric_ros.planning.blocks_rollout import looks, pictures
from object_centric_ros.planning.cem import Floats, Ints, SearchConfig, Space, optimise
from object_centric_ros.planning.coarse import coarsened, subsampled
from object_centric_ros.planning.costs import COSTS, Pictures

ORDERS = ('lowest', 'cheapest')
DARK = 0.1
"""A slot whose channels are all below this draws the black background."""
Draw = Callable[[Sequence['Drop']], NDArray[np.uint8]]
"""Blocks, one at a time, held in the air over the present scene -> pictures uint8 [N, H, W, 3]; the task gives it."""


@dataclass(frozen=True)
class Drop:
    """A block to let go: its shape, colour RGB, and position x, y, z."""

    shape: str
    rgb: tuple[float, float, float]
    position: tuple[float, float, float]


@dataclass(frozen=True)
class StackConfig:
    """How drops are searched.

    Attributes:
        cost: of a pair, a name of `costs.COSTS`.
        order: which goal entity comes next: the 'lowest' in the picture that is not filled (what carries others comes
            first), or the 'cheapest', whichever a candidate fits best (the paper's).
        around: draw first candidates around what the goal shows, or uniformly (as published).
        search: the optimiser.
        stride: resolution of inference and costs.
        refinements: of a candidate's new slot.
        colour_spread, side_spread, air: of first draws: standard deviations of colours (RGB) and of x, and how far
            above its place a block is held.
    """

    cost: str = 'soft_iou'
    order: str = 'lowest'
    around: bool = True
    search: SearchConfig = field(default_factory=lambda: SearchConfig('cem', 60, 8, 2, spread=0.01))
    stride: int = 2
    refinements: int = 4
    colour_spread: float = 0.15
    side_spread: float = 0.1
    air: tuple[float, float] = (0.1, 0.5)

    def __post_init__(self) -> None:
        if self.cost not in COSTS:
            raise InputError('stacking: cost', f'one of {tuple(COSTS)}', self.cost)
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
        self.config, self.shapes, self.camera, self.depth = config or StackConfig(), tuple(shapes), camera, depth
        if model.config.action_size:
            raise InputError('model', 'OP3 without actions', model.action_format)
        self.model = model
        self.fine, self.coarse = coarsened(model, 1), coarsened(model, self.config.stride)
        low, high = (np.array([b[i] for b in bounds], float) for i in (0, 1))
        if self.config.around:
            low[1] = high[1] = depth
        self.space = Space(np.append(low, [0, 0, 0]), np.append(high, [1, 1, 1]), len(self.shapes))

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

        def score(choices: Ints, points: Floats) -> Floats:
            drops = [self._drop(i, p) for i, p in zip(choices[:, 0], points[:, 0], strict=True)]
            images = torch.from_numpy(draw(drops)).to(state.device).permute(0, 3, 1, 2).float() / 255
            seen = subsampled(images, c.stride)
            costs = []
            for part in seen.split(50):
                predicted = settled(self.coarse, state, inserted(self.coarse, present, part, c.refinements, generator))
                new = self.coarse.decode(predicted[:, -1:])
                scene = Scene(torch.cat([present.colours.expand(len(part), -1, -1, -1, -1), new.colours], 1),
                              torch.cat([present.mask_logits.expand(len(part), -1, -1, -1), new.mask_logits], 1))
                last = lit(Pictures(scene.masks[:, -1:], scene.colours[:, -1:]))
                costs.append(COSTS[c.cost](targets, last)[:, :, 0].min(1).values)
            return torch.cat(costs).double().cpu().numpy()
        around = self._around(goal, wanted, rng) if c.around else None
        found = optimise(self.space, score, c.search, rng, around)
        drop = self._drop(found.choices[0], found.points[0])
        cost, target, imagined = self._finish(now, goal, wanted, drop, draw, generator)
        return StackPlan(drop, target, cost, imagined, found.scored, time.perf_counter() - started)

    def _finish(self, now: Explained, goal: Explained, wanted: list[int], drop: Drop, draw: Draw,
                generator: torch.Generator) -> tuple[float, int, Tensor]:
        """The chosen one at full resolution: its cost, the goal entity that it fills, and what is expected."""
        image = torch.from_numpy(draw([drop])).to(self.model.initial_mean.device).permute(0, 3, 1, 2).float() / 255
        new = inserted(self.fine, now.scene, image, self.config.refinements, generator)
        predicted = settled(self.fine, self.fine.latents(now.belief), new)
        scene = self.fine.decode(predicted)
        last = lit(Pictures(scene.masks[:, -1:], scene.colours[:, -1:]))
        costs = COSTS[self.config.cost](self._pictures(self.fine, goal, wanted), last)[0, :, 0]
        best = int(costs.argmin())
        return float(costs[best]), wanted[best], scene.image[0]

    def _drop(self, shape: int, point: Floats) -> Drop:
        x, y, z, r, g, b = (float(v) for v in point)
        return Drop(self.shapes[int(shape)], (r, g, b), (x, y, z))

    def _pictures(self, model: OP3, goal: Explained, wanted: Sequence[int]) -> Pictures:
        scene = model.decode(model.latents(goal.belief))
        slots = [goal.things[g] for g in wanted]
        return lit(Pictures(scene.masks[:, slots], scene.colours[:, slots]))

    def _lowest(self, goal: Explained, left: Sequence[int]) -> int:
        """The one whose mask's centre is lowest in the picture; of some at one height the leftmost."""
        centres = looks(lit(pictures(goal)))[0][list(left)]
        level = np.round((centres[:, 1].max() - centres[:, 1]) / 4)
        return left[int(np.lexsort((centres[:, 0], level))[0])]

    def _around(self, goal: Explained, wanted: Sequence[int], rng: np.random.Generator) -> Callable[[Ints], Floats]:
        """Draws around where goal entities are seen, in the colours that they have there."""
        centres, colours = looks(lit(pictures(goal)))
        places = np.array([self._at_depth(centres[g]) for g in wanted])
        shades = np.clip(colours[list(wanted)], 0, 1)
        c = self.config

        def draw(choices: Ints) -> NDArray[np.float64]:
            n = len(choices)
            which = rng.integers(len(wanted), size=n)
            x = places[which, 0] + c.side_spread * rng.standard_normal(n)
            z = places[which, 1] + rng.uniform(*c.air, n)
            rgb = shades[which] + c.colour_spread * rng.standard_normal((n, 3))
            points = np.column_stack([x, np.full(n, self.depth), z, rgb])
            return np.clip(points, self.space.low, self.space.high)[:, None]
        return draw

    def _at_depth(self, pixel: Floats) -> tuple[float, float]:
        """Where the ray of a pixel meets the plane y = depth: x and z."""
        camera = self.camera.square(self.model.config.image_size)
        ray = camera.rotation @ np.array([(pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy, 1.0])
        along = (self.depth - camera.position[1]) / ray[1]
        return float(camera.position[0] + along * ray[0]), float(camera.position[2] + along * ray[2])
