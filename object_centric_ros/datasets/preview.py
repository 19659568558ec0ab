"""Pictures of an episode file: a sheet of frames (PNG) and a short film (GIF), with the labels laid over if wanted."""

from __future__ import annotations

import os
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.pictures import entity_colour

TILE, GAP = 96, 2
"""Least side of a frame in the pictures, and the space between frames (pixels)."""
FPS = 5


def preview(path: str | os.PathLike[str], out: str | os.PathLike[str], episodes: int = 8, frames: int = 8,
            overlay: bool = False) -> list[Path]:
    """Write ``OUT.png``, a row of frames for each of the first episodes, and ``OUT.gif``, these episodes side by side.

    Args:
        path: the episode file.
        out: the pictures' name without suffix.
        episodes, frames: how many; frames are spread over the episode.
        overlay: tint what the labels tell apart.
    """
    if min(episodes, frames) < 1:
        raise InputError('preview: episodes, frames', 'at least 1', (episodes, frames))
    with EpisodeStore(path) as store:
        if overlay and 'labels' not in store.fields:
            raise InputError(f'{store.path}: fields', 'labels, to lay over', store.fields)
        data = store.read(slice(0, episodes), ['frames', 'labels'] if overlay else ['frames'])
    pictures = tinted(data['frames'], data.get('labels'))
    kept = np.unique(np.linspace(0, pictures.shape[1] - 1, frames).round().astype(int))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet, film = Path(f'{os.fspath(out)}.png'), Path(f'{os.fspath(out)}.gif')
    cv2.imwrite(str(sheet), grid(pictures[:, kept])[..., ::-1])
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    blank = np.zeros((rows * columns - len(pictures), *pictures.shape[1:]), np.uint8)
    films = np.concatenate([pictures, blank]).reshape(rows, columns, *pictures.shape[1:])
    write_gif(film, [grid(films[:, :, t]) for t in range(pictures.shape[1])])
    return [sheet, film]


def tinted(frames: NDArray[np.uint8], labels: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """RGB of frames [..., H, W, 1 or 3]; where labels are not 0, half their colour and half the frame's brightness."""
    rgb = np.broadcast_to(frames, (*frames.shape[:-1], 3))
    if labels is None:
        return rgb
    colours = np.array([entity_colour(i) for i in range(256)], np.uint16)
    mixed = (rgb.mean(-1, keepdims=True).astype(np.uint16) + colours[labels]) // 2
    return np.where(labels[..., None] > 0, mixed, rgb).astype(np.uint8)


def grid(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tiles [R, C, H, W, 3] as one image; small ones are enlarged."""
    rows, columns, height, width = tiles.shape[:4]
    scale = max(1, -(-TILE // min(height, width)))
    tiles = tiles.repeat(scale, 2).repeat(scale, 3)
    step = height * scale + GAP, width * scale + GAP
    out = np.full((rows * step[0] + GAP, columns * step[1] + GAP, 3), 255, np.uint8)
    for r in range(rows):
        for c in range(columns):
            out[GAP + r * step[0]:(r + 1) * step[0], GAP + c * step[1]:(c + 1) * step[1]] = tiles[r, c]
    return out


def write_gif(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    """Write RGB frames [H, W, 3] as a GIF that repeats."""
    with av.open(str(path), 'w', options={'loop': '0'}) as container:
        stream = container.add_stream('gif', rate=FPS)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = 'rgb8'
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), 'rgb24')))
        container.mux(stream.encode())
