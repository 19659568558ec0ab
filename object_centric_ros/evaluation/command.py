"""`object-centric evaluate`: how good a model is, on held-out episodes or while it tracks."""

from __future__ import annotations

import argparse
import os
import tempfile

import numpy as np
import torch

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.persistence import EpisodeIds, persistence
from object_centric_ros.evaluation.reference import evaluate_reference
from object_centric_ros.evaluation.tables import Spread, text_table
from object_centric_ros.evaluation.validate import episode_metrics
from object_centric_ros.tracking.settings import TrackerConfig
from object_centric_ros.tracking.tracker import EntityTracker, choose_device, load_weights
from object_centric_ros.training.data import Episodes

NAMES = {'ari_f_first': 'foreground ARI, first frame', 'ari_f_last': 'foreground ARI, last frame',
         'ari_first': 'ARI, first frame', 'ari_last': 'ARI, last frame',
         'mse_first': 'reconstruction MSE, first frame', 'mse_last': 'reconstruction MSE, last frame'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `object-centric evaluate`."""
    parser.add_argument('what', nargs='?', choices=('model', 'tracking', 'reference'), default='model',
                        help='model: segmentation and prediction on episodes; tracking: ids kept in the simulator; '
                             'reference: OP3 with its authors\' weights on their images')
    parser.add_argument('--checkpoint', default='shipped', help='model file, or "shipped" for the one in the package')
    parser.add_argument('--data', help='HDF5 file of held-out episodes (model); without one they are generated; '
                                       'folder of the reference data (reference), default $OBJECT_CENTRIC_DATA')
    parser.add_argument('--data-seed', type=int, default=2_000_000, help='of generated episodes (model)')
    parser.add_argument('--episodes', type=int, help='how many; default 200 (model), 20 (tracking) or all (reference)')
    parser.add_argument('--seed', type=int, default=0, help='of the first guess (model) or scene (tracking)')
    parser.add_argument('--seeds', type=int, default=3, help='how many, from --seed on (reference)')
    parser.add_argument('--refinements', type=int, default=TrackerConfig().settle_iterations,
                        help='of each frame after an action, as in the tracker (model)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads; 0 leaves the default')
    parser.add_argument('--actions', type=int, default=10, help='successful pick-and-places an episode (tracking)')
    parser.add_argument('--blocks', type=int, nargs=2, default=(2, 5), metavar=('LEAST', 'MOST'),
                        help='blocks of a scene (tracking)')
    parser.add_argument('--execution', choices=('teleport', 'arm'), default='teleport',
                        help='blocks move at once between views of the arm, or with the arm, seen at 10 Hz (tracking)')


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.episodes is not None and args.episodes < 1:
        raise InputError('--episodes', 'a positive number', args.episodes)
    if args.seeds < 1:
        raise InputError('--seeds', 'a positive number', args.seeds)
    if args.what == 'reference':
        return evaluate_reference(args.data, args.seed, args.seeds, args.episodes, choose_device(args.device))
    return evaluate_tracking(args) if args.what == 'tracking' else evaluate_model(args)


def checkpoint(name: str) -> str | None:
    """The path of a checkpoint argument; None for the shipped one."""
    return None if name == 'shipped' else name


def held_out(args: argparse.Namespace, count: int, action_format: str) -> tuple[Episodes, str]:
    """The first `count` episodes to evaluate on, and what to call them: those of the file, or new ones."""
    height = TrackerConfig().object_height
    if args.data is not None:
        return Episodes(args.data, height, count, action_format), args.data
    from object_centric_ros.simulation.generate import generate
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/held_out.h5'
        workers = len(os.sched_getaffinity(0))
        generate(path, 'tabletop', episodes=count, seed=args.data_seed, workers=workers, progress=True)
        data = Episodes(path, height, None, action_format)
        data.store.close()
        return data, 'object-centric generate tabletop'


def evaluate_model(args: argparse.Namespace) -> int:
    """Segmentation, reconstruction and open-loop prediction on held-out episodes."""
    device = choose_device(args.device)
    model, record = load_weights(checkpoint(args.checkpoint), device)
    data, name = held_out(args, args.episodes or 200, model.action_format)
    if 'labels' not in data.arrays:
        raise InputError(f'{name}: fields', 'labels, to score against', data.store.fields)
    if args.refinements < 1:
        raise InputError('--refinements', 'a positive number', args.refinements)
    values = episode_metrics(model, data, len(data), args.seed, refinements=args.refinements)
    print(f'{record["model_id"]} on the first {len(data)} episodes of {name}, {data.frames.shape[1]} frames each '
          f'(data seed {data.store.meta.get("seed")}), seed {args.seed}, {args.refinements} refinements a frame, '
          f'{device}\n')
    rows = [(title, *_mean(values[key])) for key, title in NAMES.items() if key in values]
    print(text_table(('metric', 'mean', 'std', 'std error', 'episodes'), rows), end='\n\n')
    horizons = sorted(int(k.removeprefix('open_')) for k in values if k.startswith('open_'))
    horizon_rows = []
    for h in horizons:
        ours, copy = values[f'open_{h}'], values[f'copy_{h}']
        horizon_rows.append((h, *_mean(ours)[::2], *_mean(copy)[::2], float(ours.mean() / copy.mean()),
                             *_mean(copy - ours)[::2], f'{np.mean(ours < copy):.1%}', len(ours)))
    print('Open-loop prediction from the first frame and the actions, against copying the first frame (MSE):')
    header = ('steps', 'predicted', 'std error', 'copied', 'std error', 'ratio', 'gain', 'std error', 'better', 'count')
    print(text_table(header, horizon_rows))
    return 0


def evaluate_tracking(args: argparse.Namespace) -> int:
    """Ids kept from the first to the last frame of episodes of random pick-and-places."""
    tracker = EntityTracker.load(checkpoint(args.checkpoint), device=args.device, threads=args.threads, seed=args.seed)
    print(f'{tracker.model_id}, {args.execution}, {args.actions} successful pick-and-places an episode', flush=True)

    def report(e: EpisodeIds) -> None:
        print(f'  seed {e.seed}: {e.kept} of {e.visible} visible blocks kept their id '
              f'({e.blocks} blocks, {e.actions} actions, {e.frames} frames)', flush=True)

    results = persistence(tracker, args.episodes or 20, args.actions, args.seed, tuple(args.blocks), args.execution,
                          report)
    visible, kept, found, lost = (sum(getattr(e, k) for e in results) for k in ('visible', 'kept', 'found', 'lost'))
    shares = Spread.of([e.kept / e.visible for e in results if e.visible])
    print()
    header = ('episodes', 'actions', 'visible', 'found at first', 'lost at last', 'id kept', 'share', 'std', 'error')
    print(text_table(header, [
        (len(results), sum(e.actions for e in results), visible, found, lost, kept,
         f'{kept / max(visible, 1):.1%}', shares.std, shares.error)]))
    return 0


def _mean(values: np.ndarray) -> tuple[float, float, float, int]:
    spread = Spread.of(values)
    return spread.mean, spread.std, spread.error, spread.count
