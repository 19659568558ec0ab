"""Where blocks are and where they have to go, as far as pictures and the camera tell: starts of a search, not its end.

A mask's centre is a ray. A goal entity's ray meets each level on which a block can stand (the table, a block, two
blocks) once, which gives a few places worth trying; the model imagines and judges them. Things that are seen stand
where the ray meets the table, unless that is outside of the workspace or the thing looks too large to be so far away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.planning.blocks_inference import Explained
from object_centric_ros.planning.blocks_rollout import looks, pictures
from object_centric_ros.planning.cem import Floats, Ints

LEVELS = 3
OUTSIDE = 0.4
"""Rays may meet a level this far outside of the workspace, in widths of a block; places are moved into it."""
ALIKE = 0.15
"""Colours (L2 of RGB) this far apart are one standard deviation apart when it is drawn what goes where."""
STRANGE = 0.02
"""What a goal entity of another colour still weighs then."""
SLACK = 0.1
"""Blocks that stand side by side are a width and this apart, in widths."""
TRIES = 64


@dataclass(frozen=True)
class Standing:
    """Where things are seen.

    Attributes:
        places: x, y [E, 2]; below: the thing on which each stands [E], -1 where that is the table.
    """

    places: Floats
    below: Ints


@dataclass(frozen=True)
class Targets:
    """Places worth trying.

    Attributes:
        places: x, y [P, 2]; levels: blocks below each [P]; entities: the goal entity of each [P].
        weight: how well its colour fits each thing [E, P].
    """

    places: Floats
    levels: Ints
    entities: Ints
    weight: Floats


class Places:
    """Reads places off pictures.

    Args:
        camera: of the pictures, square and of their size.
        height: of the centre of a block on the table; half its width.
        low, high: the workspace.
    """

    def __init__(self, camera: PinholeCamera, height: float, low: Floats, high: Floats) -> None:
        self.camera, self.height, self.low, self.high, self.width = camera, height, low, high, 2 * height

    def standing(self, scene: Explained) -> Standing:
        """Where the things of a scene are, and what stands on what."""
        there = pictures(scene)
        centres = looks(there)[0]
        ground, raised = (self._on(centres, level) for level in (0, 1))
        side = there.masks[0].sum((1, 2)).sqrt().double().cpu().numpy()
        places, below = ground.copy(), np.full(len(ground), -1)
        for e in range(len(ground)):
            under = [t for t in range(len(ground)) if t != e and centres[t, 1] > centres[e, 1]
                     and np.abs(raised[e] - ground[t]).max() < 0.75 * self.width]
            # A silhouette is about 1.14 times as wide as the block's face.
            sizes = [self._pixels_wide(p, level) * 1.14 for p, level in ((ground[e], 0), (raised[e], 1))]
            too_large = side[e] > (sizes[0] * sizes[1]) ** 0.5
            if under and (self._outside(ground[e]) or too_large):
                below[e] = min(under, key=lambda t: float(np.abs(raised[e] - ground[t]).max()))
                places[e] = raised[e]
        return Standing(places, below)

    def targets(self, now: Explained, goal: Explained, open_: Ints) -> Targets:
        """Places for goal entities `open_` (indices of goal.things) that are not in place yet."""
        centres, shades = looks(pictures(goal))
        mine = looks(pictures(now))[1]
        places, levels, entities = [], [], []
        for level in range(LEVELS):
            for g, place in zip(open_, self._on(centres[open_], level), strict=True):
                if not self._outside(place):
                    places.append(np.clip(place, self.low, self.high))
                    levels.append(level)
                    entities.append(int(g))
        at, of = np.array(places).reshape(-1, 2), np.array(entities, np.intp)
        away = np.linalg.norm(mine[:, None] - shades[of][None], axis=-1)
        weight = np.exp(-0.5 * np.square(away / ALIKE)) + STRANGE
        return Targets(at, np.array(levels, np.intp), of, weight)

    def close(self, pixels: Floats, others: Floats, limit: float) -> NDArray[np.bool_]:
        """Whether pairs of rays [N, 2] meet the table less than `limit` from each other on both axes."""
        return np.asarray(np.abs(self._on(pixels, 0) - self._on(others, 0)).max(1) <= limit)

    def in_the_way(self, standing: Standing, place: Floats, ignore: set[int]) -> int | None:
        """The closest thing that a block let go over `place` would touch; None: there is none."""
        away = np.abs(standing.places - place).max(1)
        near = [int(t) for t in np.argsort(away, kind='stable')
                if away[t] < (1 + SLACK) * self.width and t not in ignore]
        return near[0] if near else None

    def aside(self, standing: Standing, thing: int, targets: Targets, rng: np.random.Generator) -> Floats:
        """The emptiest of some random places, away from other things and from where things have to go."""
        tries = rng.uniform(self.low, self.high, (TRIES, 2))
        taken = np.concatenate([np.delete(standing.places, thing, 0), targets.places])
        gap = np.abs(tries[:, None] - taken[None]).max(-1).min(1, initial=np.inf)
        return np.asarray(tries[gap.argmax()])

    def steady(self, standing: Standing, targets: Targets, in_place: set[int]) -> NDArray[np.bool_]:
        """Targets [P] that are free, on the table, or have something below them that is in place."""
        away = np.abs(targets.places[:, None] - standing.places[None]).max(-1)  # [P, E]
        there = np.isin(np.arange(away.shape[1]), list(in_place))
        free = (away > (1 + SLACK) * self.width).all(1)
        held = (away[:, there] < self.width).any(1) & (away[:, ~there] > (1 + SLACK) * self.width).all(1)
        return np.where(targets.levels == 0, free, held)

    def _on(self, pixels: Floats, level: int) -> Floats:
        """Where rays meet the plane of the centres of blocks that stand on `level` others [N, 2]."""
        return self.camera.to_plane(pixels, (2 * level + 1) * self.height)[:, :2]

    def _outside(self, place: Floats) -> bool:
        """Also where the ray meets nothing."""
        slack = OUTSIDE * self.width
        return not bool(((place >= self.low - slack) & (place <= self.high + slack)).all())

    def _pixels_wide(self, place: Floats, level: int) -> float:
        """Of the face of a block there."""
        point = np.array([*place, (2 * level + 1) * self.height])
        depth = float((point - self.camera.position) @ self.camera.rotation[:, 2])
        return self.camera.fx * self.width / max(depth, 1e-6)
