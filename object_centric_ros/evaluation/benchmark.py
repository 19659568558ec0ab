"""The command `object-centric benchmark`: OP3's planning benchmarks with its authors' weights on our block worlds."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from object_centric_ros.evaluation.benchmark_goals import file_tasks, tower_task
from object_centric_ros.evaluation.benchmark_pick_place import Settings, build
from object_centric_ros.evaluation.benchmark_run import Job, Result, run_jobs
from object_centric_ros.evaluation.benchmark_tables import pick_place_table
from object_centric_ros.evaluation.reference import data_folder, load_authors
from object_centric_ros.models.op3 import OP3
from object_centric_ros.planning.assignment import PAIRINGS
from object_centric_ros.planning.blocks_pick_place import SPACES
from object_centric_ros.planning.blocks_picks import MODES
from object_centric_ros.planning.cem import METHODS
from object_centric_ros.planning.costs import COSTS
from object_centric_ros.simulation.blocks_pick_place import PickPlaceWorld

WEIGHTS = {'pick-place': ('op3_released_pick_place', 'pick_place_curriculum.safetensors'),
           'stack': ('op3_released_stack', 'stack_s64d64_v1.safetensors')}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Both benchmarks."""
    kinds = parser.add_subparsers(dest='benchmark', metavar='BENCHMARK', required=True)
    pick = kinds.add_parser('pick-place', help='rearrange blocks (OP3 Table 2)',
                            description='Rearrange blocks by pick and place until they look like a goal picture.')
    _common(pick)
    pick.add_argument('--blocks', type=int, nargs='+', default=[1, 2, 3], help='numbers of blocks (default: 1 2 3)')
    pick.add_argument('--actions', nargs='+', choices=SPACES, default=list(SPACES), help='action spaces')
    pick.add_argument('--picks', choices=MODES, default='both', help='where an entity is picked')
    pick.add_argument('--cost', choices=sorted(COSTS), default='soft_iou', help='distance of two entities')
    pick.add_argument('--pairing', choices=sorted(PAIRINGS), default='optimal', help='of goal and predicted entities')
    pick.add_argument('--optimiser', choices=METHODS, default='cem')
    pick.add_argument('--population', type=int, default=200, help='candidates of an iteration (default: 200)')
    pick.add_argument('--iterations', type=int, default=5, help='of the optimiser (default: 5)')
    pick.add_argument('--restarts', type=int, default=4, help='starts of the inference of a scene (default: 4)')
    pick.add_argument('--no-replan', action='store_true', help='carry out whole plans, as published')


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--out', default='benchmark', help='folder of results and pictures; a second call goes on')
    parser.add_argument('--data', help='folder with op3/ (default: $OBJECT_CENTRIC_DATA, or shared/data)')
    parser.add_argument('--goals', metavar='DIR', help='goal files (default: see docs/BENCHMARKS.md)')
    parser.add_argument('--episodes', type=int, help='goals of each kind (default: 50, or all in the files)')
    parser.add_argument('--seed', type=int, default=0, help='of the first goal and of all draws')
    parser.add_argument('--workers', type=int, default=1, help='worlds at a time, each in a process of its own')


def run(args: argparse.Namespace) -> int:
    """Run what is left, and print the table."""
    torch.set_num_threads(1 if args.workers > 1 else torch.get_num_threads())
    folder = Path(args.out)
    data = str(data_folder(args.data))
    jobs = pick_place_jobs(args, data)
    records, before = run_jobs(jobs, pick_place_work, folder, args.workers)
    print(f'\n{len(records)} goals, {before} of them from an earlier call; seed {args.seed}; accuracy is final, '
          'not best, where it does not say so\n')
    print(pick_place_table(records))
    print(f'\npictures (start, goal, result, imagined): {folder / "pictures"}')
    return 0


def pick_place_jobs(args: argparse.Namespace, data: str) -> list[Job]:
    """One job for each goal and action space."""
    jobs = []
    for actions in args.actions:
        settings = {'label': actions, 'actions': actions, 'picks': args.picks, 'cost': args.cost,
                    'pairing': args.pairing, 'optimiser': args.optimiser, 'population': args.population,
                    'iterations': args.iterations, 'restarts': args.restarts, 'replan': not args.no_replan}
        if args.goals:
            tasks = file_tasks(args.goals, args.blocks)[:args.episodes]
            names = [(len(task.goal), i, task.name) for i, task in enumerate(tasks)]
        else:
            names = [(n, args.seed + i, f'{n}-{args.seed + i}') for n in args.blocks
                     for i in range(args.episodes or 50)]
        jobs += [{'goal': name, 'seed': args.seed + i if args.goals else i, 'index': i, 'blocks': n, 'data': data,
                  'goals': args.goals, 'kinds': args.blocks, 'settings': settings} for n, i, name in names]
    return jobs


def pick_place_work(job: Job) -> Result:
    """Build one goal."""
    task = (file_tasks(job['goals'], job['kinds'])[job['index']] if job['goals']
            else tower_task(job['blocks'], job['index'], _world()))
    built = build(model_of('pick-place', job['data']), task, pick_place_settings(job['settings']), job['seed'])
    return {**built.record, 'seed': job['seed'], 'settings': job['settings']}, built.pictures


def pick_place_settings(given: dict[str, Any]) -> Settings:
    """From plain data."""
    s = Settings()
    search = replace(s.planner.search, method=given['optimiser'], population=given['population'],
                     iterations=given['iterations'], elites=max(1, min(s.planner.search.elites, given['population'])))
    planner = replace(s.planner, actions=given['actions'], picks=given['picks'], cost=given['cost'],
                      pairing=given['pairing'], search=search)
    return replace(s, planner=planner, inference=replace(s.inference, restarts=given['restarts']),
                   replan=given['replan'])


@cache
def model_of(benchmark: str, data: str) -> OP3:
    """The authors' model, once for each process."""
    preset, file = WEIGHTS[benchmark]
    return load_authors(preset, Path(data) / 'op3' / file, torch.device('cpu'))


@cache
def _world() -> PickPlaceWorld:
    return PickPlaceWorld()
