"""`object-centric bench`: speed and memory of perception, planning and models, in this process and over DDS."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation import bench_models
from object_centric_ros.evaluation.tables import Spread, text_table
from object_centric_ros.nodes import transport
from object_centric_ros.nodes.processes import NodeGroup, isolate

if TYPE_CHECKING:
    from object_centric_ros.tracking.tracker import EntityTracker

PARTS = ('perception', 'memory', 'node', 'plan')
MODELS = 'models'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `object-centric bench`."""
    parser.add_argument('what', nargs='*', default=list(PARTS), metavar='PART',
                        help=f'what to measure, some of: {", ".join(PARTS)} (default: all of these); or {MODELS} '
                             'alone, which needs no ROS')
    parser.add_argument('--checkpoint', default='shipped', help='model file, or "shipped" for the one in the package')
    parser.add_argument('--frames', type=int, default=600, help='frames for speed (perception and node)')
    parser.add_argument('--memory-frames', type=int, default=10000, help='frames for memory')
    parser.add_argument('--plans', type=int, default=5, help='plans for each number of blocks')
    parser.add_argument('--rate', type=float, default=30.0, help='camera images a second (node)')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads of the model; 0: as the nodes choose, a '
                        'third of the cores (bench models: one for each)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--seed', type=int, default=0, help='of the scenes')
    bench_models.add_arguments(parser.add_argument_group(MODELS))


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    if args.what == [MODELS]:
        args.threads = args.threads or len(os.sched_getaffinity(0))
        return bench_models.run(args)
    unknown = [w for w in args.what if w not in PARTS]
    if unknown:
        raise InputError('bench', f'some of {", ".join(PARTS)}, or {MODELS} alone', ', '.join(unknown))
    if min(args.frames, args.memory_frames, args.plans) < 1 or args.rate <= 0 or args.threads < 0:
        raise InputError('--frames, --memory-frames, --plans, --rate', 'positive numbers', 'others')
    cores = len(os.sched_getaffinity(0))
    args.threads = transport.threads_for(args.threads)
    domain = isolate()
    import torch

    from object_centric_ros.tracking.tracker import EntityTracker
    path = None if args.checkpoint == 'shipped' else str(Path(args.checkpoint).resolve())
    tracker = EntityTracker.load(path, device=args.device, threads=args.threads, seed=args.seed)
    size = sum(p.numel() for p in tracker.model.parameters())
    print(f'{tracker.model_id}, {size:,} parameters, device {tracker.device}, '
          f'{args.threads} threads, {cores} cores, torch {torch.__version__}, {platform.machine()}, '
          f'load {os.getloadavg()[0]:.1f} at the start', flush=True)
    if 'perception' in args.what:
        bench_perception(tracker, args)
    if 'memory' in args.what:
        bench_memory(tracker, args)
    if 'plan' in args.what:
        bench_plan(tracker, path, args)
    if 'node' in args.what:
        bench_node(path or '', args, domain)
    return 0


def milliseconds(name: str, spread: Spread) -> tuple[object, ...]:
    """A row: name, mean, p50, p95, std in ms, count."""
    return (name, *(1000 * v for v in (spread.mean, spread.p50, spread.p95, spread.std)), spread.count)


TIMES = ('', 'mean ms', 'p50 ms', 'p95 ms', 'std ms', 'count')


def bench_perception(tracker: EntityTracker, args: argparse.Namespace) -> None:
    """Streaming throughput on camera images."""
    from object_centric_ros.evaluation.speed import measure
    speed = measure(tracker, args.frames, args.seed)
    camera = tracker.camera
    print(f'\nPerception, {camera.width}x{camera.height} in, {tracker.size}x{tracker.size} model: '
          f'{args.frames / speed.step_wall:.1f} frames a second ({args.frames} frames, arm in view in a third of them)')
    print(text_table(TIMES, [milliseconds('EntityTracker.step', speed.step),
                             milliseconds('of it in the model', speed.model)]), flush=True)


def bench_memory(tracker: EntityTracker, args: argparse.Namespace) -> None:
    """Resident memory along a long stream."""
    from object_centric_ros.evaluation.speed import measure
    total = args.memory_frames
    marks = sorted({max(1, total // 10), *(max(1, total * i // 4) for i in (1, 2, 3, 4))})
    speed = measure(tracker, total, args.seed + 1, memory_at=tuple(marks))
    first, last = speed.memory[marks[0]], speed.memory[marks[-1]]
    print(f'\nMemory over {total} frames: {last - first:+.1f} MB from frame {marks[0]} to {marks[-1]}')
    print(text_table(('frames', 'resident MB'), [(n, round(speed.memory[n], 1)) for n in marks]), flush=True)


def bench_plan(tracker: EntityTracker, path: str | None, args: argparse.Namespace) -> None:
    """Planning time for goals that move two blocks."""
    from object_centric_ros.planning.planner import Planner
    from object_centric_ros.simulation.tabletop import TabletopWorld
    world = TabletopWorld()
    planner = Planner.load(path, camera=tracker.camera, device=args.device, seed=args.seed)
    rows = []
    for blocks in (2, 3, 4, 5):
        took, candidates = [], []
        for i in range(args.plans):
            world.reset(args.seed + i, blocks)
            goal = world.goal(np.random.default_rng([args.seed + i, 5]), min(2, blocks - 1))
            tracker.reset()
            for n in range(6):
                frame = tracker.step(world.render(), None, n / 30)
            try:
                plan = planner.plan(frame, planner.goal_from_image(world.render_goal(goal)))
            except InputError:  # a model that finds nothing
                continue
            took.append(plan.seconds)
            candidates.append(plan.candidates)
        spread = Spread.of(took)
        rows.append((blocks, spread.mean, spread.p50, spread.p95, round(float(np.mean(candidates or [0]))), len(took)))
    world.close()
    print('\nPlanning from a settled scene')
    print(text_table(('blocks', 'mean s', 'p50 s', 'p95 s', 'candidates', 'plans'), rows), flush=True)


def bench_node(checkpoint: str, args: argparse.Namespace, domain: int) -> None:
    """What the perception node adds to the model's time, fed with images over DDS."""
    from object_centric_ros.nodes.bench_node import measure_node
    with tempfile.TemporaryDirectory() as logs, NodeGroup(Path(logs)) as group:
        threads = min(args.threads, max(1, len(os.sched_getaffinity(0)) - 1))  # one core sends and receives
        group.start('entity_perception', {'checkpoint': checkpoint, 'device': args.device, 'threads': threads,
                                                 'publish_overlay': False}, threads)
        result = measure_node(group.check, args.frames, args.rate, args.seed)
        group.check()
    answered = len(result.arrival)
    print(f'\nNode over DDS (domain {domain}): {result.sent} images at {args.rate:g} Hz, {answered} answered, the '
          f'others replaced by newer ones; {threads} threads')
    added = result.arrival - result.model
    print(text_table(TIMES, [milliseconds('image stamp to arrival of entities', Spread.of(result.arrival)),
                             milliseconds('in the model', Spread.of(result.model)),
                             milliseconds('the rest (two DDS hops, queue, node)', Spread.of(added))]))
    names = ('node_overhead', 'latency', 'model_p')
    shown = [f'{k} {v}' for k, v in sorted(result.diagnostics.items()) if k.startswith(names)]
    print(f'The node\'s own account (last 300 frames): {", ".join(shown)}', flush=True)
