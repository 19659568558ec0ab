"""Goals in, pick-and-place commands out: the planner as a ROS 2 node."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from object_centric_ros.action import BuildGoal, PickPlace
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, model_image, table_to_model
from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes import transport
from object_centric_ros.nodes.build import BuildLimits, BuildStopped, RosBuild
from object_centric_ros.nodes.cameras import Transforms, one_pose, preparation_of, same_camera
from object_centric_ros.nodes.clients import SafeActionClient
from object_centric_ros.nodes.drawing import draw_plan
from object_centric_ros.nodes.goal_pictures import example_pictures, goal_of_pictures, kind_of_goal, picture_of
from object_centric_ros.nodes.images import from_array
from object_centric_ros.nodes.managed import ManagedNode
from object_centric_ros.nodes.messages import relation_from_message
from object_centric_ros.nodes.parameters import parameter
from object_centric_ros.nodes.plan_markers import plan_markers
from object_centric_ros.nodes.runner import run_node
from object_centric_ros.nodes.stop import StopSwitch
from object_centric_ros.nodes.waiting import Newest
from object_centric_ros.nodes.zones import ArmSettings, Zones
from object_centric_ros.planning.commands import Command, Outcome, Plan
from object_centric_ros.planning.relations import Relation
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.entities import TrackedFrame

RESULTS = 10
"""Seconds that the server keeps a result, and the goal with its image, after the end; rclpy's default is 900."""


class PlannerLike(Protocol):
    """What the node needs of a Planner."""

    model_id: str
    camera: PinholeCamera
    config: PlannerConfig

    def goal_from_image(self, image: NDArray[np.uint8]) -> Any:
        """A goal from RGB uint8 [H, W, 3]."""

    def goal_from_places(self, places: dict[int, tuple[float, float]]) -> Any:
        """A goal from places (x, y) in metres by entity id."""

    def goal_from_relations(self, relations: Sequence[Relation]) -> Any:
        """A goal from relations between entities."""

    def plan(self, frame: TrackedFrame, goal: Any, n_steps: int | None = None) -> Plan:
        """Plan from a frame."""


@dataclass(frozen=True)
class PlannerSettings(ArmSettings):
    """Parameters of the node."""

    checkpoint: str = parameter('', 'model file (.safetensors), that of entity_perception; empty: the shipped weights')
    device: str = parameter('auto', 'where the model runs: auto, cpu, cuda or cuda:N')
    threads: int = parameter(0, 'CPU threads of the model; 0: OMP_NUM_THREADS, else a third of the cores', 0, 256)
    seed: int = parameter(0, 'seed of the search', 0, 2**31 - 1)
    camera_position: tuple[float, ...] = parameter(
        (), 'camera centre x, y, z in work_frame, metres; empty: as the model was trained', -100, 100, lengths=(0, 3))
    camera_orientation: tuple[float, ...] = parameter(
        (), 'optical frame to work_frame, quaternion x, y, z, w or matrix by rows; empty: as the model was trained',
        -1, 1, lengths=(0, 4, 9))
    rectified: bool = parameter(False, "whether the camera's images are free of distortion already, as in "
                                'entity_perception')
    camera_pose: str = parameter(
        'parameters', 'where the pose of the camera comes from, as in entity_perception; tf: from the frame_id of '
        'camera_info to work_frame', choices=('parameters', 'tf'))
    crop: tuple[int, ...] = parameter((), 'left, top, width, height (pixels), as in entity_perception', 0, 8192,
                                      lengths=(0, 4))
    letterbox: bool = parameter(False, 'black bars, as in entity_perception')
    max_belief_age: float = parameter(
        2.0, 'no command when the newest entities are older than this, seconds', 0.01, 60, change='live')
    settle_time: float = parameter(
        1.0, 'entities count again when their image is younger than the end of an action by this, seconds', 0, 60,
        change='live')
    belief_timeout: float = parameter(
        10.0, 'seconds to wait for such entities before giving up', 0.1, 600, change='live')
    pick_tolerance: float = parameter(
        0.04, 'a command is dropped if its entity has moved farther since it was planned, metres', 0.001, 1,
        change='live')


