"""The command `object-centric`; a sub-command is a module with ``add_arguments(parser)`` and ``run(args) -> int``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from object_centric_ros import __version__
from object_centric_ros.errors import InputError

COMMANDS = {
    'generate': ('simulation.generate', 'make episodes in a simulated world'),
    'data': ('datasets.command', 'look at episode files, check and convert them'),
    'train': ('training.command', 'train a model on episodes'),
    'evaluate': ('evaluation.command', 'measure a model on held-out episodes'),
    'report': ('evaluation.run_report', 'write a page about a training run: curves and pictures'),
    'results': ('evaluation.results', "write the papers' results beside ours"),
    'models': ('evaluation.models_table', 'list the models: parts, size, cost of a frame, what they can do'),
    'bench': ('nodes.bench', 'measure speed and memory of perception and planning'),
    'bench-data': ('evaluation.bench_data', 'measure how fast episodes are made, and bags read'),
    'benchmark': ('evaluation.benchmark', 'build goals: the planning benchmarks of the papers'),
    'import': ('importing', 'convert a published checkpoint'),
    'replay': ('nodes.replay', 'run perception over a bag, into a bag of results'),
    'calibrate': ('nodes.calibrate', 'find where the camera is, from marked points or a printed sheet'),
    'view': ('nodes.view', 'serve a web page: overlay, entities, plan, latency, stop, goals'),
    'goal': ('nodes.send_goal', 'see the entities of running nodes, and have a goal built'),
    'demo': ('nodes.demo', 'build goals with the simulated arm over ROS 2, and write a report'),
}


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser; only the chosen command's module is imported, so that help needs neither torch nor ROS."""
    parser = argparse.ArgumentParser(prog='object-centric', description='Object-centric world models for robots.')
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + '.')
        if name == chosen:
            loaded = import_module(f'object_centric_ros.{module}')
            loaded.add_arguments(command)
            command.set_defaults(run=loaded.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; bad input is one line on stderr and exit status 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith('-')), None)
    try:
        args = build_parser(chosen).parse_args(words)
        status = int(args.run(args) or 0)
        sys.stdout.flush()
        return status
    except InputError as error:
        print(f'object-centric: {error}', file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or '').startswith('object_centric_ros'):
            raise
        print(f'object-centric {chosen} needs the Python package {error.name}, which is not installed', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who read the output has gone, as in `object-centric ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
