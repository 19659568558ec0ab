"""`object-centric train`: run or continue a training run."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys

import torch

from object_centric_ros.config import load_yaml
from object_centric_ros.datasets.held_out import Episodes
from object_centric_ros.errors import InputError
from object_centric_ros.models.registry import build_model
from object_centric_ros.training.data import TrainingFiles
from object_centric_ros.training.processes import Processes
from object_centric_ros.training.settings import TrainingConfig
from object_centric_ros.training.trainer import Trainer
from object_centric_ros.training.watch import Diverged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `object-centric train`."""
    parser.add_argument('--config', required=True, help='YAML file of the run, e.g. config/train/tabletop_parts.yaml')
    parser.add_argument('--data', nargs='+', help='HDF5 files of training episodes (object-centric generate)')
    parser.add_argument('--validation', help='HDF5 file of held-out episodes')
    parser.add_argument('--bag', nargs='+', metavar='BAG', help='instead of both: two or more ROS 2 bags, or a folder '
                        'of them; a tenth is held out')
    parser.add_argument('--pose', metavar='FILE', help='with --bag: pose of the camera, as object-centric calibrate '
                        'writes it')
    parser.add_argument('--out', required=True, help='folder of the run; a run found there is continued')
    parser.add_argument('--minutes', type=float, default=60.0, help='training time of all calls together, for stages '
                        'without a number of steps')
    parser.add_argument('--pause', type=float, default=math.inf, metavar='MINUTES',
                        help='stop after so many minutes; the same command goes on')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, default=0,
                        help='CPU threads; 0 leaves the default. Use 1 beside other work')
    parser.add_argument('--initial', default=None, help='model file to start from')
    parser.add_argument('--episodes', type=int, default=None, help='use only the first so many training episodes')


def run(args: argparse.Namespace) -> int:
    """Train; prints the last validation. 0: done, 3: diverged, 130: stopped before."""
    if args.minutes <= 0:
        raise InputError('--minutes', 'a positive number', args.minutes)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.pause <= 0:
        raise InputError('--pause', 'a positive number', args.pause)
    if bool(args.bag) == bool(args.data) or bool(args.data) != bool(args.validation):
        raise InputError('training data', '--data and --validation, or --bag', ' and '.join(
            f'--{k}' for k in ('data', 'validation', 'bag') if getattr(args, k)) or 'none')
    processes = Processes('cpu' if args.device == 'cpu' or not torch.cuda.is_available() else 'cuda')
    try:
        return _train(args, processes)
    finally:
        processes.close()


def _from_bags(args: argparse.Namespace, config: TrainingConfig, processes: Processes) -> tuple[list[str], str]:
    """Episode files of the bags, in the folder of the run; several processes want them made before."""
    from object_centric_ros.datasets.from_bags import episodes_from_bags, pose_from_file
    if processes.count > 1:
        raise InputError('--bag', 'one process (several take --data and --validation)', processes.count)
    pose = pose_from_file(args.pose) if args.pose else None
    steps = max(5, *(stage.horizon * stage.stride for stage in config.stages))
    data, validation, notes = episodes_from_bags(args.bag, os.path.join(args.out, 'data'), config.model.image_size,
                                                 pose, steps)
    for note in notes:
        print(note, flush=True)
    return [data], validation


def _device(name: str, processes: Processes) -> str:
    """The device of this process: each of a machine has a GPU of its own."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    if name == 'cuda':
        name = f'cuda:{processes.local}'
    if name.startswith('cuda'):
        torch.cuda.set_device(name)
    return name


def _train(args: argparse.Namespace, processes: Processes) -> int:
    device = _device(args.device, processes)
    config = load_yaml(TrainingConfig, args.config)
    if args.bag:
        args.data, args.validation = _from_bags(args, config, processes)
    action_format = build_model(config.model).action_format
    data = TrainingFiles(args.data, action_format, config.object_height, args.episodes)
    held_out = Episodes(args.validation, config.object_height, None, action_format)
    held_seed = held_out.store.meta.get('seed')
    for store in data.stores:
        seed = store.meta.get('seed')
        if os.path.samefile(store.path, args.validation) or (seed is not None and seed == held_seed):
            raise InputError('--validation', 'other episodes than those of training, and of another seed',
                             f'{args.validation}, seed {held_seed}')
    trainer = Trainer(config, data, held_out, args.out, args.minutes, device, args.initial, processes, args.pause)
    if processes.first:
        print(f'{sum(p.numel() for p in trainer.model.parameters()):,} parameters, {len(data)} episodes, device '
              f'{device}, {processes.count} processes of {torch.get_num_threads()} threads, from step '
              f'{trainer.progress["steps"]}, minute {trainer.progress["seconds"] / 60:.1f}', flush=True)

    def stop(signum: int, frame: object) -> None:
        trainer.stop = True
        signal.signal(signum, signal.SIG_DFL)  # a second one ends the process at once

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        result = trainer.run()
    except Diverged as error:
        if processes.first:
            print(f'object-centric train: {error}', file=sys.stderr)
        return 3
    for key, value in result.items():
        print(f'{key:>12} {value:.5f}')
    if trainer.stop and processes.first:
        print(f'stopped at step {trainer.progress["steps"]}, minute {trainer.progress["seconds"] / 60:.1f}; the same '
              'command goes on from there')
    return 130 if trainer.stop else 0