PlannerFactory = Callable[[PlannerSettings, PinholeCamera | None], PlannerLike]


def make_planner(settings: PlannerSettings, camera: PinholeCamera | None) -> PlannerLike:
    """The planner of the package on the learned model; imports torch."""
    from object_centric_ros.planning.planner import Planner
    x0, y0, x1, y1 = settings.work_area
    return Planner.load(settings.checkpoint or None, camera=camera, config=PlannerConfig(work_area=(x0, y0, x1, y1)),
                        device=settings.device, seed=settings.seed, threads=transport.threads_for(settings.threads))


class PickPlacePlanner(ManagedNode[PlannerSettings]):
    """Action server build_goal on top of action client pick_place.

    A goal that cannot be used is accepted and aborted at once: only a result can carry the reason to the client. So is
    one that comes while the node is not active.

    Args:
        factory: makes the planner; tests pass their own.
        arguments: for the node.
    """

    watches = ('entity_perception',)

    def __init__(self, factory: PlannerFactory = make_planner, **arguments: Any) -> None:
        super().__init__('pick_place_planner', PlannerSettings, 'build_goal', **arguments)
        self._factory = factory
        self._transforms: Transforms | None = None
        self._planner: PlannerLike | None = None
        self._beliefs: Newest[EntityArray] = Newest()
        self._session = 0
        self._info: CameraInfo | None = None
        self._busy, self._stopped, self._moves_shown = threading.Lock(), '', False
        group = ReentrantCallbackGroup()
        self._plans = self.publish_on(Image, 'plan', QoSProfile(depth=2))
        self._arrows = self.publish_on(MarkerArray, 'plan_markers', QoSProfile(
            depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))  # who comes late sees them too
        self._client = SafeActionClient(self, PickPlace, 'pick_place', callback_group=group)
        self._server = ActionServer(self, BuildGoal, 'build_goal', self._execute, callback_group=group,
                                    cancel_callback=lambda _: CancelResponse.ACCEPT, result_timeout=RESULTS)
        self._switch = StopSwitch(self, self._stop)

    # ---- lifecycle ---------------------------------------------------------------------------------------------------

    def check(self, settings: PlannerSettings) -> None:
        """The pose of the camera is complete, or not given, and the zones have an inside."""
        one_pose(settings.camera_position, settings.camera_orientation, settings.camera_pose)
        Zones(settings)

    def load(self) -> None:
        """Load the model; one without a camera of its own is loaded when camera_info has come."""
        self.unload()  # of a load that failed
        s = self.settings
        self._pose = one_pose(s.camera_position, s.camera_orientation, s.camera_pose)
        self._transforms = Transforms(self) if s.camera_pose == 'tf' else None
        self._info = None
        try:
            self.get_logger().info(f'model {self._planner_now().model_id} is ready')
        except InputError as error:
            if error.what != 'camera':
                raise

    def start(self) -> None:
        """Listen to what perception sees, and take goals."""
        self._beliefs, self._session = Newest(), 0
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.listen(EntityArray, 'entities', self._on_entities, newest, callback_group=MutuallyExclusiveCallbackGroup())
        self.listen(CameraInfo, 'camera_info', self._on_camera_info, QoSProfile(
            depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))

    def halt(self) -> None:
        """End a build under way, and with it the arm's action; its result says why."""
        self._beliefs.close()
        if self._busy.acquire(timeout=2 * self.settings.server_timeout):
            self._busy.release()

    def unload(self) -> None:
        """Let go of the planner and of the device with it."""
        self._planner = None
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None
        self.diagnostics.condition('model')

    def _stop(self, reason: str) -> str:
        """End the build under way and the arm's action at once."""
        if not self._busy.locked():
            return ''
        self._stopped = reason
        self.diagnostics.count('stops')
        return 'the build'

    def _on_entities(self, message: EntityArray) -> None:
        if self._session not in (0, message.session):
            self.diagnostics.count('perception_restarts')
        self._session = message.session
        self._beliefs.put(message)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._info = message

    # ---- the planner ------------------------------------------------------------------------------------------------

    def _planner_now(self) -> PlannerLike:
        """The planner for the camera that is known by now."""
        try:
            info, s = self._info, self.settings
            if self._transforms is not None and info is not None and self._pose is None:
                self._pose = self._transforms.pose(s.work_frame, info.header.frame_id, 0.0)
            known = info is not None and self._pose is not None
            told = preparation_of(s, s.rectified, info, self._pose, None).camera if known else None
            planner = self._planner or self._factory(s, told)  # a model may have no camera of its own
            self._preparation = preparation_of(s, s.rectified, info, self._pose, planner.camera)
            camera = self._preparation.camera
            if not same_camera(camera, planner.camera):
                planner = self._factory(self.settings, camera)
        except InputError as error:
            self.diagnostics.condition('model', 'error', f'no model: {error}')
            raise
        self.diagnostics.condition('model')
        self.diagnostics.fact('model_id', planner.model_id)
        self._planner = planner
        return planner

    # ---- a goal -----------------------------------------------------------------------------------------------------

    def _execute(self, handle: ServerGoalHandle) -> BuildGoal.Result:
        build: RosBuild | None = None
        if not self._busy.acquire(blocking=False):
            return self._refuse(handle, InputError('build_goal', 'one goal at a time', 'another one is under way'))
        self._stopped = ''
        try:
            self.wait_until_settled(60.0, lambda: bool(handle.is_cancel_requested))
            if not self.active:
                raise InputError('pick_place_planner', 'the state active', f'{self.state} {self.problem}'.rstrip())
            planner, s = self._planner_now(), self.settings
            limits = BuildLimits(s.max_belief_age, s.settle_time, s.belief_timeout, s.server_timeout, s.action_timeout,
                                 s.pick_tolerance, s.max_speed)
            build = RosBuild(self, handle, self._beliefs, self._client, limits, planner.model_id, Zones(s),
                             lambda: self._stopped)
            outcome = self._build(handle, planner, build)
        except InputError as error:
            return self._refuse(handle, error)
        except BuildStopped as stop:
            outcome = Outcome(False, str(stop), build.step if build else 0, build.cost if build else float('nan'))
        except Exception as error:  # whatever went wrong, the client hears of it and the node goes on
            if not rclpy.ok(context=self.context):
                return BuildGoal.Result(success=False, final_cost=float('nan'), message='the node was ended')
            self.diagnostics.reject('errors', traceback.format_exc())
            outcome = Outcome(False, f'internal error: {error!r}', build.step if build else 0)
        finally:
            self._clear_moves()
            self._busy.release()
        if build is not None and not outcome.success and build.why_cancelled():
            outcome = replace(outcome, message=build.why_cancelled())
        return self._end(handle, outcome)

    def _build(self, handle: ServerGoalHandle, planner: PlannerLike, build: RosBuild) -> Outcome:
        """Check the goal against what is seen, then run the loop."""
        from object_centric_ros.planning.loop import BuildLoop
        request: BuildGoal.Goal = handle.request
        kind = kind_of_goal(request)
        self.diagnostics.count('goals')
        picture, targets = None, None
        if kind == 'image':
            image = picture_of(request.image, self._preparation)
            build.observe()
            goal, picture = planner.goal_from_image(image), model_image(image)
        elif kind == 'examples':
            images = example_pictures(request, self._preparation)
            build.observe()
            goal = goal_of_pictures(planner.goal_from_image, images, build.go_on)
            picture = np.mean([model_image(image) for image in images], 0).astype(np.uint8)
        elif kind == 'places':
            places = self._places(request)
            self._must_know(build, set(places))
            goal = planner.goal_from_places(places)
            targets = table_to_model(planner.camera, list(places.values()), 0.03)
        else:
            self._check_frame(request)
            goal = planner.goal_from_relations([relation_from_message(r) for r in request.relations])
            self._must_know(build, goal.ids)
        build.show = lambda plan, header: self._show(plan, header, picture, targets)
        loop = BuildLoop(planner, goal, build.observe, build.act, build.feedback, build.cancelled,  # type: ignore[arg-type]
                         max_plans=int(request.max_plans), found=build.found)
        try:
            return loop.run()
        finally:
            for kind, times in build.findings.items():
                self.diagnostics.count(f'commands_{kind}', times)

    def _must_know(self, build: RosBuild, ids: set[int]) -> None:
        """The goal's ids must be in view, and keep their meaning from now on."""
        known = [e.id for e in build.observe().entities]
        build.pin_ids()
        unknown = sorted(ids - set(known))
        if unknown:
            raise InputError('goal: entity id', f'among those in view, {known}', unknown)

    def _check_frame(self, request: BuildGoal.Goal) -> None:
        if request.frame_id not in ('', self.settings.work_frame):
            raise InputError('goal: frame_id', f'{self.settings.work_frame} or empty', request.frame_id)

    def _places(self, request: BuildGoal.Goal) -> dict[int, tuple[float, float]]:
        """The goal's places by entity id, all of them finite, in the work area and named once."""
        self._check_frame(request)
        s = self.settings
        x0, y0, x1, y1 = s.work_area
        places: dict[int, tuple[float, float]] = {}
        for item in request.places:
            x, y = item.place.x, item.place.y
            if not (x0 <= x <= x1 and y0 <= y <= y1):
                raise InputError(f'goal: place of entity {item.entity_id}',
                                 f'x in [{x0:g}, {x1:g}] and y in [{y0:g}, {y1:g}] m', f'({x:g}, {y:g})')
            forbidden = Zones(s).problem('place', x, y)
            if forbidden:
                raise InputError(f'goal: place of entity {item.entity_id}', 'one where the arm may act', forbidden)
            if item.entity_id in places:
                raise InputError('goal: entity id', 'each at most once', f'{item.entity_id} twice')
            places[item.entity_id] = (x, y)
        return places

    def _show(self, plan: Plan, header: Header, goal: NDArray[np.uint8] | None,
              targets: NDArray[np.float64] | None) -> None:
        self.diagnostics.took('plan', plan.seconds)
        self.diagnostics.count('plans')
        self._show_moves(plan.commands)
        if self._plans.get_subscription_count() and len(plan.imagined):
            self._plans.publish(from_array(draw_plan(goal, plan.imagined, targets), header, 'rgb8'))

    def _show_moves(self, commands: Sequence[Command]) -> None:
        """Arrows for these commands instead of those before."""
        self._arrows.publish(plan_markers(commands, self.get_clock().now().to_msg(), self.settings.work_frame))
        self._moves_shown = bool(commands)

    def _clear_moves(self) -> None:
        if self._moves_shown and rclpy.ok(context=self.context):
            self._show_moves(())

    # ---- results ----------------------------------------------------------------------------------------------------

    def _refuse(self, handle: ServerGoalHandle, error: InputError) -> BuildGoal.Result:
        self.diagnostics.reject('goals_refused', error)
        handle.abort()
        return BuildGoal.Result(success=False, final_cost=float('nan'), message=str(error))

    def _end(self, handle: ServerGoalHandle, outcome: Outcome) -> BuildGoal.Result:
        if outcome.success:
            handle.succeed()
            kind = 'goals_reached'
        elif handle.is_cancel_requested:
            handle.canceled()
            kind = 'goals_cancelled'
        else:
            handle.abort()
            kind = 'goals_given_up'
        self.diagnostics.count(kind)
        self.get_logger().info(f'{kind} after {outcome.steps} commands: {outcome.message or "ok"}')
        return BuildGoal.Result(success=bool(outcome.success), steps=int(outcome.steps), final_cost=float(outcome.cost),
                                message='' if outcome.success else outcome.message)


def main(argv: Sequence[str] | None = None, factory: PlannerFactory = make_planner) -> int:
    """Run the node."""
    transport.prepare()
    return run_node(lambda: PickPlacePlanner(factory), 'pick_place_planner', threads=4, argv=argv)


if __name__ == '__main__':
    raise SystemExit(main())
