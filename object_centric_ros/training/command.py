"""`object-centric train`: run or continue a training run."""

from __future__ import annotations

import argparse
import os
import signal

import torch

from object_centric_ros.config import load_yaml
from object_centric_ros.errors import InputError
from object_centric_ros.models.registry import build_model
from object_centric_ros.training.data import Episodes
from object_centric_ros.training.settings import TrainingConfig
from object_centric_ros.training.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `object-centric train`."""
    parser.add_argument('--config', required=True, help='YAML file of the run, e.g. config/train/tabletop_parts.yaml')
    parser.add_argument('--data', required=True, help='HDF5 file of training episodes (object-centric generate)')
    parser.add_argument('--validation', required=True, help='HDF5 file of held-out episodes')
    parser.add_argument('--out', required=True, help='folder of the run; a run found there is continued')
    parser.add_argument('--minutes', type=float, default=60.0, help='training time of all calls together')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, default=0,
                        help='CPU threads; 0 leaves the default. Use 1 beside other work')
    parser.add_argument('--initial', default=None, help='model file to start from')
    parser.add_argument('--episodes', type=int, default=None, help='use only the first so many training episodes')


def run(args: argparse.Namespace) -> int:
    """Train; prints the last validation."""
    if args.minutes <= 0:
        raise InputError('--minutes', 'a positive number', args.minutes)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = args.device if args.device != 'auto' else ('cuda' if torch.cuda.is_available() else 'cpu')
    config = load_yaml(TrainingConfig, args.config)
    action_format = build_model(config.model).action_format
    data = Episodes(args.data, config.object_height, args.episodes, action_format)
    held_out = Episodes(args.validation, config.object_height, None, action_format)
    seeds = [episodes.store.meta.get('seed') for episodes in (data, held_out)]
    if os.path.samefile(args.data, args.validation) or (seeds[0] is not None and seeds[0] == seeds[1]):
        raise InputError('--validation', 'other episodes than those of training, and of another seed',
                         f'{args.validation}, seed {seeds[1]}')
    trainer = Trainer(config, data, held_out, args.out, args.minutes, device, args.initial)
    print(f'{sum(p.numel() for p in trainer.model.parameters()):,} parameters, {len(data)} episodes, device {device}, '
          f'{torch.get_num_threads()} threads, from minute {trainer.progress["seconds"] / 60:.1f} of {args.minutes:g}',
          flush=True)

    def stop(signum: int, frame: object) -> None:
        trainer.stop = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    for key, value in trainer.run().items():
        print(f'{key:>12} {value:.5f}')
    if trainer.stop:
        print(f'stopped at minute {trainer.progress["seconds"] / 60:.1f}; the same command goes on from there')
    return 130 if trainer.stop else 0
