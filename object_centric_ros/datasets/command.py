"""`object-centric data`: look at episode files, check them, and convert other formats to them and from them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from object_centric_ros.datasets.card import facts, write_card
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.datasets.media import clevrer, media
from object_centric_ros.datasets.multi_object import multi_object
from object_centric_ros.datasets.preview import preview
from object_centric_ros.datasets.rnem import PARTS, rnem
from object_centric_ros.datasets.sources import Source, View, save, together
from object_centric_ros.datasets.spread import spread
from object_centric_ros.errors import InputError


def _bag(path: str, args: argparse.Namespace, view: View) -> Source:
    from object_centric_ros.datasets.bags import BagOptions, bag

    given = {'images': args.image_topic, 'joints': args.joint_topic, 'actions': args.action_topic, 'steps': args.steps,
             'rate': args.rate, 'settle': args.settle, 'pause': args.pause}
    return bag(path, BagOptions(**{k: v for k, v in given.items() if v is not None}), view, _pose(args.pose))


def _lerobot(path: str, args: argparse.Namespace, view: View) -> Source:
    from object_centric_ros.datasets.lerobot import lerobot

    return lerobot(path, view, args.steps, args.camera or '')


def _multi_object(path: str, args: argparse.Namespace, view: View) -> Source:
    return multi_object(path, view, args.max_objects)


def _clevrer(path: str, args: argparse.Namespace, view: View) -> Source:
    return clevrer(path, view, args.stride)


def _rnem(path: str, args: argparse.Namespace, view: View) -> Source:
    return rnem(path, args.part, view)


def _media(path: str, args: argparse.Namespace, view: View) -> Source:
    return media(path, view, args.steps, args.stride)


FORMATS: dict[str, tuple[str, Callable[[str, argparse.Namespace, View], Source]]] = {
    'bag': ('a ROS 2 bag (sqlite3 or MCAP)', _bag),
    'lerobot': ('a LeRobotDataset, version 2.x or 3.0', _lerobot),
    'multi-object': ("a TFRecord file of DeepMind's Multi-Object Datasets", _multi_object),
    'clevrer': ('videos and annotations of CLEVRER', _clevrer),
    'rnem': ('an HDF5 file of R-NEM', _rnem),
    'media': ('a folder of videos, of folders of images, or of images', _media),
}
"""Formats that are read: what they are, and their loader (a function that workers can be given)."""


def detect(path: Path) -> str:
    """The format of a file or folder: one of `FORMATS`, or ``episodes``."""
    if path.is_dir():
        if (path / 'meta' / 'info.json').is_file():
            return 'lerobot'
        if (path / 'metadata.yaml').is_file():
            return 'bag'
        return 'clevrer' if next(path.rglob('video_*.mp4'), None) else 'media'
    if path.suffix in ('.mcap', '.db3'):
        return 'bag'
    if path.is_file() and h5py.is_hdf5(path):
        with h5py.File(path, 'r') as file:
            return 'rnem' if any(part in file for part in PARTS) else 'episodes'
    if '.tfrecord' in path.name:
        return 'multi-object'
    raise InputError(f'{path}', f'a file or folder in one of the formats {list(FORMATS)}',
                     'something else' if path.exists() else 'nothing')


def bags_in(folder: Path) -> list[Path]:
    """The bags in a folder of bags; of a collection those with actions. None where `folder` is something else."""
    if not folder.is_dir() or (folder / 'metadata.yaml').exists():
        return []
    bags = sorted(path.parent for path in folder.glob('*/metadata.yaml')
                  if not (path.parent / 'metrics.json').exists())  # what `replay` has made of one
    for cut in sorted({path.parent for path in folder.glob('*/*.mcap')} - set(bags)):
        print(f'{cut}: left out: its recording was killed (interaction_collector recovers it when it goes on)',
              file=sys.stderr)
    try:
        counts = json.loads((folder / 'progress.json').read_text(encoding='utf-8'))['bags']
        return [bag for bag in bags if (counts.get(bag.name) or {}).get('executed') != 0]
    except FileNotFoundError:
        return bags
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f'{folder / "progress.json"}', 'the progress of a collection', repr(e)) from e


def _pose(path: str | None) -> tuple[Any, Any] | None:
    """Rotation [3, 3] and position [3] of a camera from a YAML file."""
    if path is None:
        return None
    try:
        values = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
        return np.asarray(values['rotation'], float).reshape(3, 3), np.asarray(values['position'], float).reshape(3)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as e:
        raise InputError(path, 'YAML with rotation (3x3, optical frame to work_plane) and position (3, m)', e) from e


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `object-centric data`."""
    what = parser.add_subparsers(dest='what', metavar='WHAT', required=True)
    info = what.add_parser('info', help='say what an episode file holds, and write its card')
    look = what.add_parser('preview', help='write a sheet of frames (PNG) and a film (GIF)')
    check = what.add_parser('verify', help='find damaged episodes by their checksums')
    convert = what.add_parser('convert', help='convert another format to an episode file, or one to a LeRobotDataset')
    for command in (info, look, check):
        command.add_argument('path', metavar='PATH', help='episode file')
    look.add_argument('--out', help='name of the pictures without suffix (default: PATH.preview)')
    look.add_argument('--episodes', type=int, default=8)
    look.add_argument('--frames', type=int, default=8, help='of each episode on the sheet')
    look.add_argument('--labels', action='store_true', help='tint what the labels tell apart')
    convert.add_argument('path', nargs='+', metavar='PATH', help='files or folders of one format, put one behind the '
                         'other: ' + '; '.join(f'{text} ({name})' for name, (text, _) in FORMATS.items())
                         + '; a folder of bags, as interaction_collector makes it; an episode file (to a '
                         'LeRobotDataset)')
    convert.add_argument('--out', required=True, help='episode file, or folder of the LeRobotDataset')
    convert.add_argument('--format', choices=list(FORMATS), help='of PATH (default: found out)')
    convert.add_argument('--size', type=int, help='scale the centre square to this side, pixels')
    convert.add_argument('--crop', type=int, nargs=4, metavar=('LEFT', 'TOP', 'WIDTH', 'HEIGHT'), help='pixels')
    convert.add_argument('--workers', type=int, default=1, help='processes that read several PATHs at once')
    convert.add_argument('--ray', default='', metavar='ADDRESS', help='spread them over a Ray cluster: its address, or '
                         'auto, or local')
    convert.add_argument('--limit', type=int, help='most episodes')
    convert.add_argument('--steps', type=int, help='bag, lerobot, media: frames in an episode')
    convert.add_argument('--stride', type=int, default=1, help='clevrer, media: keep every so manieth frame')
    convert.add_argument('--part', choices=PARTS, default='training', help='rnem: which part')
    convert.add_argument('--max-objects', type=int, help='multi-object: leave out images with more')
    convert.add_argument('--camera', help='lerobot: name of the image feature')
    convert.add_argument('--rate', type=float, help='bag: frames a second (default: one between each two actions)')
    convert.add_argument('--settle', type=float, help='bag: seconds after an action before images count')
    convert.add_argument('--pause', type=float, help='bag: longest pause between actions of an episode, seconds')
    for topic in ('image', 'joint', 'action'):
        convert.add_argument(f'--{topic}-topic', help='bag: needed if there are several')
    convert.add_argument('--pose', metavar='FILE', help='bag: YAML file with rotation and position of the camera')
    convert.add_argument('--fps', type=int, default=10, help='to a LeRobotDataset: frames a second')
    convert.add_argument('--task', default='play', help='to a LeRobotDataset: what the episodes are about')


