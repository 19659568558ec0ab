"""`object-centric replay BAG`: perception over a bag, as fast as it can, into a bag of results beside it."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from object_centric_ros.datasets import bag_reader as bags
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.tables import text_table

GAP = 2.5
"""Intervals between images longer than this many usual ones are gaps."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('bag', type=Path, help='folder of a bag, or its one .mcap or .db3 file')
    parser.add_argument('--out', type=Path, help='folder of the new bag; default: BAG_entities beside the input')
    parser.add_argument('--params-file', type=Path, help='parameter file of entity_perception')
    parser.add_argument('--checkpoint', help='model file; default: that of the parameter file, or the shipped weights')
    parser.add_argument('--device', help='where the model runs: auto, cpu, cuda or cuda:N')
    parser.add_argument('--threads', type=int, help='CPU threads of the model')
    parser.add_argument('--image', default='', help='topic of the images; default: the one there is, or .../image')
    parser.add_argument('--camera-info', default='', help='default: camera_info beside the images')
    parser.add_argument('--joint-states', default='', help='default: the topic of that type')
    parser.add_argument('--executed-actions', default='', help='default: the topic of that type')
    parser.add_argument('--rectified', choices=('auto', 'yes', 'no'),
                        help='whether the images are rectified already; auto: if their topic is named .../image_rect*')
    parser.add_argument('--crop', type=int, nargs=4, metavar=('LEFT', 'TOP', 'WIDTH', 'HEIGHT'),
                        help='part of the images that counts, pixels')
    parser.add_argument('--letterbox', action=argparse.BooleanOptionalAction, help='show all of it to the model, with '
                        'black bars, not only its middle square')
    parser.add_argument('--overlay', action=argparse.BooleanOptionalAction, default=True,
                        help='write pictures with outlines and ids')
    parser.add_argument('--limit', type=int, default=0, help='images after which to stop; 0: none')


def run(args: argparse.Namespace) -> int:
    """The command."""
    if args.limit < 0:
        raise InputError('--limit', 'at least 0', args.limit)
    source = args.bag
    out = args.out or source.parent / f'{source.name if source.is_dir() else source.stem}_entities'
    from object_centric_ros.nodes.transport import prepare
    prepare()
    found = replay(source, out, args)
    print(summary(found))
    print(f'Written: {out}')
    return 0


def settings_of(args: argparse.Namespace) -> Any:
    """The node's parameters that the options and their parameter file make."""
    from object_centric_ros.nodes.parameters import from_file, from_values
    from object_centric_ros.nodes.perception_settings import PerceptionSettings
    given = {name: getattr(args, name)
             for name in ('checkpoint', 'device', 'threads', 'rectified', 'crop', 'letterbox')
             if getattr(args, name) is not None}
    if args.params_file:
        return from_file(PerceptionSettings, args.params_file, ('entity_perception', '/entity_perception'), given)
    return from_values(PerceptionSettings, given, 'options')


class Topics:
    """Which topics of a bag are what; an InputError names those that there are."""

    def __init__(self, reader: Any, args: argparse.Namespace, folder: Path) -> None:
        images = bags.find_topic(reader, args.image, (bags.IMAGE, bags.COMPRESSED), folder, needed=True)
        assert images is not None
        self.images = images
        self.joints = bags.find_topic(reader, args.joint_states, (bags.JOINTS,), folder)
        self.actions = bags.find_topic(reader, args.executed_actions, (bags.ACTION,), folder)
        if args.camera_info:
            self.info = bags.find_topic(reader, args.camera_info, (bags.INFO,), folder)
        else:
            place = [part for part in images.topic.split('/') if part][:-1]
            beside = ['/'.join([*place[:n], 'camera_info']) for n in (len(place), len(place) - 1) if n >= 0]
            there = {c.topic.strip('/'): c for c in reader.connections if c.msgtype == bags.INFO}
            self.info = next((there[name] for name in beside if name in there), None)

    def wanted(self) -> list[Any]:
        """Connections whose messages perception takes."""
        return [c for c in (self.images, self.joints, self.actions) if c is not None]


