"""Bouncing balls (R-NEM section 4 and A.1; OP3's coloured variant): discs that bounce off each other and the window.

Between events balls move in straight lines, and the time of the next event is known in closed form: many worlds advance
together from event to event, without time steps. Lengths are pixels, times frames; x points right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.flat_painting import colour, hsv_to_rgb, paint_discs

GENERATOR_VERSION = 1
FULLEST = 0.4
"""Largest share of the window that balls may cover: beyond it random places are hard to find."""
DRAWN = 256
"""Images that are drawn together: so many fit a processor's cache."""

FIELDS = {
    'frames': '[T, S, S, 1 or 3] 255 on balls and 0 elsewhere, or the balls in their colours on black',
    'labels': '[T, S, S] 0 background or curtain, i+1 ball i, 255 where balls overlap',
    'collisions': '[T, S, S] 1 on the pixels of balls that hit another ball since the frame before',
    'events': '[T] collisions between balls since the frame before',
    'positions': '[T, K, 2] centres x, y (pixels); NaN where there is no ball',
    'velocities': '[T, K, 2] (pixels per frame)',
    'masses': '[K] relative to a light ball',
    'radii': '[K] (pixels)',
    'curtain': '[4] left, top, right and bottom of the part of the window in which nothing is seen (pixels)',
    'colours': '[K, 3] RGB',
}
PRESETS: dict[str, dict[str, Any]] = {
    'rnem': {},
    'rnem_6_8': {'min_balls': 6, 'max_balls': 8},
    'rnem_curtain': {'min_balls': 3, 'max_balls': 3, 'heavy_share': 0.0, 'curtain': 26},
    'op3': {'steps': 21, 'min_balls': 3, 'max_balls': 3, 'heavy_share': 0.0, 'radius': 4.8, 'rim': 0.0, 'speed': 1.6,
            'equal_speeds': True, 'coloured': True},
}
"""The papers' data sets. R-NEM gives neither radii nor speeds nor the curtain's size: those are ours. OP3's ball has
radius 1.5 and speed 0.5 per frame in a window of 20 units."""


@dataclass(frozen=True)
class BallsConfig:
    """What the balls are like.

    Attributes:
        steps: frames in an episode, T (R-NEM trains on 30 of 51).
        size: side of the window (pixels), S.
        min_balls, max_balls: number of balls, drawn uniformly; the larger is K.
        radius: of a light ball (pixels).
        heavy_share: probability that a ball is of the heavy type.
        heavy_radius, heavy_mass: of the heavy type, relative to the light one.
        rim: drawn beyond the radius (pixels), so that balls share pixels when they touch.
        speed: root mean square over the balls at the start (pixels per frame).
        equal_speeds: whether every ball starts with that speed.
        curtain: side of the square that hides what is behind it (pixels); 0 for none.
        coloured: random colours instead of binary images.
    """

    steps: int = 51
    size: int = 64
    min_balls: int = 4
    max_balls: int = 4
    radius: float = 6.0
    heavy_share: float = 0.5
    heavy_radius: float = 1.25
    heavy_mass: float = 6.0
    rim: float = 0.5
    speed: float = 2.0
    equal_speeds: bool = False
    curtain: int = 0
    coloured: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (('steps', 1, None), ('size', 8, None), ('radius', 0.5, None), ('heavy_share', 0, 1),
                                ('heavy_radius', 0.1, None), ('heavy_mass', 0.01, 100), ('rim', 0, 1),
                                ('speed', 0, self.size), ('curtain', 0, self.size)):
            value = getattr(self, name)
            if not low <= value <= (np.inf if high is None else high):
                raise InputError(f'balls: {name}', f'at least {low}' if high is None else f'{low} to {high}', value)
        if not 1 <= self.min_balls <= self.max_balls <= 200:
            raise InputError('balls: balls', '1 <= min_balls <= max_balls <= 200', (self.min_balls, self.max_balls))
        covered = self.max_balls * np.pi * self.largest ** 2 / self.size ** 2
        if covered > FULLEST or 2 * self.largest >= self.size:
            raise InputError('balls: radius', f'balls that cover at most {FULLEST:.0%} of the window',
                             f'{self.max_balls} balls of up to {self.largest} pixels cover {covered:.0%}')

    @property
    def largest(self) -> float:
        """Radius of the largest ball that there can be (pixels)."""
        return self.radius * (max(1.0, self.heavy_radius) if self.heavy_share > 0 else 1.0)


