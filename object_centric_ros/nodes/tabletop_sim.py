"""The simulated tabletop as a robot with a camera: what a driver and a PickPlace server would be on a real one."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
from numpy.typing import NDArray
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from object_centric_ros.action import PickPlace
from object_centric_ros.errors import InputError
from object_centric_ros.msg import ExecutedAction
from object_centric_ros.nodes import transport
from object_centric_ros.nodes.cameras import info_from_camera
from object_centric_ros.nodes.diagnostics import Diagnostics
from object_centric_ros.nodes.images import from_array
from object_centric_ros.nodes.messages import point
from object_centric_ros.nodes.parameters import declare, parameter, qos_from_parameters, watch
from object_centric_ros.nodes.runner import run_node
from object_centric_ros.srv import ResetWorld

if TYPE_CHECKING:
    from object_centric_ros.simulation.arm import PickPlaceMotion
    from object_centric_ros.simulation.tabletop import TabletopWorld


@dataclass(frozen=True)
class SimSettings:
    """Parameters of the node."""

    seed: int = parameter(0, 'seed of the first scene', 0, 2**31 - 1, change='never')
    n_blocks: int = parameter(3, 'blocks of the first scene', 2, 5, change='never')
    rate_hz: float = parameter(15.0, 'camera images a second', 0.1, 120, change='never')
    speed: float = parameter(2.0, 'simulated seconds in one second', 0.05, 50, change='live')
    image_width: int = parameter(640, 'width of the camera image, pixels', 64, 1920, change='never')
    image_height: int = parameter(480, 'height of the camera image, pixels', 64, 1080, change='never')
    work_frame: str = parameter('work_plane', 'frame of positions: origin on the table, x right, y away, z up',
                                change='never')
    camera_frame: str = parameter('camera_optical_frame', 'frame_id of image and camera_info', change='never')


def make_world(settings: SimSettings) -> TabletopWorld:
    """The world of the parameters; imports mujoco. Called in the thread that renders."""
    from object_centric_ros.simulation.tabletop import TabletopWorld
    from object_centric_ros.simulation.tabletop_scene import TabletopConfig
    world = TabletopWorld(TabletopConfig(width=settings.image_width, height=settings.image_height))
    world.reset(settings.seed, settings.n_blocks)
    world.render(settings.image_width, settings.image_height)
    return world


@dataclass
class Job:
    """Something that the world's thread is asked to do; `done` is set when `result` or `error` is."""

    call: Callable[[TabletopWorld], Any]
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: InputError | None = None


@dataclass
class Run:
    """A pick-and-place under way; `cancel` and `done` are how the two threads talk."""

    goal: PickPlace.Goal
    motion: PickPlaceMotion
    started: Time
    cancel: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False


