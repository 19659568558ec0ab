"""Bags -> the two episode files that a training run needs; some bags are held out for validation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from object_centric_ros.datasets.bags import BagOptions, bag
from object_centric_ros.datasets.command import bags_in
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.datasets.sources import View, save, together
from object_centric_ros.errors import InputError

HELD_OUT = 0.1
"""Share of the bags that is held out, at least one."""
MAX_NOTES = 10


def split(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[Path], list[Path]]:
    """(bags to train on, bags held out) of bags and folders of bags: whole bags, as neighbours in one share frames.

    Raises:
        InputError: fewer than two bags.
    """
    found = [inside for path in paths for inside in bags_in(Path(path)) or [Path(path)]]
    if len(found) < 2:
        raise InputError('--bag', 'two bags or more, or a folder of them: one is held out for validation',
                         [str(path) for path in found])
    held = max(1, round(HELD_OUT * len(found)))
    return found[:-held], found[-held:]


def pose_from_file(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """Rotation [3, 3] and position [3] (m) of a camera: what `calibrate` writes, as --out or as --pose.

    Raises:
        InputError: neither of the two.
    """
    from object_centric_ros.geometry.calibration import rotation_of
    try:
        content = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
        if 'rotation' in content:
            rotation, position = (np.asarray(content[name], float) for name in ('rotation', 'position'))
            return rotation.reshape(3, 3), position.reshape(3)
        values = content['/**']['ros__parameters']
        position = np.asarray(values['camera_position'], float).reshape(3)
        return rotation_of(np.asarray(values['camera_orientation'], float)), position
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as e:
        raise InputError(f'{path}', 'the pose of the camera, as object-centric calibrate writes it', repr(e)) from e


def episodes_from_bags(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str], size: int,
                       pose: tuple[Any, Any] | None, steps: int) -> tuple[str, str, list[str]]:
    """Make training and validation files in a folder; files of the same bags that are there already are kept.

    Args:
        paths: bags, or folders of bags.
        folder: where train.h5 and validation.h5 go.
        size: side of the model's image, pixels.
        pose: of the camera, rotation [3, 3] and position [3] (m); needed where actions are places on the table.
        steps: frames of an episode.

    Returns:
        The two files, and what people should know about the recordings.

    Raises:
        InputError: bags that cannot be used, or files of other bags in the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    files, notes = [], []
    for name, bags in zip(('train', 'validation'), split(paths), strict=True):
        file = Path(folder) / f'{name}.h5'
        files.append(str(file))
        names = [path.name for path in bags]
        if file.exists():
            with EpisodeStore(file) as store:
                there = store.meta.get('source')
            if there != (names if len(names) > 1 else names[0]):
                raise InputError(f'{file}', f'episodes of {names}, or no file', there)
            continue
        source = together([bag(path, BagOptions(steps=steps), View(size=size), pose) for path in bags])
        count = save(source, file)
        more = len(source.notes) - MAX_NOTES
        notes += [f'{file}: {count} episodes of {", ".join(names)}', *source.notes[:MAX_NOTES]]
        notes += [f'... and {more} more notes (object-centric data convert shows all)'] if more > 0 else []
    return files[0], files[1], notes