class BallsWorld:
    """B windows with balls, advanced together; each depends on its own seed only.

    Attributes:
        positions, velocities: [B, K, 2] (pixels, pixels per frame).
        masses, radii: [B, K] (light ball = 1, pixels); present: [B, K], which balls there are.
        curtain: [B, 4] left, top, right, bottom (pixels).
        colours: [B, K, 3] RGB.
        hit: [B, K], which balls hit another ball in the last step; events: [B], how many times.

    Args:
        config: what the balls are like.
    """

    def __init__(self, config: BallsConfig | None = None) -> None:
        self.config = config or BallsConfig()
        self._pairs = np.triu_indices(self.config.max_balls, 1)

    def reset(self, seeds: Sequence[int | Sequence[int]]) -> None:
        """Start one window for each seed; the same seed gives the same window in every batch."""
        starts = [_start(self.config, np.random.default_rng(seed)) for seed in seeds]
        state = {k: np.stack([s[k] for s in starts]) for k in starts[0]}
        self.positions, self.velocities = state['positions'], state['velocities']
        self.masses, self.radii, self.present = state['masses'], state['radii'], state['present']
        self.curtain, self.colours = state['curtain'], state['colours']
        self.hit, self.events = np.zeros(self.present.shape, bool), np.zeros(len(starts), np.uint16)

    def step(self, action: NDArray[np.floating] | None = None) -> None:
        """Advance by one frame.

        Args:
            action: change of the velocities at the start of the step [B, K, 2] (pixels per frame), or None.
        """
        if action is not None:
            if action.shape != self.velocities.shape or not np.isfinite(action).all():
                raise InputError('action', f'{list(self.velocities.shape)} finite velocities', list(action.shape))
            self.velocities = self.velocities + np.where(self.present[..., None], action, 0)
        self.hit[:], self.events[:] = False, 0
        left, rows = np.ones(len(self.positions)), np.arange(len(self.positions))
        while len(rows):
            when, which = self._next_event(rows)
            last = when >= left[rows]
            move = np.where(last, left[rows], when)
            self.positions[rows] += self.velocities[rows] * move[:, None, None]
            left[rows] -= move
            rows, which = rows[~last], which[~last]
            self._bounce(rows, which)

    def _next_event(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """When the next bounce of these windows is (frames from now) and which: 2K walls, then the pairs."""
        x, v, r = self.positions[rows], self.velocities[rows], self.radii[rows, :, None]
        i, j = self._pairs
        with np.errstate(divide='ignore', invalid='ignore'):
            gap = np.where(v > 0, self.config.size - r - x, x - r)
            walls = np.where(v != 0, np.maximum(gap, 0) / np.abs(v), np.inf)
            # |d + t w| = reach is a t^2 + 2 b t + c = 0; c / (-b + root) is its first solution, also where a is tiny
            d, w, reach = x[:, i] - x[:, j], v[:, i] - v[:, j], r[:, i, 0] + r[:, j, 0]
            a = w[..., 0] * w[..., 0] + w[..., 1] * w[..., 1]
            b = d[..., 0] * w[..., 0] + d[..., 1] * w[..., 1]
            c = d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1] - reach * reach
            root = b * b - a * c
            meet = (b < 0) & (root > 0) & self.present[rows][:, i] & self.present[rows][:, j]
            pairs = np.where(meet, np.maximum(c, 0) / (np.sqrt(np.maximum(root, 0)) - b), np.inf)
        times = np.concatenate([walls.reshape(len(rows), -1), pairs], 1)
        which = times.argmin(1)
        return times[np.arange(len(rows)), which], which

    def _bounce(self, rows: NDArray[np.int64], which: NDArray[np.int64]) -> None:
        """Elastic bounces: the window at `rows` at its wall or pair `which`."""
        walls = 2 * self.config.max_balls
        at_wall = which < walls
        side, ball, axis = rows[at_wall], which[at_wall] // 2, which[at_wall] % 2
        self.velocities[side, ball, axis] *= -1
        rows, pair = rows[~at_wall], which[~at_wall] - walls
        i, j = self._pairs[0][pair], self._pairs[1][pair]
        d = self.positions[rows, i] - self.positions[rows, j]
        w = self.velocities[rows, i] - self.velocities[rows, j]
        along = (d[:, 0] * w[:, 0] + d[:, 1] * w[:, 1]) / (d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1])
        mi, mj = self.masses[rows, i], self.masses[rows, j]
        self.velocities[rows, i] -= (2 * mj / (mi + mj) * along)[:, None] * d
        self.velocities[rows, j] += (2 * mi / (mi + mj) * along)[:, None] * d
        self.hit[rows, i] = self.hit[rows, j] = True
        self.events[rows] += 1

    def render(self) -> dict[str, NDArray]:
        """What is seen now: frames [B, S, S, C], labels and collisions [B, S, S]; see `FIELDS`."""
        drawn = draw(self.config, self.positions[:, None].astype(np.float32), self.hit[:, None], self.present,
                     self.radii, self.curtain, self.colours)
        return {k: v[:, 0] for k, v in drawn.items()}


