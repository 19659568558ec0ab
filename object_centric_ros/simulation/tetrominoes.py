"""Tetrominoes, as in the Multi-Object Datasets: static pictures of three pieces that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.flat_painting import Canvas, colour

GENERATOR_VERSION = 1
PIECES = {'O': ('##', '##'), 'T': ('###', '.#.'), 'S': ('.##', '##.'), 'Z': ('##.', '.##'), 'J': ('#..', '###'),
          'L': ('..#', '###'), 'I': ('####',)}
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]], np.uint8)
"""Red, green, blue, yellow, magenta, cyan."""
TRIES = 8
"""Random scenes that are drawn at once until one has no overlap."""

FIELDS = {
    'frames': '[1, S, S, 3] RGB on black',
    'labels': '[1, S, S] 0 background, i+1 piece i',
    'positions': '[1, K, 2] middle of the box around each piece, x right and y down (pixels)',
    'shapes': '[K] which piece in which orientation, from 0 in the order of the configuration\'s pieces',
    'colours': '[K, 3] RGB',
}
PRESETS: dict[str, dict[str, Any]] = {'paper': {}}


@dataclass(frozen=True)
class TetrominoesConfig:
    """What the pictures are like.

    Attributes:
        size: side of a picture (pixels), S.
        pieces: letters of the pieces that there are. The data set has "17 unique shapes/orientations" of the 19 and
            does not say which: leaving out I makes 17.
        count: pieces in a picture, K.
        cell: side of one of the four squares of a piece (pixels).
        aligned: whether pieces lie on the grid of cells; otherwise at any pixel.
    """

    size: int = 35
    pieces: str = 'OTSZJL'
    count: int = 3
    cell: int = 5
    aligned: bool = True

    def __post_init__(self) -> None:
        if not self.pieces or len(set(self.pieces)) != len(self.pieces) or not set(self.pieces) <= set(PIECES):
            raise InputError('tetrominoes: pieces', f'different letters of {"".join(PIECES)}', self.pieces)
        if self.cell < 1 or self.count < 1:
            raise InputError('tetrominoes: cell and count', 'at least 1', (self.cell, self.count))
        if self.size < 4 * self.cell or self.count * 12 * self.cell ** 2 > self.size ** 2:
            raise InputError('tetrominoes: size', 'room for a piece in any orientation, and for three times as many '
                             'cells as the pieces have', f'{self.size} pixels for {self.count} pieces of '
                             f'{self.cell}-pixel cells')


def orientations(pieces: str) -> list[NDArray[np.bool_]]:
    """The different pictures of some pieces turned by quarters, in cells: [rows, columns] each."""
    found: list[NDArray[np.bool_]] = []
    for letter in pieces:
        piece = np.array([[c == '#' for c in row] for row in PIECES[letter]])
        for turned in (np.rot90(piece, quarter) for quarter in range(4)):
            if not any(turned.shape == other.shape and (turned == other).all() for other in found):
                found.append(np.ascontiguousarray(turned))
    return found


def _masks(config: TetrominoesConfig) -> tuple[NDArray[np.bool_], NDArray[np.int64], list[int]]:
    """Every orientation: pixels [M, side, side], extents [M, 2] (x, y; pixels), and the pixels as bits of a number."""
    shapes = orientations(config.pieces)
    side = 4 * config.cell
    masks, extents, bits = np.zeros((len(shapes), side, side), bool), np.zeros((len(shapes), 2), np.int64), []
    for i, cells in enumerate(shapes):
        pixels = cells.repeat(config.cell, 0).repeat(config.cell, 1)
        masks[i, :pixels.shape[0], :pixels.shape[1]] = pixels
        extents[i] = pixels.shape[::-1]
        bits.append(sum(1 << int(v * config.size + u) for v, u in zip(*np.nonzero(pixels), strict=True)))
    return masks, extents, bits


def _scene(config: TetrominoesConfig, extents: NDArray[np.int64], bits: list[int], rng: np.random.Generator
           ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Shapes [K], corners [K, 2] (pixels) and colours [K] of one picture, uniform over those without overlap."""
    step = config.cell if config.aligned else 1
    while True:
        shapes = rng.integers(0, len(bits), (TRIES, config.count))
        room = (config.size - extents[shapes]) // step + 1
        corners = (rng.random((TRIES, config.count, 2)) * room).astype(np.int64) * step
        colours = rng.integers(0, len(COLOURS), (TRIES, config.count))
        shifts = (corners[..., 1] * config.size + corners[..., 0]).tolist()
        for i, (row, shift) in enumerate(zip(shapes.tolist(), shifts, strict=True)):
            taken, clear = 0, True
            for shape, by in zip(row, shift, strict=True):
                piece = bits[shape] << by
                clear = clear and not taken & piece
                taken |= piece
            if clear:
                return shapes[i], corners[i], colours[i]


def make_batch(config: TetrominoesConfig, seeds: Sequence[Sequence[int]]) -> dict[str, NDArray]:
    """Pictures with these seeds: field -> array [N, ...]; see `FIELDS`."""
    masks, extents, bits = _masks(config)
    scenes = [_scene(config, extents, bits, np.random.default_rng(seed)) for seed in seeds]
    shapes, corners, colours = (np.stack(parts) for parts in zip(*scenes, strict=True))
    n, side = len(seeds), 4 * config.cell
    canvas = Canvas(n, config.size, side, margin=side)
    for k in range(config.count):
        places = canvas.places(corners[:, k], np.arange(n))
        canvas.flat[places] += masks[shapes[:, k]] * np.uint8(k + 1)
    labels = canvas.images()
    frames = colour(labels, COLOURS[colours])
    return {'frames': frames[:, None], 'labels': labels[:, None],
            'positions': (corners + extents[shapes] / 2).astype(np.float32)[:, None],
            'shapes': shapes.astype(np.uint8), 'colours': COLOURS[colours]}


def meta(config: TetrominoesConfig) -> dict[str, Any]:
    """Facts for the episode file."""
    return {'generator': 'tetrominoes', 'generator_version': GENERATOR_VERSION}
