"""`object-centric demo`: build goals with the simulated arm over real ROS 2, and write down what happened."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from object_centric_ros import __version__
from object_centric_ros.errors import InputError
from object_centric_ros.nodes.processes import NodeFailed, NodeGroup, isolate

if TYPE_CHECKING:
    from object_centric_ros.evaluation.trials import Trial
    from object_centric_ros.nodes.demo_client import DemoClient

NODES = ('tabletop_sim', 'entity_perception', 'pick_place_planner')
WRITTEN = ('report.html', 'demo.mp4', 'demo.gif', 'bag', 'logs')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `object-centric demo`."""
    parser.add_argument('--trials', type=int, default=1, help='how many goals to build')
    parser.add_argument('--seed', type=int, default=0, help='of the first scene and goal; the next trials count up')
    parser.add_argument('--blocks', type=int, default=4, help='blocks on the table, 2 to 5')
    parser.add_argument('--moved', type=int, default=2, help='blocks that change place')
    parser.add_argument('--stack', action=argparse.BooleanOptionalAction, default=True,
                        help='one of the moved blocks ends on top of another')
    parser.add_argument('--require', type=float, help='share of goals that must be reached; default 1 for one trial, '
                        'else 0.9 with at most 2 moved blocks and 0.75 with more')
    parser.add_argument('--out', type=Path, default=Path('demo_output'), help='folder for report, video, bag and logs')
    parser.add_argument('--checkpoint', default='shipped', help='model file, or "shipped" for the one in the package')
    parser.add_argument('--speed', type=float, default=2.0, help='simulated seconds in one second')
    parser.add_argument('--rate', type=float, default=15.0, help='camera images a second')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads of perception and of the planner')
    parser.add_argument('--device', default='auto', help='where the model runs: auto, cpu, cuda or cuda:N')
    parser.add_argument('--timeout', type=float, default=300.0, help='seconds after which a trial is given up')
    parser.add_argument('--patience', type=float, default=120.0, help='seconds to wait for the nodes to come up')
    parser.add_argument('--bag', action=argparse.BooleanOptionalAction, default=True, help='record a bag')


def run(args: argparse.Namespace) -> int:
    """Run the trials; 0 if enough goals were reached, 1 if not or if a node failed."""
    _check(args)
    domain = isolate()
    from object_centric_ros.evaluation.report import write_report
    from object_centric_ros.evaluation.trials import summary, trials_table
    from object_centric_ros.evaluation.video import VideoWriter
    from object_centric_ros.nodes.bag import BagWriter
    from object_centric_ros.nodes.demo_client import DemoClient
    from object_centric_ros.nodes.demo_pictures import SIZE
    from object_centric_ros.nodes.demo_trial import run_trial
    from object_centric_ros.simulation.tabletop import TabletopWorld
    out = prepare_folder(args.out)
    world, trials, failure, model = TabletopWorld(), [], '', ''
    began = time.monotonic()
    bag = BagWriter(out / 'bag') if args.bag else None
    with NodeGroup(out / 'logs') as group, VideoWriter(out / 'demo.mp4', *SIZE) as video:
        try:
            start_nodes(group, args)
            with DemoClient(group.check, bag) as client:
                wait_for_nodes(client, group, args.patience)
                print(f'The nodes are up after {time.monotonic() - began:.0f} s (ROS domain {domain}).', flush=True)
                for i in range(args.trials):
                    trials.append(run_trial(client, world, args, i, video, began))
                    model = client.newest('entities').model_id
        except NodeFailed as error:
            failure = str(error)
        except KeyboardInterrupt:
            failure = 'interrupted'
        finally:
            if bag is not None:
                bag.close()
    world.close()
    if trials:
        print('\n' + trials_table(trials) + '\n\n' + summary(trials))
        write_report(out / 'report.html', trials, {
            'command': ' '.join(['object-centric', *sys.argv[1:]]), 'package': __version__, 'model': model,
            'written': datetime.now(timezone.utc).isoformat(timespec='seconds'), 'processor cores': os.cpu_count(),
            'threads of perception and planner': args.threads, 'simulated seconds in one second': args.speed,
            'camera images a second': args.rate, 'ROS domain': domain})
    _say_written(out, video.path if video.frames else None, bag)
    if failure:
        print(f'object-centric demo: {failure}', file=sys.stderr)
        return 130 if failure == 'interrupted' else 1
    return verdict(trials, args)