class TabletopSim(Node):
    """Publishes what the simulated camera and joints see; carries out PickPlace and ResetWorld.

    The world, its physics and its OpenGL context live in one thread.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__('tabletop_sim', **arguments)
        self.settings = s = declare(self, SimSettings)
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._run: Run | None = None
        self._stop, self._ready = threading.Event(), threading.Event()
        self._failure: InputError | None = None
        self._picture: NDArray[np.uint8] | None = None

        watch(self, SimSettings, self._changed)
        self._image = self._publish_on(Image, 'image', 2)
        self._info = self._publish_on(CameraInfo, 'camera_info', 2)
        self._joints = self._publish_on(JointState, 'joint_states', 10)
        self._executed = self._publish_on(ExecutedAction, 'executed_actions', 10)
        self._truth = self._publish_on(PoseArray, 'ground_truth/blocks', 2)
        self.diagnostics = Diagnostics(self, 'simulated tabletop')
        self.diagnostics.fact('speed', s.speed)
        self._thread = threading.Thread(target=self._live, name='world', daemon=True)
        self._thread.start()
        if not self._ready.wait(120.0) or self._failure:
            raise self._failure or InputError('simulated world', 'ready within 120 s', 'not ready')
        group = ReentrantCallbackGroup()
        self._server = ActionServer(self, PickPlace, 'pick_place', self._execute, callback_group=group,
                                    cancel_callback=lambda _: CancelResponse.ACCEPT)
        self.create_service(ResetWorld, 'reset', self._reset, callback_group=group)
        self.get_logger().info(f'{s.n_blocks} blocks, seed {s.seed}, {s.rate_hz:g} images a second, '
                               f'{s.speed:g} times as fast as real')

    def _publish_on(self, kind: Any, topic: str, depth: int) -> Any:
        with qos_from_parameters(topic) as options:
            return self.create_publisher(kind, topic, QoSProfile(depth=depth), qos_overriding_options=options)

    def _changed(self, settings: SimSettings) -> None:
        self.settings = settings
        self.diagnostics.fact('speed', settings.speed)

    # ---- requests (executor's threads) -------------------------------------------------------------------------------

    def _ask(self, call: Callable[[TabletopWorld], Any]) -> Any:
        """What `call` returns in the world's thread.

        Raises:
            InputError: from `call`, or because the node is ending.
        """
        job = Job(call)
        self._jobs.put(job)
        while not job.done.wait(0.5):
            if self._stop.is_set():
                raise InputError('simulated world', 'a running node', 'one that ends')
        if job.error:
            raise job.error
        return job.result

    def _begin(self, world: TabletopWorld, goal: PickPlace.Goal) -> Run:
        if self._run is not None:
            raise InputError('pick_place', 'one action at a time', 'another one is under way')
        if goal.header.frame_id != self.settings.work_frame:
            raise InputError('pick_place: frame', self.settings.work_frame, goal.header.frame_id or 'none')
        if not (np.isfinite(goal.max_speed) and goal.max_speed >= 0):
            raise InputError('pick_place: max_speed', 'm/s, or 0 for as fast as the arm goes', goal.max_speed)
        motion = world.begin_pick_place((goal.pick.x, goal.pick.y), (goal.place.x, goal.place.y))
        self._run = Run(goal, motion, self.get_clock().now().to_msg())
        return self._run

    def _execute(self, handle: ServerGoalHandle) -> PickPlace.Result:
        try:
            run: Run = self._ask(lambda world: self._begin(world, handle.request))
        except InputError as error:
            self.diagnostics.reject('pick_place_refused', error)
            handle.abort()
            return PickPlace.Result(success=False, achieved=_point_or_nan(None), message=str(error))
        while not run.done.wait(0.1):
            if handle.is_cancel_requested:
                run.cancel.set()
            if self._stop.is_set():
                handle.abort()
                return PickPlace.Result(success=False, achieved=_point_or_nan(None), message='the node was ended')
            handle.publish_feedback(PickPlace.Feedback(stage=run.motion.stage, progress=float(run.motion.progress)))
        outcome = run.motion.result
        self.diagnostics.count('pick_place_done' if outcome.success else 'pick_place_failed')
        if run.cancelled:
            handle.canceled()
        elif outcome.success:
            handle.succeed()
        else:
            handle.abort()
        return PickPlace.Result(success=bool(outcome.success), achieved=_point_or_nan(outcome.achieved),
                                message='' if outcome.success else outcome.message)

    def _reset(self, request: ResetWorld.Request, response: ResetWorld.Response) -> ResetWorld.Response:
        def reset(world: TabletopWorld) -> None:
            if self._run is not None:
                raise InputError('reset', 'an arm at rest', 'one that moves')
            world.reset(int(request.seed), int(request.n_blocks))
            self._picture = None

        try:
            self._ask(reset)
        except InputError as error:
            self.diagnostics.reject('reset_refused', error)
            response.success, response.message = False, str(error)
        else:
            self.diagnostics.count('resets')
            response.success, response.message = True, f'{request.n_blocks} blocks, seed {request.seed}'
        return response

    # ---- the world's thread -----------------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            world = make_world(self.settings)
        except InputError as error:
            self._failure = error
            return
        finally:
            self._ready.set()
        period = 1 / self.settings.rate_hz
        before = due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            passed, before = min(now - before, 3 * period), now
            due = max(due + period, now)  # a late image is late; it is not made up for
            try:
                self._do_jobs(world)
                self._move(passed * self.settings.speed)
                self._look(world)
            except Exception:
                if not rclpy.ok(context=self.context):
                    return
                self.diagnostics.reject('errors', traceback.format_exc())
            self.diagnostics.took('step', time.monotonic() - now)

    def _do_jobs(self, world: TabletopWorld) -> None:
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            try:
                job.result = job.call(world)
            except InputError as error:
                job.error = error
            finally:
                job.done.set()

    def _move(self, simulated_s: float) -> None:
        run = self._run
        if run is None:
            return
        self._picture = None
        if run.cancel.is_set() and not run.cancelled:
            run.cancelled = True
            run.motion.cancel()
        if run.goal.max_speed:  # of real seconds, as whoever asked sees it
            run.motion.max_speed = run.goal.max_speed / self.settings.speed
        run.motion.advance(simulated_s)
        if run.motion.done:
            now = self.get_clock().now().to_msg()
            goal = run.goal
            self._executed.publish(ExecutedAction(
                header=Header(stamp=now, frame_id=self.settings.work_frame), entity_id=goal.entity_id, pick=goal.pick,
                place=goal.place, success=bool(run.motion.result.success), started=run.started, finished=now))
            self._run = None
            run.done.set()

    def _look(self, world: TabletopWorld) -> None:
        """Publish the state; a picture of a scene that stands still is used again."""
        s = self.settings
        stamp = self.get_clock().now().to_msg()
        header = Header(stamp=stamp, frame_id=s.camera_frame)
        if self._picture is None:
            self._picture = world.render(s.image_width, s.image_height)
        self._info.publish(info_from_camera(world.camera, header))
        self._joints.publish(JointState(header=Header(stamp=stamp), name=world.joint_names,
                                        position=world.joint_positions().tolist(),
                                        velocity=world.joint_velocities().tolist()))
        self._image.publish(from_array(self._picture, header, 'rgb8'))
        self._truth.publish(PoseArray(header=Header(stamp=stamp, frame_id=s.work_frame), poses=[
            Pose(position=point(tuple(xyz)), orientation=Quaternion(z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2))))
            for xyz, yaw in zip(world.block_positions(), world.block_yaws(), strict=True)]))
        self.diagnostics.count('images_published')

    def stop(self) -> None:
        """End the world's thread."""
        self._stop.set()
        self._thread.join(5.0)


def _point_or_nan(xyz: NDArray[np.float64] | None) -> Point:
    """Where something was put; NaN if nothing was."""
    return point((np.nan,) * 3 if xyz is None else tuple(xyz))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    transport.prepare()
    return run_node(TabletopSim, 'tabletop_sim', threads=4, argv=argv)


if __name__ == '__main__':
    raise SystemExit(main())
