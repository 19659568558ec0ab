"""Make training data: episodes of a simulated world, written as an episode file.

Every episode has a generator of its own, seeded by (seed, index): the file holds the same bits for any number of
workers. Finished parts wait beside the file in ``FILE.parts``, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from numpy.typing import NDArray

from object_centric_ros.config import from_mapping, to_mapping
from object_centric_ros.datasets.episodes import EpisodeStore, join, parts_folder, plain, same_meta, write_part
from object_centric_ros.datasets.layout import STANDARD
from object_centric_ros.datasets.workers import start_workers
from object_centric_ros.errors import InputError
from object_centric_ros.simulation.worlds import WORLDS, World

FEWEST_PARTS = 16
"""Small sets are cut into so many parts, so that many workers share them."""


def generate(out: str | os.PathLike[str], world: str, config: Any = None, *, episodes: int, seed: int = 0,
             workers: int = 1, progress: bool = False, ray: str = '') -> None:
    """Write the episode file `out`; parts left by a stopped run with the same settings are used.

    Args:
        out: the file; replaced when it exists.
        world: name of the world (see `worlds.WORLDS`).
        config: of the world; its defaults when None.
        episodes: how many.
        seed: of the whole set.
        workers: processes (does not change the result).
        ray: address of a Ray cluster to spread them over, ``auto`` or ``local`` (see `start_workers`); '' for none.
        progress: print how far it is, how long the rest will take and how large the file will be.
    """
    for name, value, low in (('episodes', episodes, 1), ('seed', seed, 0), ('workers', workers, 1)):
        if value < low:
            raise InputError(f'generate: {name}', f'at least {low}', value)
    maker = find_world(world)
    config = maker.config() if config is None else config
    meta = plain({**maker.meta(config), 'world': world, 'seed': seed, 'config': to_mapping(config)})
    target, parts = Path(out), parts_folder(out)
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f'episode file {target}', 'a place that can be written', e) from e
    part = min(maker.part, -(-episodes // FEWEST_PARTS))
    ranges = [range(first, min(first + part, episodes)) for first in range(0, episodes, part)]
    paths = [parts / f'{r.start:08d}-{r.stop:08d}.h5' for r in ranges]
    jobs = [(world, config, meta, r, path) for r, path in zip(ranges, paths, strict=True) if not _usable(path, meta)]
    wanted = sum(len(job[3]) for job in jobs)
    begun, made, size = time.perf_counter(), 0, 0
    if progress and wanted < episodes:
        print(f'{target}: {episodes - wanted:,} episodes of a run that was stopped are there', file=sys.stderr)
    for job, count in zip(jobs, _run(jobs, workers, ray), strict=True):
        made, size = made + count, size + job[4].stat().st_size
        if progress:
            spent = time.perf_counter() - begun
            print(f'\r{target}: {episodes - wanted + made:,} of {episodes:,} episodes in {_clock(spent)}, '
                  f'{_clock(spent / made * (wanted - made))} to go, {size / made * episodes / 1e6:,.0f} MB in the end ',
                  end='', file=sys.stderr, flush=True)
    join(paths, target)
    shutil.rmtree(parts)
    if progress:
        print(f'\n{target}: {episodes:,} episodes, {wanted:,} of them made now in '
              f'{_clock(time.perf_counter() - begun)}, {target.stat().st_size / 1e6:,.1f} MB', file=sys.stderr)


def _clock(seconds: float) -> str:
    """A time as people read it, h:mm:ss."""
    return str(datetime.timedelta(seconds=round(seconds)))


def find_world(name: str) -> World:
    """A world by its name."""
    if name not in WORLDS:
        raise InputError('world', f'one of {list(WORLDS)}', name)
    return WORLDS[name]


def _make_part(job: tuple[str, Any, dict[str, Any], range, Path]) -> int:
    """Write one part file (run in a worker); returns its number of episodes."""
    name, config, meta, indices, path = job
    world = find_world(name)
    arrays = world.make_batch(config, [(meta['seed'], i) for i in indices])
    write_part(path, {**meta, 'fields': declarations(world, arrays)}, arrays)
    return len(indices)


def declarations(world: World, arrays: Mapping[str, NDArray]) -> dict[str, tuple[str, str, str]]:
    """What an episode file says of a world's fields, by the world's own words: ``[T, S, S] meaning``."""
    fields = {}
    for name, values in arrays.items():
        about = re.fullmatch(r'\[(.*?)\]\s*(.*)', world.fields[name])
        if about is None:
            raise InputError(f'{world.name}: field {name}', 'its shape in brackets and its meaning', world.fields[name])
        first = about[1].split(',')[0].strip()
        axes = [first, *values.shape[2:]] if first in ('T', 'T-1') else values.shape[1:]
        shape = STANDARD[name].shape if name in STANDARD else ' '.join(map(str, ('N', *axes)))
        fields[name] = (str(values.dtype), shape, about[2])
    return fields


def _run(jobs: list[tuple], workers: int, ray: str) -> Iterator[int]:
    if len(jobs) < 2 or (workers == 1 and not ray):
        yield from map(_make_part, jobs)
        return
    with start_workers(min(workers, len(jobs)), ray) as pool:
        for done in pool.imap(_make_part, jobs):
            if isinstance(done, Exception):
                raise done  # Ray's pool hands out an error as a result
            yield done


def _usable(path: Path, meta: dict[str, Any]) -> bool:
    """Whether a part of an earlier run is complete and was made with the same settings."""
    if not path.exists():
        return False
    try:
        with EpisodeStore(path) as store:
            return same_meta(store.meta, meta)
    except InputError:
        return False


# ---- command line ---------------------------------------------------------------------------------------------------

EPISODES = {'tabletop': 8000}
"""Number of episodes when none is given; 1000 for other worlds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `object-centric generate`: for each world, also an option for each field of its configuration."""
    worlds = parser.add_subparsers(dest='world', metavar='WORLD', required=True)
    for name, world in WORLDS.items():
        about = (world.config.__doc__ or '').strip()
        command = worlds.add_parser(name, help=world.summary, description=f'{world.summary}. {about}',
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
        command.add_argument('--out', required=True, metavar='FILE', help='episode file (HDF5) to write')
        command.add_argument('--episodes', type=int, default=EPISODES.get(name, 1000))
        command.add_argument('--seed', type=int, default=0)
        command.add_argument('--workers', type=int, default=min(2, os.cpu_count() or 1), help='processes')
        command.add_argument('--ray', default='', metavar='ADDRESS',
                             help='spread them over a Ray cluster: its address, or auto, or local')
        command.add_argument('--config', metavar='FILE', help='YAML file with fields of the configuration')
        if world.presets:
            command.add_argument('--preset', choices=list(world.presets), help='the settings of a published data set')
        if name == 'tabletop':
            command.add_argument('--blocks', type=int, nargs=2, metavar=('MIN', 'MAX'), help='number of blocks')
        _add_fields(command, world.config)


def _add_fields(command: argparse.ArgumentParser, config: type) -> None:
    """An option for each field that can be written as a few words."""
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):
        kind, options = hints[field.name], {'dest': f'field_{field.name}', 'default': None}
        flag = f'--{field.name.replace("_", "-")}'
        if kind is bool:
            command.add_argument(flag, action=argparse.BooleanOptionalAction, **options)  # type: ignore[arg-type]
            continue
        if get_origin(kind) is tuple and (get_args(kind)[0] in (int, float, str)):
            kind, options['nargs'] = get_args(kind)[0], '+'
        if kind in (int, float, str):
            command.add_argument(flag, type=kind, metavar=kind.__name__.upper(), help=f'default {field.default}',
                                 **options)  # type: ignore[arg-type]


def read_config(world: World, args: argparse.Namespace) -> Any:
    """The configuration of a world: its preset, changed by the file, changed by the options."""
    values: dict[str, Any] = dict(world.presets.get(getattr(args, 'preset', None) or '', {}))
    if args.config is not None:
        try:
            values |= yaml.safe_load(Path(args.config).read_text(encoding='utf-8'))
        except (OSError, TypeError, yaml.YAMLError) as e:
            raise InputError(args.config, 'a YAML file with a mapping', str(e).replace('\n', ' ')) from e
    if getattr(args, 'blocks', None):
        values['min_blocks'], values['max_blocks'] = args.blocks
    values |= {k.removeprefix('field_'): v for k, v in vars(args).items() if k.startswith('field_') and v is not None}
    return from_mapping(world.config, values, f'generate {world.name}')


def run(args: argparse.Namespace) -> int:
    """Run `object-centric generate` with parsed arguments; returns the exit status."""
    generate(args.out, args.world, read_config(WORLDS[args.world], args), episodes=args.episodes, seed=args.seed,
             workers=args.workers, progress=True, ray=args.ray)
    return 0
