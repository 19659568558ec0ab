"""The arm at work: inverse kinematics and one pick-and-place as a motion that is advanced in time.

The motion knows what a blind robot knows: its joints, what its palm, fingers and the block in its hand touch, and that
the table is at z = 0. Heights are found by going down until something is met.
"""

from __future__ import annotations

from collections.abc import Generator

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.simulation.tabletop_rules import GRASP_YAWS, PickPlaceResult
from object_centric_ros.simulation.tabletop_scene import (
    FINGER_LENGTH,
    FINGER_OPEN,
    HOME_JOINTS,
    TabletopConfig,
    build_arm_model,
    top_down_joints,
)

TICK = 0.012
"""Time between two joint commands (s)."""
TRAVEL_HEIGHT = 0.30
"""Height of the palm above the table while it travels (m): a held block clears a stack of three."""
DOWN_SPEED, UP_SPEED, ACROSS_SPEED, JOINT_SPEED = 0.35, 0.7, 0.7, 3.0
"""Speeds of guarded descents, of lifting and of travelling (m/s), and of joint motions (rad/s)."""
CLOSED = FINGER_OPEN - 0.002
STAGES = ('approach', 'descend', 'grasp', 'lift', 'transport', 'lower', 'release', 'retreat', 'home')

Ticks = Generator[str, None, None]