def _start(config: BallsConfig, rng: np.random.Generator) -> dict[str, NDArray]:
    """Random balls of one window, none of which overlap."""
    k = config.max_balls
    n = int(rng.integers(config.min_balls, k + 1))
    heavy = rng.random(k) < config.heavy_share
    radii = np.where(heavy, config.heavy_radius, 1.0) * config.radius
    velocities = rng.standard_normal((k, 2))
    velocities[n:] = 0
    squares = velocities[:, 0] * velocities[:, 0] + velocities[:, 1] * velocities[:, 1]
    scale = squares[:n, None] if config.equal_speeds else sum(squares.tolist()) / n
    velocities[:n] *= config.speed / np.sqrt(scale)
    hsv = rng.uniform([0.0, 0.5, 0.5], 1.0, (k, 3))
    corner = rng.integers(0, config.size - config.curtain + 1, 2) if config.curtain else np.zeros(2, np.int64)
    positions = None
    while positions is None:
        positions = _places(config.size, radii[:n], rng)
    return {'positions': np.concatenate([positions, np.zeros((k - n, 2))]), 'velocities': velocities,
            'masses': np.where(heavy, config.heavy_mass, 1.0), 'radii': radii, 'present': np.arange(k) < n,
            'curtain': np.concatenate([corner, corner + config.curtain]).astype(np.int16),
            'colours': np.rint(255 * hsv_to_rgb(hsv)).astype(np.uint8)}


def _places(size: int, radii: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64] | None:
    """Places [K, 2] for balls one after the other, each clear of those before; None if no place was found for one."""
    places = np.empty((len(radii), 2))
    for k, radius in enumerate(radii):
        tries = rng.uniform(radius, size - radius, (64, 2))
        d = tries[:, None] - places[:k]
        clear = (d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1] > (radii[:k] + radius) ** 2).all(1)
        if not clear.any():
            return None
        places[k] = tries[clear.argmax()]
    return places


def draw(config: BallsConfig, positions: NDArray[np.float32], hit: NDArray[np.bool_], present: NDArray[np.bool_],
         radii: NDArray[np.float64], curtain: NDArray[np.int16], colours: NDArray[np.uint8]) -> dict[str, NDArray]:
    """Images of episodes; see `FIELDS`.

    Args:
        config: what the balls are like.
        positions: [N, T, K, 2] (pixels); hit: [N, T, K].
        present, radii, colours: [N, K], [N, K] (pixels), [N, K, 3].
        curtain: [N, 4] (pixels).
    """
    n, t, k, _ = positions.shape
    s, channels = config.size, 3 if config.coloured else 1
    out = {'frames': np.empty((n * t, s, s, channels), np.uint8), 'labels': np.empty((n * t, s, s), np.uint8),
           'collisions': np.empty((n * t, s, s), np.uint8)}
    flat, touched = positions.reshape(n * t, k, 2), hit.reshape(n * t, k)
    for first in range(0, n * t, DRAWN):
        rows = np.arange(first, min(first + DRAWN, n * t))
        labels, collisions = paint_discs(flat[rows], radii[rows // t] + config.rim, present[rows // t], s,
                                         touched[rows])
        if config.curtain:
            for row, (left, top, right, bottom) in enumerate(curtain[rows // t]):
                labels[row, top:bottom, left:right] = 0
                collisions[row, top:bottom, left:right] = False
        out['labels'][rows], out['collisions'][rows] = labels, collisions
        out['frames'][rows] = colour(labels, colours[rows // t]) if config.coloured else (
            (labels > 0).view(np.uint8) * np.uint8(255))[..., None]
    return {name: values.reshape(n, t, *values.shape[1:]) for name, values in out.items()}


def make_batch(config: BallsConfig, seeds: Sequence[Sequence[int]]) -> dict[str, NDArray]:
    """Episodes with these seeds: field -> array [N, ...]; see `FIELDS`."""
    world = BallsWorld(config)
    world.reset(seeds)
    positions, velocities, hit, events = [], [], [], []
    for t in range(config.steps):
        if t:
            world.step()
        positions.append(world.positions.astype(np.float32))
        velocities.append(world.velocities.astype(np.float32))
        hit.append(world.hit.copy())
        events.append(world.events.copy())
    where = np.stack(positions, 1)
    out = draw(config, where, np.stack(hit, 1), world.present, world.radii, world.curtain, world.colours)
    seen = world.present[:, None, :, None]
    out |= {'events': np.stack(events, 1), 'positions': np.where(seen, where, np.float32(np.nan)),
            'velocities': np.where(seen, np.stack(velocities, 1), np.float32(np.nan)),
            'masses': np.where(world.present, world.masses, np.nan).astype(np.float32),
            'radii': np.where(world.present, world.radii, np.nan).astype(np.float32)}
    if config.curtain:
        out['curtain'] = world.curtain
    if config.coloured:
        out['colours'] = world.colours
    return out


def meta(config: BallsConfig) -> dict[str, Any]:
    """Facts for the episode file."""
    return {'generator': 'balls', 'generator_version': GENERATOR_VERSION}
