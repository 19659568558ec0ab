"""Active-dSprites (OBAI appendix A): squares, ellipses and hearts that move in lines and obey action fields.

The sprites are flat, lie one behind the other and move by fractions of a pixel, so their edges are anti-aliased. Also
the static pictures of Multi-dSprites. Lengths are pixels, times frames; x points right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.flat_painting import Canvas, hsv_to_rgb, offsets

GENERATOR_VERSION = 1
SHAPES = ('square', 'ellipse', 'heart')
DRAWN = 32
"""Images that are drawn together: so many fit a processor's cache."""
ELLIPSE = (1.2, 0.8)
"""Half axes of an ellipse, relative to half the side of the square of its scale."""
HEART = 0.9
"""Half the diagonal of a heart's lower square, likewise; its two half discs sit on the upper sides."""

FIELDS = {
    'frames': '[T, S, S, 1 or 3] RGB, or a single channel for white sprites',
    'labels': '[T, S, S] 0 background, i+1 sprite i, that which covers most of the pixel; higher numbers lie in front',
    'actions': '[T-1, K+1, 4] the action field between frames t and t+1 where it is not zero: pixel u and v of frame '
               't, acceleration x and y (pixels per frame squared); row i is on sprite i, row K on the background, '
               'zero rows stand for nothing',
    'accelerations': '[T-1, K, 2] what the field amounts to for each sprite (OBAI eq. 7)',
    'positions': '[T, K, 2] centres x, y (pixels); NaN where there is no sprite',
    'velocities': '[T, K, 2] (pixels per frame)',
    'shapes': '[K] 0 square, 1 ellipse, 2 heart',
    'scales': '[K] size relative to the largest',
    'angles': '[K] (rad, clockwise in the image)',
    'colours': '[K, 3] RGB',
    'background': '[3] RGB',
}
PRESETS: dict[str, dict[str, Any]] = {
    'active': {},
    'static': {'steps': 1},
    'multi_binarised': {'steps': 1, 'min_sprites': 2, 'max_sprites': 3, 'rotated': True, 'colours': 'white',
                        'background': 'black', 'smooth': False},
    'multi_on_grey': {'steps': 1, 'min_sprites': 2, 'max_sprites': 5, 'rotated': True, 'colours': 'hsv'},
    'multi_on_colour': {'steps': 1, 'min_sprites': 1, 'max_sprites': 4, 'rotated': True, 'colours': 'rgb',
                        'background': 'colour'},
}
"""OBAI's data, one frame of it, and the three versions of Multi-dSprites (Multi-Object Datasets)."""


@dataclass(frozen=True)
class SpritesConfig:
    """What the sprites are like.

    Attributes:
        steps: frames in an episode, T.
        size: side of an image (pixels), S.
        min_sprites, max_sprites: number of sprites, drawn uniformly; the larger is K.
        largest: side of a square of scale 1 (pixels).
        smallest_scale: scales are uniform between it and 1.
        rotated: random orientations; otherwise all upright.
        colours: 'levels' (each channel one of `colour_levels` equally spaced values from 0 to 255), 'rgb' (any), 'hsv'
            (any hue, saturation and value at least 0.5) or 'white'.
        colour_levels: see `colours`. The paper says "discrete intervals" and not how many.
        background: 'grey' (random), 'colour' (random) or 'black'.
        smooth: anti-aliased edges; otherwise a pixel shows what covers more than half of it.
        speed: standard deviation of each component of a velocity at the start (pixels per frame).
        acceleration: the same of those in action fields (pixels per frame squared).
        action_frames: the frames, counted from 0, that are followed by an action field.
    """

    steps: int = 4
    size: int = 64
    min_sprites: int = 3
    max_sprites: int = 3
    largest: float = 22.0
    smallest_scale: float = 0.5
    rotated: bool = False
    colours: str = 'levels'
    colour_levels: int = 5
    background: str = 'grey'
    smooth: bool = True
    speed: float = 4.0
    acceleration: float = 4.0
    action_frames: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for name, low, high in (('steps', 1, None), ('size', 8, None), ('largest', 2, self.size / 2),
                                ('smallest_scale', 0.01, 1), ('colour_levels', 2, 256), ('speed', 0, self.size),
                                ('acceleration', 0, self.size)):
            value = getattr(self, name)
            if not low <= value <= (np.inf if high is None else high):
                raise InputError(f'sprites: {name}', f'at least {low}' if high is None else f'{low} to {high}', value)
        if not 1 <= self.min_sprites <= self.max_sprites <= 200:
            raise InputError('sprites: sprites', '1 <= min_sprites <= max_sprites <= 200',
                             (self.min_sprites, self.max_sprites))
        for name, choices in (('colours', ('levels', 'rgb', 'hsv', 'white')),
                              ('background', ('grey', 'colour', 'black'))):
            if getattr(self, name) not in choices:
                raise InputError(f'sprites: {name}', ' or '.join(choices), getattr(self, name))
        if any(frame < 0 for frame in self.action_frames):
            raise InputError('sprites: action_frames', 'frames counted from 0', self.action_frames)