class ArmIK:
    """Differential inverse kinematics of the palm, looking straight down, by mink.

    At each step a small quadratic programme finds joint velocities v that minimise the palm's pose error, within the
    joints' limits:  min_v |J v - e / dt|^2_W + a |v - posture|^2.
    """

    def __init__(self, config: TabletopConfig) -> None:
        self._configuration = mink.Configuration(build_arm_model(config))
        model = self._configuration.model
        self._palm = mink.FrameTask('palm', 'site', position_cost=1.0, orientation_cost=0.5, lm_damping=1e-6)
        self._posture = mink.PostureTask(model, cost=1e-4)
        self._limits = [mink.ConfigurationLimit(model)]
        self._ready = np.array([*top_down_joints((0.0, 0.0), TRAVEL_HEIGHT, 0.0), 0.0, 0.0])

    def step(self, joints: NDArray[np.float64], position: NDArray[np.float64], yaw: float,
             dt: float = TICK) -> NDArray[np.float64]:
        """Joints [6] (rad) one step of `dt` (s) nearer to the palm at `position` [3] (m), closing axis at `yaw`."""
        self._configuration.update(np.array([*joints, 0.0, 0.0]))
        turn = mink.SO3.from_z_radians(yaw) @ mink.SO3.from_y_radians(np.pi)
        self._palm.set_target(mink.SE3.from_rotation_and_translation(turn, position))
        self._posture.set_target(self._ready)
        velocity = mink.solve_ik(self._configuration, [self._palm, self._posture], dt, 'daqp', damping=1e-6,
                                 limits=self._limits)
        return self._configuration.integrate(velocity, dt)[:6]

    def solve(self, position: NDArray[np.float64], yaw: float, steps: int = 25) -> NDArray[np.float64]:
        """Joints [6] (rad) for the palm at `position` [3] (m), from the ready posture."""
        joints = self._ready[:6]
        for _ in range(steps):
            joints = self.step(joints, position, yaw)
        return joints

    def palm(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position of the palm [3] (m) for joints [6] (rad)."""
        self._configuration.update(np.array([*joints, 0.0, 0.0]))
        return self._configuration.get_transform_frame_to_world('palm', 'site').translation()


class PickPlaceMotion:
    """One pick-and-place under way; call `advance` until `done`.

    Args:
        model, data: of the world whose arm moves.
        blocks: how many blocks are on its table.
        ik: the arm's kinematics.
        pick, place: points [2] in work_plane (m).

    Attributes:
        max_speed: of the palm (m/s); may be changed on the way. The hand goes the same course, only later.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, blocks: int, ik: ArmIK, pick: NDArray[np.float64],
                 place: NDArray[np.float64]) -> None:
        self.max_speed = np.inf
        self._ahead: list[NDArray[np.float64]] = []  # joints [6] of the next ticks
        self._model, self._data, self._n = model, data, blocks
        self._ik, self._pick, self._place = ik, pick, place
        self._joints = self._data.ctrl[:6].copy()
        self._yaw, self._held, self._debt = 0.0, -1, 0.0
        self._substeps = max(1, round(TICK / self._model.opt.timestep))
        ids = {name: self._model.geom(name).id for name in ('table', 'palm', 'finger_left', 'finger_right')}
        self._table, self._palm, self._fingers = ids['table'], ids['palm'], (ids['finger_left'], ids['finger_right'])
        self._blocks = {self._model.geom(f'block{i}').id: i for i in range(self._n)}
        self.stage, self.done = 'approach', False
        self.result = PickPlaceResult(False, None, np.full(3, np.nan), 'not finished')
        self._script: Ticks = self._pick_and_place()

    @property
    def progress(self) -> float:
        """How far the motion is, in [0, 1]."""
        return 1.0 if self.done else STAGES.index(self.stage) / len(STAGES)

    def advance(self, dt_s: float) -> str:
        """Let `dt_s` seconds pass; returns the stage. Time below one tick is kept for the next call."""
        self._debt += dt_s
        while self._debt >= TICK - 1e-9 and not self.done:
            self._debt -= TICK
            if not self._ahead:
                before = self._data.ctrl[:6].copy()
                try:
                    self.stage = next(self._script)
                except StopIteration:
                    self.done = True
                    break
                self._ahead = self._no_faster(before, self._data.ctrl[:6].copy())
            self._data.ctrl[:6] = self._ahead.pop(0)
            for _ in range(self._substeps):
                mujoco.mj_step(self._model, self._data)
        return self.stage

    def run(self) -> PickPlaceResult:
        """Run the motion to its end."""
        while not self.done:
            self.advance(1.0)
        return self.result

    def cancel(self) -> None:
        """Stop: put down what is held where the hand is, and go home."""
        if not self.done:
            self._ahead, self._joints = [], self._data.ctrl[:6].copy()
            self._script = self._give_up('cancelled')

    def _no_faster(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """The way from joints to joints [6] in as many ticks as `max_speed` asks for."""
        if np.isinf(self.max_speed):
            return [after]
        ticks = int(np.ceil(np.linalg.norm(self._ik.palm(after) - self._ik.palm(before)) / (self.max_speed * TICK)))
        return [before + (after - before) * i / ticks for i in range(1, ticks)] + [after]

    # ---- the plan ---------------------------------------------------------------------------------------------------

    def _pick_and_place(self) -> Ticks:
        message = 'something is in the way of the fingers'
        for yaw in GRASP_YAWS:
            self._yaw = yaw
            yield from self._swing('approach', self._ik.solve(np.array([*self._pick, TRAVEL_HEIGHT]), yaw))
            yield from self._descend('descend', self._pick)
            on_table, on_palm = self._clearance() < 0.008, self._palm_met()
            if on_table or on_palm:
                yield from self._straight('grasp', self._here() + np.array([0, 0, 0.003]), 0.1)
                yield from self._close()
                if self._held >= 0:
                    break
                message = 'nothing between the fingers'
            if on_table and not on_palm:
                break
            self._data.ctrl[6:] = 0.0
            yield from self._straight('approach', np.array([*self._pick, TRAVEL_HEIGHT]), UP_SPEED)
        if self._held < 0:
            yield from self._go_home(message)
            return
        yield from self._straight('lift', np.array([*self._pick, TRAVEL_HEIGHT]), UP_SPEED)
        yield from self._straight('transport', np.array([*self._place, TRAVEL_HEIGHT]), ACROSS_SPEED)
        yield from self._descend('lower', self._place)
        block, achieved = self._held, self._held_position()
        yield from self._release()
        self.result = PickPlaceResult(True, block, achieved, 'placed')
        yield from self._go_home('placed')

    def _give_up(self, message: str) -> Ticks:
        if self._held >= 0:
            yield from self._descend('lower', self._here()[:2])
            yield from self._release()
        yield from self._go_home(message)

    def _go_home(self, message: str) -> Ticks:
        if not self.result.success:
            self.result = PickPlaceResult(False, None, np.full(3, np.nan), message)
        up = self._here()
        up[2] = max(up[2], TRAVEL_HEIGHT)
        yield from self._straight('retreat', up, UP_SPEED, rest=0.0)
        self._data.ctrl[6:] = 0.0
        yield from self._swing('home', np.array(HOME_JOINTS))

    # ---- motions ----------------------------------------------------------------------------------------------------

    def _here(self) -> NDArray[np.float64]:
        return self._ik.palm(self._joints)

    def _swing(self, stage: str, goal: NDArray[np.float64]) -> Ticks:
        """All joints to `goal` [6] along a smooth (minimum-jerk) course."""
        start = self._joints.copy()
        ticks = max(2, int(1.6 * np.abs(goal - start).max() / JOINT_SPEED / TICK))
        for s in _smooth(ticks):
            self._joints = start + s * (goal - start)
            yield self._command(stage)
        yield from self._wait(stage, 0.06)

    def _straight(self, stage: str, goal: NDArray[np.float64], speed: float, rest: float = 0.05) -> Ticks:
        """The palm in a straight line to `goal` [3] (m), looking down."""
        start = self._here()
        ticks = max(2, int(1.6 * np.linalg.norm(goal - start) / speed / TICK))
        for s in _smooth(ticks):
            self._joints = self._ik.step(self._joints, start + s * (goal - start), self._yaw)
            yield self._command(stage)
        yield from self._wait(stage, rest)

    def _descend(self, stage: str, xy: NDArray[np.float64]) -> Ticks:
        """Straight down over `xy` until the hand, or the block in it, meets something."""
        target = np.array([*xy, self._here()[2]])
        speed = 0.0
        while target[2] > FINGER_LENGTH - 0.004 and not self._met():
            speed = min(DOWN_SPEED, speed + 1.5 * TICK)
            target[2] -= speed * TICK
            self._joints = self._ik.step(self._joints, target, self._yaw)
            yield self._command(stage)
        self._joints = self._data.qpos[7 * self._n:7 * self._n + 6].copy()
        yield from self._wait(stage, 0.05)

    def _close(self) -> Ticks:
        """Close the fingers; a block that both touch, when they can close no further, is then held."""
        self._data.ctrl[6:] = CLOSED
        still = 0
        for _ in range(int(0.8 / TICK)):
            yield self._command('grasp')
            still = still + 1 if np.abs(self._data.qvel[-2:]).max() < 0.004 else 0
            if still >= 4:
                break
        pairs = self._touching()
        both = [b for g, b in self._blocks.items() if all((f, g) in pairs for f in self._fingers)]
        if both:
            self._weld(both[0])

    def _release(self) -> Ticks:
        self._data.eq_active[self._held] = 0
        self._held = -1
        self._data.ctrl[6:] = max(0.0, float(self._data.qpos[-2:].min()) - 0.012)
        yield from self._wait('release', 0.18)

    def _wait(self, stage: str, seconds: float) -> Ticks:
        for _ in range(int(seconds / TICK)):
            yield self._command(stage)

    def _command(self, stage: str) -> str:
        self._data.ctrl[:6] = self._joints
        return stage

    # ---- touch ------------------------------------------------------------------------------------------------------

    def _touching(self) -> set[tuple[int, int]]:
        """Pairs of geoms in contact, both ways round."""
        pairs = [(int(a), int(b)) for a, b in self._data.contact.geom]
        return {*pairs, *((b, a) for a, b in pairs)}

    def _met(self) -> bool:
        """Whether the hand meets anything; with a block in it, whether hand or block meet anything else."""
        held = next((g for g, b in self._blocks.items() if b == self._held), -1)
        hand = {self._palm, *self._fingers, held}
        return any(a in hand and b not in hand for a, b in self._touching())

    def _palm_met(self) -> bool:
        return any(a == self._palm for a, _ in self._touching())

    def _clearance(self) -> float:
        """Height of the fingertips above the table (m)."""
        return float(self._data.site('palm').xpos[2]) - FINGER_LENGTH

    def _hand(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        body = self._data.body('hand')
        return body.xpos.copy(), body.xmat.reshape(3, 3).copy()

    def _weld(self, block: int) -> None:
        """Fix the block to the hand as it lies between the fingers."""
        position, turn = self._hand()
        body = self._data.body(f'block{block}')
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, (turn.T @ body.xmat.reshape(3, 3)).ravel())
        self._offset = turn.T @ (body.xpos - position)
        self._model.eq_data[block, :11] = [0, 0, 0, *self._offset, *quat, 1]
        self._data.eq_active[block] = 1
        self._held = block

    def _held_position(self) -> NDArray[np.float64]:
        position, turn = self._hand()
        return position + turn @ self._offset


def _smooth(ticks: int) -> NDArray[np.float64]:
    """Minimum-jerk course from 0 to 1 in `ticks` steps."""
    s = np.arange(1, ticks + 1) / ticks
    return s ** 3 * (10 - 15 * s + 6 * s ** 2)
