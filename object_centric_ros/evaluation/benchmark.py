"""The command `object-centric benchmark`: OP3's planning benchmarks with its authors' weights on our block worlds,
goals on the tabletop with the shipped ones, and OBAI's sprites."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.benchmark_goals import file_tasks, tower_task
from object_centric_ros.evaluation.benchmark_pick_place import Settings, build
from object_centric_ros.evaluation.benchmark_run import Job, Result, run_jobs, table
from object_centric_ros.evaluation.benchmark_speed import HEADER, pick_place_speed, stack_speed
from object_centric_ros.evaluation.benchmark_sprites import (
    SpritesTask,
    sprites_jobs,
    sprites_table,
    sprites_work,
    write_sprites,
)
from object_centric_ros.evaluation.benchmark_stack import build_stack, stack_goals, stack_settings
from object_centric_ros.evaluation.benchmark_tables import pick_place_table, stack_table, write_measurements
from object_centric_ros.evaluation.benchmark_tabletop import tabletop_jobs, tabletop_table, tabletop_work
from object_centric_ros.evaluation.reference import data_folder, load_authors
from object_centric_ros.models.op3 import OP3
from object_centric_ros.planning.assignment import PAIRINGS
from object_centric_ros.planning.blocks_picks import MODES
from object_centric_ros.planning.blocks_settings import SPACES
from object_centric_ros.planning.blocks_stack import ORDERS
from object_centric_ros.planning.cem import METHODS
from object_centric_ros.planning.costs import OBJECTIVES
from object_centric_ros.planning.preferences import PLANNERS
from object_centric_ros.simulation.blocks_pick_place import PickPlaceWorld

WEIGHTS = {'pick-place': ('op3_released_pick_place', 'pick_place_curriculum.safetensors'),
           'stack': ('op3_released_stack', 'stack_s64d64_v1.safetensors')}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All benchmarks."""
    kinds = parser.add_subparsers(dest='benchmark', metavar='BENCHMARK', required=True)
    pick = kinds.add_parser('pick-place', help='rearrange blocks (OP3 Table 2)',
                            description='Rearrange blocks by pick and place until they look like a goal picture.')
    _common(pick)
    _files(pick)
    pick.add_argument('--blocks', type=int, nargs='+', default=[1, 2, 3], help='numbers of blocks (default: 1 2 3)')
    pick.add_argument('--actions', nargs='+', choices=SPACES, default=list(SPACES), help='action spaces')
    pick.add_argument('--picks', choices=MODES, default='both', help='where an entity is picked')
    pick.add_argument('--pairing', choices=sorted(PAIRINGS), default='optimal', help='of goal and predicted entities')
    _search(pick, 200, 5, 4, 'a scene')
    pick.add_argument('--goal-restarts', type=int, help='starts of the inference of a goal (default: 8)')
    pick.add_argument('--no-replan', action='store_true', help='carry out whole plans, as published')
    stack = kinds.add_parser('stack', help='build structures (OP3 Table 1)',
                             description='Build structures by letting go of one block after the other.')
    _common(stack)
    _files(stack)
    stack.add_argument('--structures', nargs='+', help='names of goal files (default: all)')
    stack.add_argument('--order', choices=ORDERS, default='lowest', help='which goal entity comes next')
    stack.add_argument('--uniform', action='store_true',
                       help='first draws anywhere and of any colour, as published')
    stack.add_argument('--stride', type=int, choices=(1, 2, 4), default=2, help='of the grid of comparison')
    _search(stack, 30, 2, 10, 'a goal')
    tabletop = kinds.add_parser('tabletop', help='goals on the tabletop with the arm, shipped weights',
                                description='Build goals on the simulated tabletop with the arm, in one process.')
    _common(tabletop)
    tabletop.add_argument('--moved', type=int, nargs='+', default=[2, 3, 4], help='blocks that change place')
    tabletop.add_argument('--blocks', type=int, default=4, help='blocks on the table (default: 4)')
    tabletop.add_argument('--stack', type=int, default=2, help='height of a tower in the goal: 0, 2 or 3 (default: 2)')
    sprites = kinds.add_parser('sprites', help='all sprites to a goal position (OBAI 3.3)',
                               description='Push all sprites of a scene to a place that example pictures show.')
    _common(sprites)
    sprites.add_argument('--checkpoint', required=True, help='model file of an OBAI with action fields')
    sprites.add_argument('--planners', nargs='+', choices=PLANNERS, default=list(PLANNERS), help='(default: both)')
    sprites.add_argument('--modes', nargs='+', choices=('step', 'whole'), default=['step', 'whole'],
                         help='look and plan anew after each action, or carry out one plan (default: both)')
    sprites.add_argument('--goal', type=float, nargs=2, default=(0.0, 0.0), metavar=('U', 'V'),
                         help='place in the image, edges at -1 and 1 (default: the middle)')
    sprites.add_argument('--actions', type=int, default=4, help='of a scene (default: 4)')
    sprites.add_argument('--examples', type=int, default=500, help='pictures that show the goal (default: 500)')
    sprites.add_argument('--moving', action='store_true', help='sprites move at first (default: they rest)')
    sprites.add_argument('--json', metavar='DIR', help='write the measurements there, one file for each setting')
    speed = kinds.add_parser('plan-speed', help='time and memory of plans', description='Time and memory of plans.')
    speed.add_argument('--data', help='folder with op3/ (default: $OBJECT_CENTRIC_DATA, or shared/data)')
    speed.add_argument('--repeats', type=int, default=3, help='calls of each (default: 3)')
    speed.add_argument('--threads', type=int, default=2, help='of the processor (default: 2)')
    speed.add_argument('--seed', type=int, default=0)


