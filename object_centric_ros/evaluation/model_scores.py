"""`object-centric evaluate model`: any model on held-out episodes, as tables and as JSON."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict, replace

import numpy as np
import torch

from object_centric_ros.datasets.held_out import GENERATOR_FACTS, Episodes
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.disentangle import activeness, dci, things
from object_centric_ros.evaluation.tables import Spread, mean_of_seeds, seed_means, text_table, write_scores
from object_centric_ros.evaluation.validate import Values, batches, episode_metrics
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.tracking.settings import TrackerConfig
from object_centric_ros.tracking.tracker import choose_device, load_weights

NAMES = {'ari_f_first': 'foreground ARI, first frame', 'ari_f': 'foreground ARI, later frames',
         'ari_f_last': 'foreground ARI, last frame', 'ari_first': 'ARI, first frame', 'ari': 'ARI, later frames',
         'ari_last': 'ARI, last frame', 'ami_f': 'foreground AMI, later frames', 'miou': 'mean IoU, later frames',
         'mbo': 'mBO, later frames', 'switches': 'id switches per thing and frame',
         'misses': 'missed things per thing and frame', 'mota': 'MOTA without false positives',
         'mse_first': 'reconstruction MSE, first frame', 'mse_last': 'reconstruction MSE, last frame',
         'bce': 'BCE of the next frame, nats', 'bce_copy': 'BCE of copying, nats',
         'relational_bce': 'relational BCE, nats', 'relational_copy': 'relational BCE of copying, nats'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that only models have."""
    parser.add_argument('--slots', type=int, help='K, instead of that of training (model)')
    parser.add_argument('--first-refinements', type=int, help='of a first frame, instead of those of training (model)')
    parser.add_argument('--observed', type=int, default=1,
                        help='frames that are seen before the open-loop prediction (model)')
    parser.add_argument('--activeness', action='store_true',
                        help='also how much each latent dimension changes the picture (model)')
    parser.add_argument('--dci', action='store_true', help='also disentanglement, completeness and informativeness of '
                        'the latents about shapes, colours and places in first frames (model)')
    parser.add_argument('--json', metavar='FILE', help='write all numbers there, for `object-centric results` '
                        '(model, reference)')


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
    """Segmentation, its persistence, reconstruction and open-loop prediction on held-out episodes."""
    device = choose_device(args.device)
    model, record = load_weights(None if args.checkpoint == 'shipped' else args.checkpoint, device)
    data, name = held_out(args, args.episodes or 200, model.action_format)
    size, given = model.config.image_size, data.frames.shape[2:4]
    if given != (size, size):
        raise InputError(f'{name}: frames', f'{size}x{size} pixels, the image_size of the model', given)
    if 'labels' not in data.arrays:
        raise InputError(f'{name}: fields', 'labels, to score against', data.store.fields)
    if args.refinements is not None and args.refinements < 1:
        raise InputError('--refinements', 'a positive number', args.refinements)
    if not 1 <= args.observed <= data.frames.shape[1]:
        raise InputError('--observed', f'1 to {data.frames.shape[1]}, the frames of an episode', args.observed)
    changed = {'slots': args.slots, 'first_iterations': args.first_refinements}
    model.config = replace(model.config, **{k: v for k, v in changed.items() if v is not None})
    refinements = args.refinements or (TrackerConfig().settle_iterations if model.parks else model.config.iterations)
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    values = [episode_metrics(model, data, len(data), seed, observed=args.observed, refinements=refinements,
                              thorough=True) for seed in seeds]
    print(f'{record["model_id"]} on the first {len(data)} episodes of {name}, {data.frames.shape[1]} frames each '
          f'(data seed {data.store.meta.get("seed")}), K = {model.config.slots}, seeds {list(seeds)}, {refinements} '
          f'refinements a frame, {device}\n')
    print_scores(values)
    found = active(model, data, args.seed) if args.activeness else None
    if found is not None:
        print(f'\nActiveness of {len(found)} latent dimensions (variance of the picture): ' + ' '.join(
            f'{v:.1e}' for v in sorted(found, reverse=True)))
    if args.dci:
        latents, factors = things(model, data, len(data), args.seed)
        scores = asdict(dci(latents, np.stack(list(factors.values()), 1), args.seed))
        print(f'\nDCI of {len(latents)} things, factors {", ".join(factors)}: ' + ', '.join(
            f'{k} {v:.3f}' for k, v in scores.items()))
        values[0] |= {k: np.array([v]) for k, v in scores.items()}
    if args.json:
        about = {'episodes': len(data), 'frames': data.frames.shape[1], **{
            k: v for k, v in data.store.meta.items() if k in GENERATOR_FACTS}}
        settings = {'slots': model.config.slots, 'first_refinements': model.config.first_iterations,
                    'refinements': refinements, 'observed': args.observed, 'seeds': list(seeds), 'device': str(device)}
        write_scores(args.json, record, about, settings, values, found)
    return 0


def print_scores(values: list[Values]) -> None:
    """Tables of what each seed gave; means and spread are over episodes, the seeds' means beside them."""
    several = len(values) > 1
    header = ('metric', 'mean', 'std', 'std error', *(['of each seed'] if several else []), 'episodes')
    rows = []
    for key, title in NAMES.items():
        if key in values[0]:
            s = Spread.of(mean_of_seeds(values, key))
            each = [' '.join(f'{m:.4g}' for m in seed_means(values, key))] if several else []
            rows.append((title, s.mean, s.std, s.error, *each, s.count))
    print(text_table(header, rows), end='\n\n')
    horizons = sorted(int(k.removeprefix('open_')) for k in values[0] if k.startswith('open_'))
    if not horizons:
        return
    line = 'line_1' in values[0]
    table = []
    for h in horizons:
        ours, copy = mean_of_seeds(values, f'open_{h}'), values[0][f'copy_{h}']
        o, c, gain = Spread.of(ours), Spread.of(copy), Spread.of(copy - ours)
        extra = (Spread.of(values[0][f'line_{h}']).mean,) if line else ()
        ratio = o.mean / c.mean if c.mean else float('nan')
        table.append((h, o.mean, o.error, c.mean, c.error, *extra, ratio, gain.mean, gain.error,
                      f'{np.mean(ours < copy):.1%}', len(ours)))
    print('Open-loop prediction from the observed frames and the actions, against copying the last one (MSE):')
    print(text_table(('steps', 'predicted', 'std error', 'copied', 'std error', *(['straight on'] if line else []),
                      'ratio', 'gain', 'std error', 'better', 'count'), table))


def active(model: CycleModel, data: Episodes, seed: int, count: int = 100) -> list[float]:
    """Activeness of each latent dimension on the first frames of so many episodes."""
    _, images, _, generator = next(batches(model, data, count, seed, count))
    with torch.no_grad():
        return activeness(model, images[:, 0], generator).tolist()