class SpritesWorld:
    """B scenes of sprites, advanced together; each depends on its own seed only.

    Attributes:
        positions, velocities: [B, K, 2] (pixels, pixels per frame); present: [B, K], which sprites there are.
        shapes, scales, angles, colours, background: see `FIELDS`, with a leading B.

    Args:
        config: what the sprites are like.
    """

    def __init__(self, config: SpritesConfig | None = None) -> None:
        self.config = config or SpritesConfig()

    def reset(self, seeds: Sequence[int | Sequence[int]]) -> None:
        """Start one scene for each seed; the same seed gives the same scene in every batch."""
        self._rngs = [np.random.default_rng(seed) for seed in seeds]
        state = _start(self.config, self._rngs)
        self.positions, self.velocities, self.present = state['positions'], state['velocities'], state['present']
        self.shapes, self.scales, self.angles = state['shapes'], state['scales'], state['angles']
        self.colours, self.background, self._turns = state['colours'], state['background'], state['turns']
        self._seen: dict[str, NDArray] | None = None

    def render(self) -> dict[str, NDArray]:
        """What is seen now: frames [B, S, S, C] and labels [B, S, S]; see `FIELDS`."""
        if self._seen is None:
            self._seen = draw(self.config, self.positions.astype(np.float32), self.present, self.shapes, self.scales,
                              self._turns, self.colours, self.background)
        return self._seen

    def step(self, field: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        """Advance by one frame, under an action field or freely.

        Args:
            field: accelerations at pixels [B, 2, S, S] (x right, y down; pixels per frame squared), or None.

        Returns:
            The acceleration of each sprite [B, K, 2] (OBAI eq. 7, without the noise of its model).
        """
        shape = (*self.present.shape, 2)
        if field is None:
            return self.push(np.zeros(shape))
        want = (shape[0], 2, self.config.size, self.config.size)
        if field.shape != want or not np.isfinite(field).all():
            raise InputError('action field', f'{list(want)} finite accelerations', list(field.shape))
        return self.push(accelerations(self.render()['labels'], field, shape[1]))

    def push(self, acceleration: NDArray[np.floating]) -> NDArray[np.float64]:
        """Advance by one frame with each sprite accelerated: s' += a, then s += s' (OBAI eq. 5 and 6 in pixels).

        Args:
            acceleration: [B, K, 2] (pixels per frame squared); those of absent sprites are left out.

        Returns:
            The accelerations that were applied [B, K, 2].
        """
        if acceleration.shape != self.velocities.shape or not np.isfinite(acceleration).all():
            raise InputError('acceleration', f'{list(self.velocities.shape)} finite values', list(acceleration.shape))
        applied = np.where(self.present[..., None], acceleration, 0.0)
        self.velocities = self.velocities + applied
        self.positions = self.positions + self.velocities
        self._seen = None
        return applied

    def sample_actions(self) -> NDArray[np.float32]:
        """A sparse action field for what is seen now, sampled as in OBAI section 2.4: [B, K+1, 4], see `FIELDS`.

        Every sprite that can be seen receives one acceleration at one of its pixels, and so does the background.
        """
        labels, k = self.render()['labels'], self.config.max_sprites
        actions = np.zeros((len(labels), k + 1, 4), np.float32)
        for rng, image, rows in zip(self._rngs, labels.reshape(len(labels), -1), actions, strict=True):
            order = np.argsort(image, kind='stable')  # the pixels of each label, one label after the other
            first = np.searchsorted(image[order], np.arange(k + 2))
            draws, values = rng.random(k + 1), rng.standard_normal((k + 1, 2)) * self.config.acceleration
            for row in range(k + 1):
                label = (row + 1) % (k + 1)
                count = first[label + 1] - first[label]
                if count:
                    pixel = order[first[label] + int(draws[row] * count)]
                    rows[row] = pixel % self.config.size, pixel // self.config.size, *values[row]
        return actions


def dense_field(actions: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """Action fields [..., 2, S, S] of sparse ones [..., M, 4]: pixel u, v and acceleration x, y in each row.

    Rows at the same pixel add up.
    """
    lead, flat = actions.shape[:-2], actions.reshape(-1, *actions.shape[-2:])
    pixel = flat[..., :2].astype(np.int64)
    if flat.size and (pixel.min() < 0 or pixel.max() >= size):
        raise InputError('actions', f'pixels from 0 to {size - 1}', (int(pixel.min()), int(pixel.max())))
    field = np.zeros((len(flat), 2, size, size), np.float32)
    image = np.arange(len(flat))[:, None]
    for axis in range(2):
        np.add.at(field[:, axis], (image, pixel[..., 1], pixel[..., 0]), flat[..., 2 + axis])
    return field.reshape(*lead, 2, size, size)


def accelerations(labels: NDArray[np.uint8], field: NDArray[np.floating], sprites: int) -> NDArray[np.float64]:
    """a_k = sum_i [m_i = k] psi_i (OBAI eq. 7): [B, K, 2] from labels [B, S, S] and a field psi [B, 2, S, S]."""
    total = np.zeros((len(labels), sprites + 1, 2))
    image, axis, v, u = np.nonzero(field)
    np.add.at(total, (image, labels[image, v, u], axis), field[image, axis, v, u])
    return total[:, 1:]


def _start(config: SpritesConfig, rngs: Sequence[np.random.Generator]) -> dict[str, NDArray]:
    """Random sprites of B scenes, their centres at least half a side away from the border."""
    k = config.max_sprites
    counts, shapes = np.empty(len(rngs), np.int64), np.empty((len(rngs), k), np.uint8)
    uniform, normal = np.empty((len(rngs), k + 1, 7)), np.empty((len(rngs), k, 2))
    for i, rng in enumerate(rngs):
        counts[i] = rng.integers(config.min_sprites, k + 1)
        shapes[i] = rng.integers(0, len(SHAPES), k)
        rng.random(out=uniform[i])
        rng.standard_normal(out=normal[i])
    scales = config.smallest_scale + (1 - config.smallest_scale) * uniform[:, :k, 0]
    angles = 2 * np.pi * uniform[:, :k, 1] * config.rotated
    room = config.largest * scales[..., None] / 2
    positions = room + (config.size - 2 * room) * uniform[:, :k, 2:4]
    present = np.arange(k) < counts[:, None]
    hues = uniform[..., 4:]
    if config.colours == 'levels':
        colours = np.floor(hues * config.colour_levels) * (255 / (config.colour_levels - 1))
    elif config.colours == 'hsv':
        colours = 255 * hsv_to_rgb(np.array([0.0, 0.5, 0.5]) + np.array([1.0, 0.5, 0.5]) * hues)
    else:
        colours = np.floor(hues * 256) if config.colours == 'rgb' else np.full(hues.shape, 255.0)
    ground = {'grey': np.floor(uniform[:, k, :1] * 256).repeat(3, 1), 'colour': np.floor(hues[:, k] * 256),
              'black': np.zeros((len(rngs), 3))}[config.background]
    return {'positions': positions * present[..., None], 'velocities': normal * config.speed * present[..., None],
            'present': present, 'shapes': shapes, 'scales': scales, 'angles': angles,
            'turns': np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32),
            'colours': np.rint(colours[:, :k]).astype(np.uint8), 'background': ground.astype(np.uint8)}


def coverage(shape: int, x: NDArray[np.float32], y: NDArray[np.float32], half: NDArray[np.float32]
             ) -> NDArray[np.float32]:
    """Share of each pixel that a sprite covers, in [0, 1].

    Args:
        shape: index into `SHAPES`.
        x, y: from the sprite's centre to the pixel's, along the sprite's axes (pixels).
        half: half the side of the square of the sprite's scale (pixels).
    """
    if shape == 0:
        return _box(x, y, half)
    if shape == 1:
        a, b = ELLIPSE[0] * half, ELLIPSE[1] * half
        u, v = x / a, y / b
        slope = np.sqrt((u / a) ** 2 + (v / b) ** 2) + np.float32(1e-6)
        return np.clip(np.float32(0.5) - (u * u + v * v - 1) / (2 * slope), 0, 1)
    diagonal = np.float32(HEART) * half
    y = y + np.float32((np.sqrt(0.5) - 0.5) / 2) * diagonal  # the box around the heart has its middle at the centre
    turn, side = np.float32(np.sqrt(0.5)), np.float32(np.sqrt(0.5)) * diagonal
    away = np.sqrt((np.abs(x) - diagonal / 2) ** 2 + (y + diagonal / 2) ** 2)
    return np.maximum(_box((x + y) * turn, (y - x) * turn, side), np.clip(np.float32(0.5) + side - away, 0, 1))


def _box(x: NDArray[np.float32], y: NDArray[np.float32], half: NDArray[np.float32]) -> NDArray[np.float32]:
    reach = np.float32(0.5) + half
    return np.clip(reach - np.abs(x), 0, 1) * np.clip(reach - np.abs(y), 0, 1)


def draw(config: SpritesConfig, positions: NDArray[np.float32], present: NDArray[np.bool_], shapes: NDArray[np.uint8],
         scales: NDArray[np.float64], turns: NDArray[np.float32], colours: NDArray[np.uint8],
         background: NDArray[np.uint8]) -> dict[str, NDArray]:
    """Images of N scenes: frames [N, S, S, C] and labels [N, S, S].

    Args:
        config: what the sprites are like.
        positions: [N, K, 2] (pixels); present, shapes, scales: [N, K].
        turns: cosine and sine of the sprites' angles [N, K, 2].
        colours, background: [N, K, 3], [N, 3].
    """
    n, channels = len(positions), 1 if config.colours == 'white' else 3
    half = (config.largest / 2 * scales).astype(np.float32)
    side = 2 * int(np.ceil(config.largest / 2 * (np.sqrt(2) if config.rotated else max(ELLIPSE)))) + 3
    paint = np.empty((*shapes.shape, 4), np.uint8)  # a pixel is red, green, blue and its label
    paint[..., :3], paint[..., 3] = colours, np.arange(1, shapes.shape[1] + 1)
    ground = np.concatenate([background, np.zeros((n, 1), np.uint8)], 1).view(np.uint32)
    frames = np.empty((n, config.size, config.size, channels), np.uint8)
    labels = np.empty((n, config.size, config.size), np.uint8)
    for first in range(0, n, DRAWN):
        rows = np.arange(first, min(first + DRAWN, n))
        canvas = Canvas(len(rows), config.size, side, (4,))
        canvas.pixels.view(np.uint32)[:] = ground[rows, None, None]
        for k in range(shapes.shape[1]):
            here = np.flatnonzero(present[rows, k])
            at, corners = rows[here], canvas.corners(positions[rows[here], k])
            x, y = offsets(corners, positions[at, k].astype(np.float64), canvas.side)
            cover = _cover(config, shapes[at, k], x, y, half[at, k], turns[at, k])
            _lay(canvas, canvas.places(corners, here), cover, paint[at, k])
        images = canvas.images()
        for channel in range(channels):
            frames[rows[0]:rows[-1] + 1, ..., channel] = images[..., channel]
        labels[rows[0]:rows[-1] + 1] = images[..., 3]
    return {'frames': frames, 'labels': labels}


def _lay(canvas: Canvas, places: NDArray[np.int64], cover: NDArray[np.float32], paint: NDArray[np.uint8]) -> None:
    """Lay one sprite over each image: `paint` [M, 4] at `places` [M, side, side] as far as it covers them."""
    words = canvas.flat.view(np.uint32)[:, 0]
    words[places] = np.where(cover == 1, paint.view(np.uint32)[:, :, None], words[places])
    partly = np.flatnonzero((cover > 0) & (cover < 1))
    edge, share, new = places.ravel()[partly], cover.ravel()[partly, None], paint[partly // canvas.side ** 2]
    before = canvas.flat[edge]
    after = np.where(share > 0.5, new, before)
    under = before[:, :3].astype(np.float32)
    after[:, :3] = np.rint(under + share * (new[:, :3] - under))
    canvas.flat[edge] = after


def _cover(config: SpritesConfig, shapes: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64],
           half: NDArray[np.float32], turns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coverage [M, side, side] of M sprites; x [M, 1, side] and y [M, side, 1] from their centres in image axes."""
    cover = np.empty((len(shapes), y.shape[1], x.shape[2]), np.float32)
    for shape in range(len(SHAPES)):
        these = np.flatnonzero(shapes == shape)
        px, py = x[these].astype(np.float32), y[these].astype(np.float32)
        if config.rotated:
            c, s = turns[these, 0, None, None], turns[these, 1, None, None]
            px, py = c * px + s * py, c * py - s * px
        cover[these] = coverage(shape, px, py, half[these, None, None])
    return cover if config.smooth else (cover > 0.5).astype(np.float32)


def make_batch(config: SpritesConfig, seeds: Sequence[Sequence[int]]) -> dict[str, NDArray]:
    """Episodes with these seeds: field -> array [N, ...]; see `FIELDS`. Actions are left out where there are none."""
    world = SpritesWorld(config)
    world.reset(seeds)
    n, k, last = len(seeds), config.max_sprites, config.steps - 1
    actions, applied = np.zeros((n, last, k + 1, 4), np.float32), np.zeros((n, last, k, 2), np.float32)
    track: dict[str, list[NDArray]] = {'frames': [], 'labels': [], 'positions': [], 'velocities': []}
    for t in range(config.steps):
        seen = world.render()
        for name, values in (*seen.items(), ('positions', world.positions), ('velocities', world.velocities)):
            track[name].append(values)
        if t < last and t in config.action_frames:
            actions[:, t] = world.sample_actions()
            applied[:, t] = world.step(dense_field(actions[:, t], config.size))
        elif t < last:
            world.step()
    out = {name: np.stack(values, 1) for name, values in track.items()}
    for name in ('positions', 'velocities'):
        out[name] = np.where(world.present[:, None, :, None], out[name], np.nan).astype(np.float32)
    if any(t < last for t in config.action_frames):
        out |= {'actions': actions, 'accelerations': applied}
    return out | {'shapes': world.shapes, 'scales': world.scales.astype(np.float32),
                  'angles': world.angles.astype(np.float32), 'colours': world.colours, 'background': world.background}


def meta(config: SpritesConfig) -> dict[str, Any]:
    """Facts for the episode file."""
    return {'generator': 'sprites', 'generator_version': GENERATOR_VERSION,
            'action_format': 'sparse_field' if any(t < config.steps - 1 for t in config.action_frames) else 'none'}
