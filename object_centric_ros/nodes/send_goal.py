"""`object-centric goal`: look at the entities, keep a goal picture, and have a goal built by the running nodes."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from object_centric_ros.action import BuildGoal
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.tables import text_table
from object_centric_ros.msg import EntityArray, EntityPlace
from object_centric_ros.nodes import transport
from object_centric_ros.nodes.clients import SafeActionClient
from object_centric_ros.nodes.images import from_array, to_rgb
from object_centric_ros.nodes.messages import point, relation_to_message
from object_centric_ros.planning.relations import SIDES, Relation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('--list', action='store_true', help='print the entities that perception sees, and end')
    parser.add_argument('--save-image', metavar='FILE', help='keep the camera image as a goal for later, and end')
    parser.add_argument('--image', metavar='FILE', help='what the scene shall look like, as the camera would see it')
    parser.add_argument('--example', action='append', default=[], metavar='FILE',
                        help='a picture of a scene that is as it shall be; given 2 times or more: what is at the same '
                        'place in them shall be there, other things may be anywhere')
    parser.add_argument('--place', nargs=3, action='append', default=[], metavar=('ID', 'X', 'Y'),
                        help='where an entity shall be, metres in the work frame; may be given several times')
    for kind in ('on', *SIDES):
        parser.add_argument(f'--{kind.replace("_", "-")}', dest=kind, nargs=2, action='append', default=[], type=int,
                            metavar=('ID', 'OTHER'), help=f'an entity shall be {kind.replace("_", " ")} another one')
    parser.add_argument('--within', nargs=5, action='append', default=[], metavar=('ID', 'X0', 'Y0', 'X1', 'Y1'),
                        help='an entity shall be somewhere in a region, metres')
    parser.add_argument('--max-plans', type=int, default=0, help='plans after which to give up; 0: two for each thing')
    parser.add_argument('--timeout', type=float, default=10.0, help='seconds to wait for the nodes')
    parser.add_argument('--namespace', default='', help='of the nodes')


def goal_of(args: argparse.Namespace) -> BuildGoal.Goal:
    """The goal that the options describe.

    Raises:
        InputError: none, or more than one kind; numbers or pictures that cannot be read.
    """
    places = [EntityPlace(entity_id=int(_numbers('--place', p)[0]), place=point(_numbers('--place', p)[1:]))
              for p in args.place]
    relations = [Relation(kind, a, b) for kind in ('on', *SIDES) for a, b in getattr(args, kind)]
    for words in args.within:
        entity, x0, y0, x1, y1 = _numbers('--within', words)
        relations.append(Relation('within', int(entity), region=(x0, y0, x1, y1)))
    kinds = {'--image': args.image, '--example': args.example, '--place': places, 'relations': relations}
    given = [name for name, there in kinds.items() if there]
    if len(given) != 1:
        raise InputError('goal', 'one of --image, --example, --place and relations (--on, --left-of, ..., --within)',
                         ' and '.join(given) or 'none')
    if len(args.example) == 1:
        raise InputError('--example', '2 pictures or more; a single one is given by --image', 1)
    goal = BuildGoal.Goal(places=places, relations=[relation_to_message(r) for r in relations],
                          examples=[_picture('--example', name) for name in args.example],
                          max_plans=max(0, args.max_plans))
    if args.image:
        goal.image = _picture('--image', args.image)
    return goal


def _picture(option: str, name: str) -> Image:
    """A picture file as a message."""
    picture = cv2.imread(name, cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(option, 'a picture file, such as --save-image writes', name)
    return from_array(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), Header(), 'rgb8')  # type: ignore[arg-type]


def _numbers(option: str, words: list[str]) -> tuple[float, ...]:
    try:
        entity, *rest = words
        return (int(entity), *map(float, rest))
    except ValueError as e:
        raise InputError(option, 'an entity id and metres', ' '.join(words)) from e


class Client:
    """A node that asks the others; use as a context manager."""

    def __init__(self, namespace: str, timeout: float) -> None:
        transport.prepare()
        rclpy.init()
        self.node = Node('send_goal', namespace=namespace)
        self.timeout = timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.node.destroy_node()
        rclpy.try_shutdown()

    def hear(self, kind: Any, topic: str) -> Any:
        """The next message of a topic."""
        heard: list[Any] = []
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        subscription = self.node.create_subscription(kind, topic, heard.append, best_effort)
        end = time.monotonic() + self.timeout
        while not heard and time.monotonic() < end:
            rclpy.spin_once(self.node, timeout_sec=0.1)
        self.node.destroy_subscription(subscription)
        if not heard:
            raise InputError(f'topic {self.node.resolve_topic_name(topic)}', f'a message in {self.timeout:g} s', 'none')
        return heard[0]

    def build(self, goal: BuildGoal.Goal) -> BuildGoal.Result:
        """Send a goal and print its progress until it has ended; Ctrl-C cancels it."""
        client = SafeActionClient(self.node, BuildGoal, 'build_goal')
        if not client.wait_for_server(self.timeout):
            raise InputError('action build_goal', f'a server (pick_place_planner) in {self.timeout:g} s', 'none')
        sent = client.send_goal_async(goal, feedback_callback=lambda message: tell(message.feedback))
        rclpy.spin_until_future_complete(self.node, sent)
        handle = sent.result()
        if not handle.accepted:
            raise InputError('action build_goal', 'a goal that is accepted', 'refused')
        done = handle.get_result_async()
        try:
            rclpy.spin_until_future_complete(self.node, done)
        except KeyboardInterrupt:
            print('cancelling ...', flush=True)
            handle.cancel_goal_async()
            rclpy.spin_until_future_complete(self.node, done, timeout_sec=self.timeout)
        if not done.done():
            raise InputError('action build_goal', 'a result', 'none: the planner has gone')
        return done.result().result


def tell(feedback: BuildGoal.Feedback) -> None:
    """Print a step."""
    if feedback.stage == 'act':
        (x, y), (u, v) = (feedback.pick.x, feedback.pick.y), (feedback.place.x, feedback.place.y)
        print(f'step {feedback.step}: moves entity {feedback.entity_id} from ({x:+.3f}, {y:+.3f}) to '
              f'({u:+.3f}, {v:+.3f}) m, cost {feedback.cost:.3f}', flush=True)
    elif feedback.stage == 'plan' and feedback.remark:
        print(f'        {feedback.remark}', flush=True)


def entity_table(message: EntityArray) -> str:
    """Entities as a table."""
    rows = [(e.id, 'yes' if e.visible else 'no', f'{e.confidence:.2f}', f'{e.position.x:+.3f}', f'{e.position.y:+.3f}',
             f'{e.position.z:+.3f}', ' '.join(f'{c:.2f}' for c in (e.colour.r, e.colour.g, e.colour.b)))
            for e in message.entities]
    return text_table(('id', 'visible', 'confidence', 'x m', 'y m', 'z m', 'red green blue'), rows)


def run(args: argparse.Namespace) -> int:
    """The command: 0 if the goal was reached, 1 if not."""
    if args.timeout <= 0:
        raise InputError('--timeout', 'more than 0 seconds', args.timeout)
    goal = None if args.list or args.save_image else goal_of(args)
    with Client(args.namespace, args.timeout) as client:
        if args.list:
            print(entity_table(client.hear(EntityArray, 'entities')))
        if args.save_image:
            picture = cv2.cvtColor(to_rgb(client.hear(Image, 'image')), cv2.COLOR_RGB2BGR)
            if Path(args.save_image).suffix.lower() != '.png' or not cv2.imwrite(args.save_image, picture):
                raise InputError('--save-image', 'a PNG file in a folder that exists', args.save_image)
            print(f'Written: {args.save_image}')
        if goal is None:
            return 0
        result = client.build(goal)
        print(f'{"reached" if result.success else "not reached"} after {result.steps} commands'
              f'{": " + result.message if result.message else ""}', file=sys.stdout if result.success else sys.stderr)
        return 0 if result.success else 1