def messages(reader: Any, connections: list[Any], folder: Path, problems: Counter[str]
             ) -> Iterator[tuple[Any, int, Any]]:
    """(connection, time of recording in ns, message of the installed classes), in the order of recording."""
    from importlib import import_module

    from rclpy.serialization import deserialize_message
    classes = {}
    for c in connections:
        package, kind, name = c.msgtype.split('/')
        classes[c.msgtype] = getattr(import_module(f'{package}.{kind}'), name)
    stream = reader.messages(connections)
    while True:
        with bags.readable(folder):
            item = next(stream, None)
        if item is None:
            return
        connection, recorded, data = item
        try:
            message = deserialize_message(bytes(data), classes[connection.msgtype])
        except Exception:  # the middleware has its own
            problems[f'{connection.topic}: messages that cannot be read'] += 1
            continue
        yield connection, recorded, message


def replay(source: Path, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Process a bag; returns what there is to say about it, which is in metrics.json of the new bag too.

    Raises:
        InputError: no bag, no images in it, a new bag that exists, or no image that could be used.
    """
    from object_centric_ros.nodes.offline import OfflinePerception
    settings, tally = settings_of(args), Tally()
    with bags.open_bag(source) as reader:
        topics = Topics(reader, args, source)
        if out.exists():
            raise InputError('--out', 'a folder that does not exist yet', out)
        info = None
        if topics.info is not None:
            info = next((m for _, _, m in messages(reader, [topics.info], source, tally.problems)), None)
        perception = OfflinePerception(settings, info, topics.images.topic)
        with ResultBag(out, perception, args.overlay) as results:
            began = time.perf_counter()
            for connection, recorded, message in messages(reader, topics.wanted(), source, tally.problems):
                if connection is topics.joints:
                    perception.joints(message, 1e-9 * recorded)
                elif connection is topics.actions:
                    perception.executed(message)
                else:
                    tally.received(message, recorded)
                    try:
                        result = perception.image(message, 1e-9 * recorded)
                    except InputError as error:
                        tally.problems[f'{connection.topic}: {error}'] += 1
                        continue
                    if result is not None:
                        tally.processed(result)
                        results.write(result, recorded)
                    if args.limit and perception.counts['images_processed'] >= args.limit:
                        break
            elapsed = time.perf_counter() - began
    if not perception.counts['images_processed']:
        shutil.rmtree(out)
        raise InputError(f'{source}: {topics.images.topic}', 'images that can be used',
                         '; '.join(tally.problems) or 'none')
    found = tally.metrics(elapsed) | {
        'bag': source.name, 'image_topic': topics.images.topic, 'model_id': perception.tracker.model_id,
        'camera_info': topics.info.topic if topics.info is not None else None,
        'counts': {k: n for k, n in sorted(perception.counts.items()) if n}}
    (out / 'metrics.json').write_text(json.dumps(found, indent=1) + '\n')
    return found


class ResultBag:
    """The new bag: entities, label_image and, where it is wanted, overlay, as the node publishes them."""

    def __init__(self, out: Path, perception: Any, overlay: bool) -> None:
        from sensor_msgs.msg import Image

        from object_centric_ros.msg import EntityArray
        from object_centric_ros.nodes.bag import BagWriter
        self._perception, self._overlay, self._bag = perception, overlay, BagWriter(out)
        for topic, kind in (('/entities', EntityArray), ('/label_image', Image),
                            *([('/overlay', Image)] if overlay else [])):
            self._bag.add_topic(topic, kind)

    def write(self, result: Any, recorded: int) -> None:
        """Add what was found in one image."""
        from rclpy.serialization import serialize_message

        from object_centric_ros.nodes.drawing import draw_overlay
        from object_centric_ros.nodes.images import from_array
        from object_centric_ros.nodes.perception_output import label_message
        header, settings = result.message.header, self._perception.settings
        self._bag.write('/entities', recorded, serialize_message(result.message))
        labels = label_message(result, header, self._perception.preparation, settings.label_image_size)
        self._bag.write('/label_image', recorded, serialize_message(labels))
        if self._overlay:
            picture = draw_overlay(result.image, result.frame, settings.overlay_width)
            self._bag.write('/overlay', recorded, serialize_message(from_array(picture, header, 'rgb8')))

    def __enter__(self) -> ResultBag:
        return self

    def __exit__(self, *error: object) -> None:
        self._bag.close()


class Tally:
    """Counts on the way; `problems` are reasons and how often they came."""

    def __init__(self) -> None:
        self.problems: Counter[str] = Counter()
        self._stamps: list[int] = []
        self._model: list[float] = []
        self._errors: list[float] = []
        self._numbers: list[int] = []
        self._visible: Counter[int] = Counter()

    def received(self, message: Any, recorded: int) -> None:
        """An image of the bag."""
        stamp = message.header.stamp
        self._stamps.append(stamp.sec * 1_000_000_000 + stamp.nanosec or recorded)

    def processed(self, result: Any) -> None:
        """What was found in it."""
        frame = result.frame
        self._model.append(frame.seconds)
        self._numbers.append(sum(e.visible for e in frame.entities))
        self._visible.update(e.id for e in frame.entities if e.visible)
        if frame.reconstruction.shape[1:] == frame.image.shape[:2]:
            seen = frame.image.transpose(2, 0, 1).astype(np.float32) / 255
            self._errors.append(float(np.mean((frame.reconstruction - seen) ** 2)))

    def metrics(self, elapsed: float) -> dict[str, Any]:
        """All of it as plain numbers; times in seconds and milliseconds as their names say."""
        stamps, model = np.sort(np.array(self._stamps, np.int64)) / 1e9, np.array(self._model) * 1e3
        between = np.diff(stamps)
        usual = float(np.median(between)) if len(between) else 0.0
        gaps = [{'at_s': round(float(stamps[i] - stamps[0]), 3), 'seconds': round(float(between[i]), 3)}
                for i in np.flatnonzero(between > GAP * max(usual, 1e-9))]
        return {
            'images': len(stamps), 'processed': len(model), 'seconds': round(elapsed, 3),
            'frames_per_second': round(len(model) / elapsed, 2),
            'bag_seconds': round(float(stamps[-1] - stamps[0]), 3),
            'bag_rate_hz': round(1 / usual, 2) if usual else 0.0,
            'gaps': gaps,
            'model_ms': {f'p{p}': round(float(np.percentile(model, p)), 2) for p in (50, 95, 99)} if len(model) else {},
            'entities': {'ids': len(self._visible),
                         'visible_per_image': round(float(np.mean(self._numbers)), 3) if self._numbers else 0.0,
                         'images_of_each': {str(i): n for i, n in sorted(self._visible.items())}},
            'reconstruction_mse': round(float(np.mean(self._errors)), 6) if self._errors else None,
            'problems': dict(self.problems)}


def summary(found: dict[str, Any]) -> str:
    """The metrics for people."""
    entities, gaps = found['entities'], found['gaps']
    longest = max((gap['seconds'] for gap in gaps), default=0.0)
    often = ', '.join(f'{i} in {n}' for i, n in list(entities['images_of_each'].items())[:12])
    rows = [('model', found['model_id']), ('images', f'{found["processed"]} of {found["images"]} on '
             f'{found["image_topic"]}, {found["bag_seconds"]:g} s at {found["bag_rate_hz"]:g} Hz'),
            ('speed', f'{found["frames_per_second"]:g} frames/s; model {found["model_ms"].get("p50", 0):g} ms p50, '
             f'{found["model_ms"].get("p95", 0):g} ms p95'),
            ('entities', f'{entities["visible_per_image"]:g} visible in an image; ids: {often or "none"}'),
            ('gaps', f'{len(gaps)}, the longest {longest:g} s' if gaps else 'none'),
            ('reconstruction error', f'{found["reconstruction_mse"]}'),
            ('camera', found['camera_info'] or 'none in the bag: the model\'s own')]
    rows += [(name, str(n)) for name, n in found['counts'].items() if name != 'images_processed']
    rows += [('problem', f'{reason} ({n} times)') for reason, n in found['problems'].items()]
    return text_table(('what', 'found'), rows)
