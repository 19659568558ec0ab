"""Plays with what is on the table and records it: random pick-and-places into bags, for training."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from object_centric_ros.action import PickPlace
from object_centric_ros.datasets.bags import header_stamp
from object_centric_ros.datasets.collection import Collection
from object_centric_ros.errors import InputError
from object_centric_ros.msg import EntityArray, ExecutedAction
from object_centric_ros.nodes import transport
from object_centric_ros.nodes.arm import Arm, ArmLost
from object_centric_ros.nodes.bag import BagWriter
from object_centric_ros.nodes.clients import SafeActionClient
from object_centric_ros.nodes.managed import ManagedNode
from object_centric_ros.nodes.messages import frame_from_message, nanoseconds, point, seconds
from object_centric_ros.nodes.parameters import parameter
from object_centric_ros.nodes.recorder import Recorder
from object_centric_ros.nodes.robot import RobotWatch
from object_centric_ros.nodes.runner import run_node
from object_centric_ros.nodes.stop import StopSwitch
from object_centric_ros.nodes.waiting import Newest
from object_centric_ros.nodes.zones import ArmSettings, Zones
from object_centric_ros.planning.commands import Outcome
from object_centric_ros.planning.exploration import ANYWHERE, ExplorationConfig, Move, choose
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.entities import Entity

IMAGE, JOINTS, EXECUTED, ENTITIES = 'image', 'joint_states', 'executed_actions', 'entities'
DRAWS = 200
"""Moves to draw before it is given up to find one that the zones allow."""
SKEW = 500_000_000
"""Nanoseconds by which the arm's clock may be behind ours."""


@dataclass(frozen=True)
class CollectorSettings(ArmSettings):
    """Parameters of the node."""

    folder: str = parameter('collected', 'folder of the bags and of progress.json; made if it does not exist')
    actions: int = parameter(100, 'actions that the bags of the folder shall hold in the end', 1, 10_000_000)
    seed: int = parameter(0, 'seed of the actions; one collection has one seed', 0, 2**31 - 1)
    targets: str = parameter('entities', 'what is moved: the entities that perception sees, or whatever is at random '
                             'positions, for which no perception is needed', choices=('entities', 'positions'))
    topics: str = parameter('image camera_info joint_states executed_actions entities',
                            'topics to record, separated by spaces; those without a publisher are waited for')
    pick_margin: float = parameter(0.025, 'entities so far outside work_area are brought back, metres', 0, 1)
    pick_noise: float = parameter(0.005, 'standard deviation of picks around an entity, metres', 0, 0.1)
    minimum_confidence: float = parameter(0.2, 'entities below are neither picked nor built on', 0, 1)
    object_height: float = parameter(0.03, "height of an object's centre above what it stands on, metres", 0.001, 1)
    clearance: float = parameter(0.066, 'smallest distance between the centres of neighbours, metres', 0.001, 1)
    max_stack: int = parameter(3, 'no stack is built higher than so many things on purpose', 1, 100)
    max_belief_age: float = parameter(2.0, 'no action when the newest image or entities are older, seconds', 0.01, 60)
    settle_time: float = parameter(
        0.5, 'images and entities count again when younger than the end of an action by this, seconds', 0.3, 60)
    observation_timeout: float = parameter(10.0, 'seconds to wait for such images and entities before giving up', 0.1,
                                           600)
    motion_threshold: float = parameter(0.02, 'no action while a joint is faster than this, rad/s or m/s', 0, 10)
    report_timeout: float = parameter(2.0, 'seconds after a PickPlace within which executed_actions must tell of it',
                                      0.1, 60)
    max_failures: int = parameter(5, 'refused or failed actions in a row after which the collection ends; a miss at '
                                  'a random position is none', 1, 1000)


class CollectionStopped(Exception):
    """The collection cannot go on; the message says why."""