def _search(parser: argparse.ArgumentParser, population: int, iterations: int, restarts: int, what: str) -> None:
    parser.add_argument('--cost', choices=sorted(OBJECTIVES), default='soft_iou', help='what plans minimise')
    parser.add_argument('--optimiser', choices=METHODS, default='cem')
    parser.add_argument('--population', type=int, default=population,
                        help=f'candidates of an iteration (default: {population})')
    parser.add_argument('--iterations', type=int, default=iterations, help=f'of the optimiser (default: {iterations})')
    parser.add_argument('--restarts', type=int, default=restarts,
                        help=f'starts of the inference of {what} (default: {restarts})')


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--data', help='folder with op3/ (default: $OBJECT_CENTRIC_DATA, or shared/data)')
    parser.add_argument('--goals', metavar='DIR', help='goal files (default: see docs/BENCHMARKS.md)')
    parser.add_argument('--json', metavar='DIR', help='write the measurements there, one file for each task')


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--out', default='benchmark', help='folder of results and pictures; a second call goes on')
    parser.add_argument('--episodes', type=int, help='goals of each kind (default: 50, or all that are in files)')
    parser.add_argument('--label', default='', help='name of these settings in the table')
    parser.add_argument('--seed', type=int, default=0, help='of the first goal and of all draws')
    parser.add_argument('--workers', type=int, default=1, help='worlds at a time, each in a process of its own')


def run(args: argparse.Namespace) -> int:
    """Run what is left, and print the table."""
    if args.benchmark == 'plan-speed':
        return run_speed(args)
    torch.set_num_threads(1 if args.workers > 1 else torch.get_num_threads())
    folder = Path(args.out)
    if args.benchmark == 'tabletop':
        return run_tabletop(args, folder)
    if args.benchmark == 'sprites':
        return run_sprites(args, folder)
    data = str(data_folder(args.data))
    stack = args.benchmark == 'stack'
    jobs = stack_jobs(args, data) if stack else pick_place_jobs(args, data)
    records, before = run_jobs(jobs, stack_work if stack else pick_place_work, folder, args.workers)
    print(f'\n{len(records)} goals, {before} of them from an earlier call; seed {args.seed}; accuracy is final, '
          'not best, where it does not say so\n')
    print(stack_table(records) if stack else pick_place_table(records))
    if args.json:
        print('\nwritten: ' + ', '.join(str(f) for f in write_measurements(records, Path(args.json))))
    print(f'\npictures ({"" if stack else "start, "}goal, result, imagined): {folder / "pictures"}')
    return 0


