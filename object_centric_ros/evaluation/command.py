"""`object-centric evaluate`: how good a model is, on held-out episodes or while it tracks."""

from __future__ import annotations

import argparse

import torch

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation import model_scores
from object_centric_ros.evaluation.persistence import EpisodeIds, persistence
from object_centric_ros.evaluation.reference_report import evaluate_reference
from object_centric_ros.evaluation.tables import Spread, text_table
from object_centric_ros.tracking.tracker import EntityTracker, choose_device


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
    parser.add_argument('--seeds', type=int, help='how many, from --seed on; default 1 (model) or 3 (reference)')
    parser.add_argument('--refinements', type=int, help='of each later frame; default: as in the tracker where the '
                                                        'model seeds its slots, else as in training (model)')
    model_scores.add_arguments(parser)
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads; 0 leaves the default')
    parser.add_argument('--actions', type=int, default=10, help='successful pick-and-places an episode (tracking)')
    parser.add_argument('--blocks', type=int, nargs=2, default=(2, 5), metavar=('LEAST', 'MOST'),
                        help='blocks of a scene (tracking)')
    parser.add_argument('--reference', metavar='op3=DIR', help='also the authors\' code, of which DIR is a checkout '
                                                               '(reference)')
    parser.add_argument('--execution', choices=('teleport', 'arm'), default='teleport',
                        help='blocks move at once between views of the arm, or with the arm, seen at 10 Hz (tracking)')


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.episodes is not None and args.episodes < 1:
        raise InputError('--episodes', 'a positive number', args.episodes)
    if args.seeds is not None and args.seeds < 1:
        raise InputError('--seeds', 'a positive number', args.seeds)
    if args.what == 'reference':
        return evaluate_reference(args.data, args.seed, args.seeds or 3, args.episodes, choose_device(args.device),
                                  args.json, args.reference)
    return evaluate_tracking(args) if args.what == 'tracking' else model_scores.evaluate_model(args)


def checkpoint(name: str) -> str | None:
    """The path of a checkpoint argument; None for the shipped one."""
    return None if name == 'shipped' else name


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

