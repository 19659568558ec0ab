"""`object-centric bench-data`: how fast episodes are made and stored, and what the papers' data sets would take."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from object_centric_ros.datasets.workers import start_workers
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.bench_bags import KINDS, TARGET, measure_bag
from object_centric_ros.evaluation.goal_pictures import MAX_ERROR, MIN_IOU, goal_files, likenesses
from object_centric_ros.evaluation.tables import text_table
from object_centric_ros.simulation.generate import find_world, generate


@dataclass(frozen=True)
class DataSet:
    """A data set of the papers.

    Attributes:
        name: for the table.
        world, preset: what makes it.
        episodes: of the training set.
        sample: episodes that are made to measure.
        target: frames per second that are wanted, in two processes; None if there is no such number.
    """

    name: str
    world: str
    preset: str | None
    episodes: int
    sample: int
    target: int | None


SETS = (
    DataSet('bouncing balls (R-NEM)', 'balls', 'rnem', 50_000, 2000, 20_000),
    DataSet('6 to 8 balls (R-NEM test)', 'balls', 'rnem_6_8', 10_000, 2000, 20_000),
    DataSet('balls and a curtain (R-NEM)', 'balls', 'rnem_curtain', 50_000, 2000, 20_000),
    DataSet('coloured balls (OP3)', 'balls', 'op3', 50_000, 5000, 20_000),
    DataSet('active-dSprites (OBAI)', 'sprites', 'active', 50_000, 20_480, 10_000),
    DataSet('Multi-dSprites on grey', 'sprites', 'multi_on_grey', 60_000, 40_960, 10_000),
    DataSet('Tetrominoes', 'tetrominoes', 'paper', 60_000, 60_000, 10_000),
    DataSet('Space Invaders (R-NEM)', 'invaders', 'rnem', 50_000, 96, None),
    DataSet('block stacking (OP3)', 'blocks_stack', 'paper', 60_000, 1000, 150),
    DataSet('pick and place (OP3)', 'blocks_pick_place', 'paper', 10_000, 400, 150),
    DataSet('like CLEVR, up to 6 things', 'clevr', 'clevr6', 70_000, 400, None),
    DataSet('like CLEVRER', 'clevr', 'clevrer', 10_000, 4, None),
    DataSet('tabletop with arm', 'tabletop', None, 8000, 200, None),
)


@dataclass(frozen=True)
class Rate:
    """What making a data set was measured to take.

    Attributes:
        frames: that were made.
        made: frames per second in memory.
        per_cpu: frames per second of processor time in memory: what is left where others use the processor too.
        stored: frames per second when written to a file, from the start of the processes to the last byte.
        stored_per_cpu: the same per second of processor time.
        size: bytes on disk of one episode.
        hours, gigabytes: of the whole data set at that rate and size.
    """

    frames: int
    made: float
    per_cpu: float
    stored: float
    stored_per_cpu: float
    size: float
    hours: float
    gigabytes: float


def measure(data: DataSet, workers: int, share: float = 1.0, seed: int = 0) -> Rate:
    """Make a sample of a data set twice: in memory, and as a file that is removed again.

    Args:
        data: the data set.
        workers: processes.
        share: of `data.sample` that is made.
        seed: of the episodes.
    """
    world = find_world(data.world)
    config = world.config(**(world.presets[data.preset] if data.preset else {}))
    count = max(1, round(data.sample * share))
    part = min(world.part, -(-count // workers))
    parts = [range(start, min(start + part, count)) for start in range(0, count, part)]
    jobs = [(data.world, config, seed, indices) for indices in parts]
    with start_workers(workers) as pool:
        list(pool.imap_unordered(_make, [(data.world, config, seed, range(1))] * (4 * workers)))  # imports, first use
        start = time.perf_counter()
        done = list(pool.imap_unordered(_make, jobs))
        frames, cpu = sum(n for n, _ in done), sum(s for _, s in done)
        made = frames / (time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'sample.h5'
        start, used = time.perf_counter(), _processor_time()
        generate(path, data.world, config, episodes=count, seed=seed, workers=workers)
        seconds, used = time.perf_counter() - start, _processor_time() - used
        size = path.stat().st_size / count
    return Rate(frames, made, frames / cpu, frames / seconds, frames / used, size,
                data.episodes * seconds / count / 3600, data.episodes * size / 1e9)


def _processor_time() -> float:
    """Of this process and of those that it started and that ended (s)."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _make(job: tuple[str, Any, int, Iterable[int]]) -> tuple[int, float]:
    """Make some episodes; returns the number of frames and the processor time (s)."""
    name, config, seed, indices = job
    start = time.process_time()
    frames = find_world(name).make_batch(config, [(seed, i) for i in indices])['frames']
    return frames.shape[0] * frames.shape[1], time.process_time() - start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument('worlds', nargs='*', metavar='WORLD', help='worlds to measure, and "bags" (default: all)')
    parser.add_argument('--workers', type=int, default=min(2, os.cpu_count() or 1), help='processes')
    parser.add_argument('--share', type=float, default=1.0, help='of the usual number of episodes')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--goals', metavar='DIR', help="measure no speed: draw the scenes of OP3's goal files in a "
                        'folder anew and compare them with the pictures in the files; status 1 where they differ')


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    if args.goals is not None:
        return run_goals(args.goals)
    known = [*sorted({data.world for data in SETS}), 'bags']
    for name in args.worlds:
        if name not in known:
            raise InputError('world', f'some of {known}', name)
    if args.workers < 1 or args.share <= 0:
        raise InputError('workers and share', 'at least 1 and more than 0', (args.workers, args.share))
    header = ('data set', 'frames', 'made /s', 'wanted /s', 'made /CPU s', 'stored /s', 'stored /CPU s', 'kB each',
              'episodes', 'hours', 'GB')
    rows, load = [], ' '.join(f'{value:.1f}' for value in os.getloadavg())  # before anything is measured
    for data in SETS:
        if not args.worlds or data.world in args.worlds:
            rate = measure(data, args.workers, args.share, args.seed)
            rows.append((data.name, rate.frames, rate.made, data.target, rate.per_cpu, rate.stored,
                         rate.stored_per_cpu, rate.size / 1000, data.episodes, rate.hours, rate.gigabytes))
    if rows:
        print(f'{args.workers} processes on {os.cpu_count()} cores, load {load}, seed {args.seed}; '
              'hours and GB: projected for the whole data set')
        print(text_table(header, rows), end='\n\n')
    if not args.worlds or 'bags' in args.worlds:
        bags = [(kind, measure_bag(kind, 10 * args.share)) for kind in KINDS]
        print('bags of 640x480 pixels at 30 Hz -> episodes of 64x64 pixels at 10 Hz, one process')
        print(text_table(('bag', 'images', 'images /s', 'wanted /s', 'images /CPU s', 'times real time'), [
            (kind, rate.images, rate.speed, TARGET, rate.per_cpu, rate.real_time) for kind, rate in bags]))
    return 0


def run_goals(folder: str) -> int:
    """Print how like the goal files' pictures the scenes are that are drawn anew; 1 if one is not like enough."""
    rows, pictures = [], []
    for path in goal_files(folder):
        found = likenesses(path)
        pictures += found
        alone = [p.block_iou for p in found if p.block_iou is not None]
        errors = [p.error for p in found]
        rows.append((path.stem, len(found), float(np.mean(errors)), max(errors), min(p.iou for p in found),
                     min(alone) if alone else None, sum(not p.good for p in found)))
    print(text_table(('goals', 'pictures', 'mean error', 'largest', 'lowest IoU', 'of one block', 'unlike'), rows))
    unlike = sum(not p.good for p in pictures)
    print(f'\n{len(pictures)} pictures, {unlike} with a mean absolute error above {MAX_ERROR:g} of 255 or an IoU of '
          f'the blocks below {MIN_IOU}')
    return int(unlike > 0)