def run(args: argparse.Namespace) -> int:
    """Run `object-centric data` with parsed arguments; returns the exit status."""
    return {'info': run_info, 'preview': run_preview, 'verify': run_verify, 'convert': run_convert}[args.what](args)


def run_info(args: argparse.Namespace) -> int:
    """Print the facts and fields of a file."""
    with EpisodeStore(args.path) as store:
        for name, value in facts(store).items():
            print(f'{name:16} {value}')
        print()
        for name, field in store.layout.items():
            print(f'{name:16} {field.type:8} [{field.shape.replace(" ", ", ")}]  {field.about}')
    if os.access(Path(args.path).absolute().parent, os.W_OK):
        print(f'\n{write_card(args.path)}')
    return 0


def run_preview(args: argparse.Namespace) -> int:
    """Write the pictures."""
    for path in preview(args.path, args.out or f'{args.path}.preview', args.episodes, args.frames, args.labels):
        print(path)
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Print each damaged part; the status is 1 if there is one."""
    with EpisodeStore(args.path) as store:
        damaged = 0
        for episode, name in store.verify():
            print(f'{args.path}: episode {episode}: {name} is damaged')
            damaged += 1
        found = f'{damaged} damaged array' + 's' * (damaged > 1) if damaged else 'none damaged'
        print(f'{len(store)} episodes, {found}'
              + ('' if store.checked else ': they can be read; the file holds no checksums'))
    return int(damaged > 0)


def run_convert(args: argparse.Namespace) -> int:
    """Convert from or to a foreign format; notes go to stderr."""
    paths = [str(inside) for path in args.path for inside in bags_in(Path(path)) or [path]]
    names = {path: args.format or detect(Path(path)) for path in paths}
    if len(set(names.values())) > 1 or (names[paths[0]] == 'episodes' and len(paths) > 1):
        raise InputError('files to convert', 'several of one format, or one episode file', names)
    name = names[paths[0]]
    if name == 'episodes':
        from object_centric_ros.datasets.lerobot import write_lerobot

        left_out = write_lerobot(paths[0], args.out, args.fps, args.task)
        print(args.out + (f', without {", ".join(left_out)}' if left_out else ''))
        return 0
    if args.workers < 1:
        raise InputError('--workers', 'at least 1', args.workers)
    view, load = View(tuple(args.crop) if args.crop else None, args.size), FORMATS[name][1]
    with contextlib.ExitStack() as stack:
        if len(paths) > 1 and (args.workers > 1 or args.ray):
            read = Path(f'{args.out}.read')
            stack.callback(shutil.rmtree, read, ignore_errors=True)
            source = together(spread(load, paths, args, view, read))
        else:
            source = together([load(path, args, view) for path in paths])
        count = save(source, args.out, args.limit)
    for note in source.notes:
        print(note if len(paths) > 1 else f'{paths[0]}: {note}', file=sys.stderr)
    print(f'{args.out}: {count} episodes')
    return 0