class InteractionCollector(ManagedNode[CollectorSettings]):
    """Action client of pick_place that records what happens; ends when there is enough, or with a reason.

    The exit status is 0 when the collection is complete or was interrupted, otherwise 1. While it is inactive nothing
    is recorded; active again, it goes on with another bag.
    """

    ends_on_failure = True

    def __init__(self, **arguments: Any) -> None:
        super().__init__('interaction_collector', CollectorSettings, 'collection', **arguments)
        self._images: Newest[int] = Newest()
        self._beliefs: Newest[tuple[int, bytes]] = Newest()
        self._reports: Newest[ExecutedAction] = Newest()
        self._bag: BagWriter | None = None
        self._recorder: Recorder | None = None
        self._collection: Collection | None = None
        self._thread: threading.Thread | None = None
        self._finishing, self._finished = threading.Lock(), True
        self._stopped = ''
        self._client = SafeActionClient(self, PickPlace, 'pick_place', callback_group=ReentrantCallbackGroup())
        self._switch = StopSwitch(self, self._stop)

    # ---- lifecycle ---------------------------------------------------------------------------------------------------

    def check(self, settings: CollectorSettings) -> None:
        """The zones have an inside, and what is needed is recorded."""
        Zones(settings)
        needed = [IMAGE, EXECUTED] + [ENTITIES] * (settings.targets == 'entities')
        if not set(needed) <= set(settings.topics.split()):
            raise InputError('parameter topics', f'{" and ".join(needed)} among them', settings.topics)

    def load(self) -> None:
        """Open the collection."""
        s = self.settings
        x0, y0, x1, y1 = s.work_area
        self._config = ExplorationConfig(
            PlannerConfig(work_area=(x0, y0, x1, y1), margin=s.pick_margin, object_height=s.object_height,
                          clearance=s.clearance, minimum_confidence=s.minimum_confidence), s.pick_noise, s.max_stack)
        self._collection = Collection(s.folder, s.seed)
        if self._collection.recovered:
            self.get_logger().warning('recovered after a recording that was killed: '
                                      + ', '.join(self._collection.recovered))
        self._say(self._collection)

    def start(self) -> None:
        """Play, in a thread."""
        s = self.settings
        self._images, self._beliefs, self._reports = Newest(), Newest(), Newest()
        self._robot = RobotWatch(s.motion_threshold, s.settle_time)
        self._not_before = self._seen = 0
        self._finished, self._stopped = False, ''
        self._arm = Arm(self._client, s.server_timeout, s.action_timeout)
        assert self._collection is not None
        self._thread = threading.Thread(target=self._run, args=(self._collection,), name='collector', daemon=True)
        self._thread.start()

    def halt(self) -> None:
        """Stop the arm, and finish the bag in any case."""
        for newest in (self._images, self._beliefs, self._reports):
            newest.close()
        if self._thread is not None:
            self._thread.join(5.0)  # an arm that does not answer is not waited for
            self._thread = None
        if self._collection is not None:
            self._finish(self._collection, 'interrupted', 0)

    def unload(self) -> None:
        """Close the collection."""
        if self._collection is not None:
            self._collection.close()
            self._collection = None

    def _stop(self, reason: str) -> str:
        """End the arm's action at once, and the collection with it."""
        if self._finished:
            return ''
        self._stopped = reason
        self.diagnostics.count('stops')
        return 'the collection'

    # ---- what is heard (executor's threads) --------------------------------------------------------------------------

    def _hear(self, topic: str, arrived: int, data: bytes) -> None:
        if topic == IMAGE:
            self._images.put(header_stamp(data, arrived))
        elif topic == ENTITIES:
            self._beliefs.put((header_stamp(data, arrived), data))
        elif topic == JOINTS:
            self._watch(deserialize_message(data, JointState), arrived)
        elif topic == EXECUTED:
            report = deserialize_message(data, ExecutedAction)
            self._robot.executed(None, seconds(report.finished))
            self._settle(nanoseconds(report.finished))  # also of actions that others had begun
            self._reports.put(report)
        self.diagnostics.count(f'recorded_{topic}')

    def _watch(self, joints: JointState, arrived: int) -> None:
        try:
            stamp = 1e-9 * (nanoseconds(joints.header.stamp) or arrived)
            self._robot.joints(joints.name, joints.position, joints.velocity, stamp)
        except InputError as error:
            self.diagnostics.reject('bad_joint_states', error)

    # ---- the collection (its own thread) -----------------------------------------------------------------------------

    def _run(self, collection: Collection) -> None:
        reason, status = '', 0
        try:
            self._collect(collection)
        except (CollectionStopped, ArmLost) as stop:
            reason, status = str(stop), 1
        except Exception:
            reason, status = f'internal error: {traceback.format_exc()}', 1
        if self._closed() or not rclpy.ok(context=self.context):
            reason, status = 'interrupted', 0
        self._finish(collection, reason, status)
        if not self._closed():
            self.status = status
            self.ended.set()

    def _collect(self, collection: Collection) -> None:
        s = self.settings
        if collection.executed >= s.actions:
            return
        self._arm.wait_for_server(self._closed)
        self._bag = BagWriter(collection.new_bag())
        self.diagnostics.fact('bag', self._bag.path.name)
        self._recorder = Recorder(self, self._bag, s.topics.split(), self._hear, self.diagnostics)
        self._wait_for_publisher(self._recorder, EXECUTED)
        failures = 0
        entities = self._observe()
        while collection.executed < s.actions:
            move = self._choose(collection, entities)
            outcome, report = self._act(move)
            if self._stopped:
                raise CollectionStopped(self._stopped)
            if self._closed():
                return
            if report is None:
                collection.refuse()
                self.diagnostics.reject('refused', outcome.message)
            failed = report is None or not (report.success or move.kind == ANYWHERE)
            failures = failures + 1 if failed else 0 if report and report.success else failures
            if failures >= s.max_failures:
                raise CollectionStopped(f'{failures} actions in a row failed; the last: {outcome.message}')
            entities = self._observe()
            if report is not None:  # now with an image after it
                collection.count(bool(report.success))
                self.diagnostics.count('moved' if report.success else 'missed')
                self._say(collection)
                self.get_logger().info(f'{collection.executed} of {s.actions} actions', throttle_duration_sec=30.0)

    def _choose(self, collection: Collection, entities: tuple[Entity, ...]) -> Move:
        """The next move that the zones allow.

        Raises:
            CollectionStopped: there is none among many.
        """
        zones, problem = Zones(self.settings), ''
        for _ in range(DRAWS):
            move = choose(self.settings.seed, collection.draw(), entities, self._config)
            command = move.command
            problem = zones.problem('pick', *command.pick[:2]) or zones.problem('place', *command.place[:2])
            if not problem:
                return move
            self.diagnostics.count('moves_forbidden')
        raise CollectionStopped(f'none of {DRAWS} moves is allowed; the last: {problem}')

    def _wait_for_publisher(self, recorder: Recorder, topic: str) -> None:
        waited = threading.Event()
        for _ in range(int(self.settings.observation_timeout / 0.05) + 1):
            if recorder.has(topic) or self._closed():
                return
            waited.wait(0.05)
        raise CollectionStopped(str(InputError(topic, f'a publisher within {self.settings.observation_timeout:g} s, '
                                               'which tells what the arm has done', 'none')))

    def _observe(self) -> tuple[Entity, ...]:
        """What is seen after the last action: an image in the bag and, if they are wanted, entities.

        Raises:
            CollectionStopped: nothing fresh comes in time, or it cannot be used.
        """
        s = self.settings
        image = self._images.wait_for(self._is_fresh, s.observation_timeout, self._closed)
        if image is None:
            raise CollectionStopped(self._nothing('image', self._images.peek()))
        self._seen = image
        if s.targets == 'positions':
            return ()
        belief = self._beliefs.wait_for(lambda b: self._is_fresh(b[0]), s.observation_timeout, self._closed)
        if belief is None:
            newest = self._beliefs.peek()
            raise CollectionStopped(self._nothing('entities', newest[0] if newest else None))
        self._seen, data = belief
        message = deserialize_message(data, EntityArray)
        if message.work_frame != s.work_frame:
            raise CollectionStopped(str(InputError('entities: work_frame', s.work_frame, message.work_frame or 'none')))
        try:
            return frame_from_message(message).entities
        except InputError as error:
            raise CollectionStopped(str(error)) from error

    def _act(self, move: Move) -> tuple[Outcome, ExecutedAction | None]:
        """Carry out a move; the arm's own report of it, None when it did nothing."""
        s, command = self.settings, move.command
        goal = PickPlace.Goal(entity_id=command.entity_id, pick=point(command.pick), place=point(command.place),
                              max_speed=s.max_speed)
        goal.header = Header(frame_id=s.work_frame)
        goal.header.stamp.sec, goal.header.stamp.nanosec = divmod(self._seen, 1_000_000_000)
        sent = self._now()
        try:
            outcome = self._arm.move(goal, lambda: self._closed() or bool(self._stopped))
        except ArmLost as error:
            outcome = Outcome(False, str(error))
        report = self._reports.wait_for(lambda r: nanoseconds(r.started) > sent - SKEW, s.report_timeout, self._closed)
        self._reports.take(0.0)
        if report is None and outcome.success:
            outcome = Outcome(False, str(InputError(EXECUTED, f'a message within {s.report_timeout:g} s after an '
                                                    'action', 'none')))
        self._settle(self._now())
        return outcome, report

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _settle(self, moment: int) -> None:
        """What is seen counts again when the scene has come to rest after a moment (ns)."""
        self._not_before = max(self._not_before, moment + int(1e9 * self.settings.settle_time))

    def _closed(self) -> bool:
        return self._images.closed

    def _is_fresh(self, stamp: int) -> bool:
        young = self._now() - stamp <= 1e9 * self.settings.max_belief_age
        return young and stamp > self._not_before and not self._robot.at_image(1e-9 * stamp)[1]

    def _nothing(self, what: str, newest: int | None) -> str:
        s = self.settings
        got = 'none' if newest is None else f'the newest is {1e-9 * (self._now() - newest):.1f} s old'
        return str(InputError(what, f'one at most {s.max_belief_age:g} s old, after the last action and with the arm '
                              f'at rest, within {s.observation_timeout:g} s', got))

    def _finish(self, collection: Collection, reason: str, status: int) -> None:
        """Bring the bag to its end and tell of it; once."""
        with self._finishing:
            if self._finished:
                return
            self._finished = True
            if self._recorder is not None:
                self._recorder.close()
            if self._bag is not None:
                self._bag.close()
            self._recorder = self._bag = None
        self._say(collection)
        summary = (f'{collection.executed} of {self.settings.actions} actions in {len(collection.bags)} bags in '
                   f'{collection.folder}: {collection.moved} moved something, {collection.refused} were refused')
        if status:
            self.get_logger().error(f'{summary}; stopped: {reason}')
        else:
            self.get_logger().info(f'{summary}; {reason or "complete"}')

    def _say(self, collection: Collection) -> None:
        """The progress, for /diagnostics."""
        for name, value in (('actions', collection.executed), ('actions_wanted', self.settings.actions),
                            ('actions_moved', collection.moved), ('actions_refused', collection.refused)):
            self.diagnostics.fact(name, value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    transport.prepare()
    return run_node(InteractionCollector, 'interaction_collector', threads=4, argv=argv)


if __name__ == '__main__':
    raise SystemExit(main())