def verdict(trials: list[Trial], args: argparse.Namespace) -> int:
    """Exit status: whether enough goals were reached."""
    required = args.require
    if required is None:
        required = 1.0 if args.trials == 1 else 0.9 if args.moved <= 2 else 0.75
    reached = sum(t.reached for t in trials)
    if reached < required * args.trials - 1e-9:
        print(f'Too few: {reached} of {args.trials} goals, required {required:.0%}.')
        return 1
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse options that cannot work, before anything is started."""
    for name, good, expected in (
            ('trials', args.trials >= 1, 'at least 1'), ('blocks', 2 <= args.blocks <= 5, '2 to 5'),
            ('moved', 1 <= args.moved <= args.blocks, '1 to the number of blocks'),
            ('seed', args.seed >= 0, '0 or more'),
            ('speed', 0.05 <= args.speed <= 50, '0.05 to 50'), ('rate', 0.1 <= args.rate <= 120, '0.1 to 120'),
            ('threads', args.threads >= 1, 'at least 1'), ('timeout', args.timeout > 0, 'more than 0'),
            ('require', args.require is None or 0 <= args.require <= 1, '0 to 1')):
        if not good:
            raise InputError(f'--{name}', expected, getattr(args, name))
    if args.checkpoint != 'shipped' and not Path(args.checkpoint).is_file():
        raise InputError('--checkpoint', '"shipped" or an existing .safetensors file', args.checkpoint)


def prepare_folder(out: Path) -> Path:
    """Make the folder; what an earlier demo wrote there is removed, anything else stays."""
    out.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        old = out / name
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    return out


def start_nodes(group: NodeGroup, args: argparse.Namespace) -> None:
    """The three nodes, each a process of its own."""
    checkpoint = '' if args.checkpoint == 'shipped' else str(Path(args.checkpoint).resolve())
    model: dict[str, Any] = {'checkpoint': checkpoint, 'device': args.device, 'threads': args.threads}
    group.start('tabletop_sim', {'seed': args.seed, 'n_blocks': args.blocks, 'speed': float(args.speed),
                                 'rate_hz': float(args.rate)})
    group.start('entity_perception', {**model, 'overlay_width': 640, 'overlay_rate': 10.0}, args.threads)
    group.start('pick_place_planner', model, args.threads)


@dataclass(frozen=True)
class Need:
    """Something that a node must bring before the demo can begin."""

    node: str
    what: str
    there: Callable[[DemoClient], bool]


NEEDS = (Need('tabletop_sim', 'camera images (image)', lambda c: c.heard['image'].count > 0),
         Need('tabletop_sim', 'the state for judging (ground_truth/blocks)',
              lambda c: c.heard['ground_truth/blocks'].count > 0),
         Need('tabletop_sim', 'the service reset', lambda c: c.resets.service_is_ready()),
         Need('tabletop_sim', 'the action server pick_place', lambda c: c.arm.server_is_ready()),
         Need('entity_perception', 'entities (entities)', lambda c: c.heard['entities'].count > 0),
         Need('pick_place_planner', 'the action server build_goal', lambda c: c.goals.server_is_ready()))


def wait_for_nodes(client: DemoClient, group: NodeGroup, patience: float) -> None:
    """Wait until every node has brought what it must.

    Raises:
        NodeFailed: one did not; names it, what was missing, and the end of its log.
    """
    end = time.monotonic() + patience
    for need in NEEDS:
        try:
            client.wait(lambda n=need: n.there(client), max(0.1, end - time.monotonic()), need.what)  # type: ignore[misc]
        except NodeFailed as error:
            group.check()
            raise NodeFailed(f'{need.node} is running, but {error}; the end of {group.nodes[need.node].log}:\n'
                             f'{group.nodes[need.node].tail()}') from error


def _say_written(out: Path, video: Path | None, bag: Any) -> None:
    lines = []
    if (out / 'report.html').is_file():
        lines.append(f'{out / "report.html"}')
    if video is not None:
        lines.append(f'{video}')
    if bag is not None and sum(bag.counts.values()):
        size = sum(f.stat().st_size for f in (out / 'bag').iterdir()) / 1e6
        lines.append(f'{out / "bag"} ({sum(bag.counts.values())} messages, {size:.1f} MB: ros2 bag play {out / "bag"})')
    if lines:
        print('Written: ' + '\n         '.join(lines), flush=True)
