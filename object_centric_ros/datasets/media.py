"""Videos and images in folders: any camera's recordings, and CLEVRER (Yi et al., 2020) with its annotations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.datasets.episodes import Arrays
from object_centric_ros.datasets.sources import Source, View, found, windows
from object_centric_ros.errors import InputError

VIDEOS = ('.mp4', '.mkv', '.avi', '.mov', '.webm')
IMAGES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
CLEVRER_FIELDS = {
    'velocities': ('float32', 'N T K 3', "of things, in the set's units; NaN where there is none"),
    'collisions': ('bool', 'N T K K', 'whether two things collide in this frame'),
    'kinds': ('uint8', 'N K 3', 'colour, material and shape as numbers in the lists of the metadata; 255 for none'),
}
PROPERTIES = {'color': ['gray', 'red', 'blue', 'green', 'brown', 'cyan', 'purple', 'yellow'],
              'material': ['rubber', 'metal'], 'shape': ['cube', 'sphere', 'cylinder']}


def video_frames(path: Path, view: View, stride: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Every `stride`-th frame [H, W, 3] of a video; InputError if it ends before it says."""
    seen = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            said = stream.frames
            for frame in container.decode(stream):
                if seen % stride == 0:
                    yield view.image(np.asarray(frame.to_ndarray(format='rgb24'), np.uint8))
                seen += 1
    except (av.FFmpegError, IndexError) as e:
        raise InputError(f'{path}', 'a whole video', e) from e
    if seen < max(said, 1):
        raise InputError(f'{path}', f'{said or "some"} frames', f'{seen}: the video ends early')


def read_images(paths: Sequence[Path], view: View) -> NDArray[np.uint8]:
    """Images [T, H, W, 3], all of one size."""
    frames: list[NDArray[np.uint8]] = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(str(path), 'an image', 'what cannot be decoded')
        frames.append(view.image(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)))
        if frames[-1].shape != frames[0].shape:
            raise InputError(f'{path}: size', f'{frames[0].shape[1]}x{frames[0].shape[0]} pixels, as {paths[0].name}',
                             f'{frames[-1].shape[1]}x{frames[-1].shape[0]}')
    return np.stack(frames)


def media(path: str | os.PathLike[str], view: View | None = None, steps: int | None = None, stride: int = 1) -> Source:
    """A folder of videos, of folders of images, or of images: each video and each folder is one recording.

    Args:
        path: the folder.
        view: what is kept of the images.
        steps: frames of an episode; longer recordings are cut, and what is left over is dropped. None: all frames.
        stride: keep every so manieth frame.
    """
    folder = Path(path)
    videos = [p for p in folder.rglob('*') if p.suffix.lower() in VIDEOS]
    images: dict[Path, list[Path]] = {}
    for p in sorted(folder.rglob('*')):
        if p.suffix.lower() in IMAGES:
            images.setdefault(p.parent, []).append(p)
    recordings = found([*videos, *images], f'videos ({", ".join(VIDEOS)}) or images ({", ".join(IMAGES)})', folder)
    meta = {'generator': 'recorded', 'source': folder.name, 'action_format': 'none', 'stride': stride}
    source = Source(meta, iter(()))

    def episodes() -> Iterator[Arrays]:
        for recording in recordings:
            files = images.get(recording)
            frames = read_images(files[::stride], view or View()) if files else np.stack(
                list(video_frames(recording, view or View(), stride)))
            cut = windows(len(frames), steps)
            if not cut:
                source.notes.append(f'{recording}: left out, {len(frames)} frames are fewer than {steps}')
            yield from ({'frames': frames[part.start:part.stop]} for part in cut)

    source.episodes = episodes()
    return source


def clevrer(path: str | os.PathLike[str], view: View | None = None, stride: int = 1) -> Source:
    """CLEVRER: ``video_*.mp4`` below a folder, with their ``annotation_*.json`` where these are there.

    Args:
        path: the folder, as the published archives unpack into.
        view: what is kept of the images.
        stride: keep every so manieth frame; collisions in between are put to the frame before.
    """
    folder = Path(path)
    videos = found(list(folder.rglob('video_*.mp4')), 'video_*.mp4', folder)
    known = {p.stem.removeprefix('annotation_'): p for p in folder.rglob('annotation_*.json')}
    annotations = [known.get(video.stem.removeprefix('video_')) for video in videos]
    if known and None in annotations:
        raise InputError(f'{folder}', f'an annotation for {videos[annotations.index(None)].name}', 'none')
    things = max((len(_annotation(p)['object_property']) for p in annotations if p is not None), default=0)
    meta = {'generator': 'CLEVRER', 'source': folder.name, 'action_format': 'none', 'stride': stride,
            'kinds': PROPERTIES, 'fields': CLEVRER_FIELDS}

    def episodes() -> Iterator[Arrays]:
        for video, annotation in zip(videos, annotations, strict=True):
            frames = np.stack(list(video_frames(video, view or View(), stride)))
            facts = {} if annotation is None else _facts(annotation, things, stride)
            if facts and len(facts['positions']) != len(frames):
                raise InputError(f'{video}', f'{len(facts["positions"])} frames, as {annotation} says', len(frames))
            yield {'frames': frames, **facts}

    return Source(meta, episodes())


def _annotation(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as e:
        raise InputError(str(path), 'a JSON file', e) from e
    missing = [k for k in ('object_property', 'motion_trajectory', 'collision') if k not in data]
    if missing:
        raise InputError(f'{path}: keys', ', '.join(missing), sorted(data))
    return data


def _facts(path: Path, things: int, stride: int) -> Arrays:
    """Fields of one annotation file for `things` things."""
    data = _annotation(path)
    try:
        index = {thing['object_id']: i for i, thing in enumerate(data['object_property'])}
        kinds = np.full((things, 3), 255, np.uint8)
        for thing in data['object_property']:
            kinds[index[thing['object_id']]] = [names.index(thing[p]) for p, names in PROPERTIES.items()]
        motion = data['motion_trajectory']
        positions, velocities = np.full((2, len(motion), things, 3), np.nan, np.float32)
        for t, frame in enumerate(motion):
            for thing in frame['objects']:
                positions[t, index[thing['object_id']]] = thing['location']
                velocities[t, index[thing['object_id']]] = thing['velocity']
        kept = range(0, len(motion), stride)
        collisions = np.zeros((len(kept), things, things), bool)
        for collision in data['collision']:
            i, j = (index[k] for k in collision['object_ids'])
            collisions[min(int(collision['frame_id']) // stride, len(kept) - 1), [i, j], [j, i]] = True
    except (KeyError, TypeError, ValueError) as e:
        raise InputError(f'{path}', "CLEVRER's annotations", f'{type(e).__name__}: {e}') from e
    return {'positions': positions[::stride], 'velocities': velocities[::stride], 'collisions': collisions,
            'kinds': kinds}