def run_tabletop(args: argparse.Namespace, folder: Path) -> int:
    """Run what is left, and print the table."""
    jobs = tabletop_jobs(args.moved, args.blocks, args.stack, args.episodes or 50, args.seed, args.label or 'shipped')
    records, before = run_jobs(jobs, tabletop_work, folder, args.workers)
    print(f'\n{len(records)} goals, {before} of them from an earlier call; seed {args.seed}\n')
    print(tabletop_table(records))
    print(f'\npictures (start, goal, result): {folder / "pictures"}')
    return 0


def run_sprites(args: argparse.Namespace, folder: Path) -> int:
    """Run what is left, and print the table."""
    tasks = [SpritesTask(tuple(args.goal), examples=args.examples, actions=args.actions, moving=args.moving,
                         replan=mode == 'step', planner=planner) for planner in args.planners for mode in args.modes]
    jobs = sprites_jobs(args.checkpoint, tasks, args.episodes or 50, args.seed, args.label)
    records, before = run_jobs(jobs, sprites_work, folder, args.workers)
    print(f'\n{len(records)} runs, {before} of them from an earlier call; seed {args.seed}; mean distance of sprites '
          'to the goal, standard error over scenes\n')
    print(sprites_table(records))
    if args.json:
        print('\nwritten: ' + ', '.join(str(f) for f in write_sprites(records, Path(args.json))))
    print(f'\npictures (start, imagined after one action, after each action): {folder / "pictures"}')
    return 0


def run_speed(args: argparse.Namespace) -> int:
    """Print how long plans take."""
    torch.set_num_threads(args.threads)
    data = str(data_folder(args.data))
    print(f'medians of {args.repeats} calls, {args.threads} threads\n')
    print(table(HEADER, pick_place_speed(model_of('pick-place', data), args.repeats, args.seed)), flush=True)
    goals = Path(data) / 'op3' / 'stack_goals'
    print(table(HEADER, stack_speed(model_of('stack', data), goals, args.repeats, args.seed)))
    return 0


def pick_place_jobs(args: argparse.Namespace, data: str) -> list[Job]:
    """One job for each goal and action space."""
    jobs = []
    for actions in args.actions:
        settings = {'label': f'{args.label} {actions}'.strip(), 'actions': actions, 'picks': args.picks,
                    'cost': args.cost, 'pairing': args.pairing, 'optimiser': args.optimiser,
                    'population': args.population, 'iterations': args.iterations, 'restarts': args.restarts,
                    'replan': not args.no_replan}
        if args.goal_restarts:
            settings['goal_restarts'] = args.goal_restarts
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
    starts = given.get('goal_restarts', s.goal_inference.restarts)
    goal = replace(s.goal_inference, restarts=starts, finalists=min(s.goal_inference.finalists, starts))
    return replace(s, planner=planner, inference=replace(s.inference, restarts=given['restarts']),
                   goal_inference=goal, replan=given['replan'])


def stack_jobs(args: argparse.Namespace, data: str) -> list[Job]:
    """One job for each goal."""
    settings = {'label': args.label or 'op3', 'cost': args.cost, 'order': args.order, 'around': not args.uniform,
                'stride': args.stride, 'optimiser': args.optimiser, 'population': args.population,
                'iterations': args.iterations, 'restarts': args.restarts}
    folder = args.goals or str(Path(data) / 'op3' / 'stack_goals')
    names = [name for name, _ in stack_goals(folder, args.episodes)]
    known = sorted({name.rpartition('-')[0] for name in names})
    unknown = set(args.structures or ()) - set(known)
    if unknown:
        raise InputError('--structures', f'of {known}', sorted(unknown))
    return [{'goal': name, 'seed': args.seed, 'data': data, 'goals': folder, 'settings': settings} for name in names
            if not args.structures or name.rpartition('-')[0] in args.structures]


def stack_work(job: Job) -> Result:
    """Build one structure."""
    goal = dict(stack_goals(job['goals'], None))[job['goal']]
    built = build_stack(model_of('stack', job['data']), job['goal'], goal, stack_settings(job['settings']),
                        job['seed'])
    return {**built.record, 'settings': job['settings']}, built.pictures


@cache
def model_of(benchmark: str, data: str) -> OP3:
    """The authors' model, once for each process."""
    preset, file = WEIGHTS[benchmark]
    return load_authors(preset, Path(data) / 'op3' / file, torch.device('cpu'))


@cache
def _world() -> PickPlaceWorld:
    return PickPlaceWorld()
