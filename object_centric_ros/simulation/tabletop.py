"""A simulated table with 2 to 5 blocks, an arm and a calibrated camera.

Everything is in the `work_plane` frame (origin on the table surface, z up, metres). Labels and block positions are
ground truth: they are for evaluation and for making training data, never for perception or planning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, model_image
from object_centric_ros.simulation import tabletop_rules as rules
from object_centric_ros.simulation.arm import ArmIK, PickPlaceMotion
from object_centric_ros.simulation.sampling import clear_places
from object_centric_ros.simulation.tabletop_goals import GoalSpec, goal_errors, sample_goal
from object_centric_ros.simulation.tabletop_rules import PickPlaceResult
from object_centric_ros.simulation.tabletop_scene import (
    HOME_JOINTS,
    JOINT_NAMES,
    MAX_BLOCKS,
    TabletopConfig,
    build_model,
    sample_colours,
    top_down_joints,
)
from object_centric_ros.simulation.tabletop_view import TabletopView

RENDER_FACTOR = 3
"""A model frame is rendered this many times larger than asked for and area-averaged, as a camera image is."""


class TabletopWorld:
    """The tabletop; starts as the scene `reset(0, 3)` makes. Use one world from one thread only (OpenGL asks for it).

    Args:
        config: looks and physics.
    """

    def __init__(self, config: TabletopConfig | None = None) -> None:
        self.config = config or TabletopConfig()
        self.camera: PinholeCamera = self.config.camera()
        self.joint_names: list[str] = list(JOINT_NAMES)
        self._models: dict[int, tuple[mujoco.MjModel, mujoco.MjModel]] = {}
        self._compiled: dict[int, tuple[NDArray, NDArray]] = {}
        self._aimed: tuple[NDArray, NDArray] | None = None
        self._view: TabletopView | None = None
        self._ik: ArmIK | None = None
        self.reset(0, 3)

    # ---- state -----------------------------------------------------------------------------------------------------

    @property
    def n_blocks(self) -> int:
        """Number of blocks on the table."""
        return self._n

    def block_positions(self) -> NDArray[np.float64]:
        """Block centres [N, 3] (m)."""
        return self.data.qpos[:7 * self._n].reshape(-1, 7)[:, :3].copy()

    def block_yaws(self) -> NDArray[np.float64]:
        """Block yaws [N] (rad), in (-pi, pi]; for a block on its side, that of the edge nearest to x."""
        yaws = np.empty(self._n)
        for i, quat in enumerate(self.data.qpos[:7 * self._n].reshape(-1, 7)[:, 3:]):
            m = np.empty(9)
            mujoco.mju_quat2Mat(m, quat)
            axes = m.reshape(3, 3)
            flat = axes[:2, int(np.argmax(np.hypot(axes[0], axes[1])))] if abs(axes[2, 0]) > 0.7 else axes[:2, 0]
            yaws[i] = np.arctan2(flat[1], flat[0])
        return yaws

    def block_colours(self) -> NDArray[np.float64]:
        """Block colours [N, 3], RGB in [0, 1]."""
        return self._colours.copy()

    def joint_positions(self) -> NDArray[np.float64]:
        """Positions [8] of the joints in `joint_names` (rad, fingers m)."""
        return self.data.qpos[7 * self._n:].copy()

    def joint_velocities(self) -> NDArray[np.float64]:
        """Velocities [8] of the joints in `joint_names` (rad/s, fingers m/s)."""
        return self.data.qvel[6 * self._n:].copy()

    # ---- setting up ------------------------------------------------------------------------------------------------

    def reset(self, seed: int | np.random.Generator, n_blocks: int = 3) -> None:
        """A random unstacked scene of `n_blocks` blocks at rest, arm at home; the same seed gives the same scene."""
        if not 2 <= n_blocks <= MAX_BLOCKS:
            raise InputError('number of blocks', f'2 to {MAX_BLOCKS}', n_blocks)
        rng = np.random.default_rng(seed)
        places = clear_places(rng, n_blocks, self.config.workspace)
        yaws = rng.uniform(-np.pi, np.pi, n_blocks)
        self._use(n_blocks, sample_colours(rng, n_blocks, self.config.n_hues))
        self.set_blocks(np.column_stack([places, np.full(n_blocks, self.config.block_half_size)]), yaws)

    def set_blocks(self, positions: ArrayLike, yaws: ArrayLike) -> None:
        """Put the blocks at `positions` [N, 3] (m) with `yaws` [N] (rad), let them settle, send the arm home."""
        xyz, yaw = np.asarray(positions, float), np.asarray(yaws, float)
        finite = np.isfinite(xyz).all() and np.isfinite(yaw).all()
        if xyz.shape != (self._n, 3) or yaw.shape != (self._n,) or not finite:
            raise InputError('blocks', f'{self._n} finite positions [N, 3] and yaws [N]', f'{xyz.shape}, {yaw.shape}')
        for i in range(self._n):
            self._put(i, xyz[i], yaw[i])
        self.home_arm()
        self.settle()

    def home_arm(self) -> None:
        """Place the arm at home at once, hand open and empty."""
        self._set_arm(np.array(HOME_JOINTS), 0.0)

    def pose_arm_over(self, xy: ArrayLike, rng: np.random.Generator) -> None:
        """Pose the arm over the point `xy` [2] (m) as it could be seen while it works; nothing is touched or moved."""
        positions, yaws, half = self.block_positions(), self.block_yaws(), self.config.block_half_size
        yaw = float(rng.choice(rules.GRASP_YAWS[:2]))
        floor = rules.height_under(xy, yaw, rules.PALM_HALF, positions, yaws, half)[0]
        low = max(floor, 2 * half) + 0.002
        height = low if rng.random() < 0.25 else rng.uniform(low, 0.31)
        self._set_arm(top_down_joints(xy, height, yaw), float(rng.choice([0.0, 0.01, 0.028])))

    def settle(self, limit_s: float = 2.0) -> None:
        """Let physics run on the blocks, arm standing still out of their way, until they rest (at most `limit_s`)."""
        fast, data = self._models[self._n][1], self._fast_data
        data.qpos[:] = self.data.qpos[:7 * self._n]
        data.qvel[:] = 0
        data.qacc_warmstart[:] = 0
        quiet = 0
        for _ in range(int(limit_s / fast.opt.timestep)):
            mujoco.mj_step(fast, data)
            quiet = quiet + 1 if np.abs(data.qvel).max() < 0.03 else 0
            if quiet >= 6:
                break
        self.data.qpos[:7 * self._n] = data.qpos
        self.data.qvel[:] = 0
        mujoco.mj_forward(self.model, self.data)

    def save_state(self) -> tuple[NDArray[np.float64], ...]:
        """Everything that `restore_state` needs to bring this scene back."""
        return (self.data.qpos.copy(), self.data.qvel.copy(), self.data.ctrl.copy(),
                self.data.eq_active.astype(float), np.array(self.model.eq_data))

    def restore_state(self, state: tuple[NDArray[np.float64], ...]) -> None:
        """Go back to a state of the same scene."""
        self.data.qpos[:], self.data.qvel[:], self.data.ctrl[:] = state[:3]
        self.data.eq_active[:] = state[3].astype(self.data.eq_active.dtype)
        self.model.eq_data[:] = state[4]
        mujoco.mj_forward(self.model, self.data)

    # ---- acting ----------------------------------------------------------------------------------------------------

    def begin_pick_place(self, pick_xy: ArrayLike, place_xy: ArrayLike) -> PickPlaceMotion:
        """Start a pick-and-place with the arm; advance it in time until it is done.

        Args:
            pick_xy, place_xy: points [2] in work_plane (m).
        """
        pick, place = self._point('pick', pick_xy), self._point('place', place_xy)
        if self._ik is None:
            self._ik = ArmIK(self.config)
        return PickPlaceMotion(self.model, self.data, self.n_blocks, self._ik, pick, place)

    def step(self, action: ArrayLike) -> PickPlaceResult:
        """`pick_place` with one vector [4]: pick x, y and place x, y (m)."""
        pick, place = np.asarray(action, float).reshape(2, 2)
        return self.pick_place(pick, place)

    def pick_place(self, pick_xy: ArrayLike, place_xy: ArrayLike) -> PickPlaceResult:
        """A pick-and-place with the arm from start to end, as fast as it can be computed."""
        return self.begin_pick_place(pick_xy, place_xy).run()

    def teleport_pick_place(self, pick_xy: ArrayLike, place_xy: ArrayLike) -> PickPlaceResult:
        """The outcome of a pick-and-place without moving the arm: same misses, same alignment, block released at once.

        Args:
            pick_xy, place_xy: points [2] in work_plane (m).
        """
        pick, place = self._point('pick', pick_xy), self._point('place', place_xy)
        positions, yaws, half = self.block_positions(), self.block_yaws(), self.config.block_half_size
        grasp = rules.find_grasp(pick, positions, yaws, half)
        if grasp is None:
            return PickPlaceResult(False, None, np.full(3, np.nan), 'nothing between the fingers')
        yaw = rules.squeezed_yaw(yaws[grasp.block], grasp.yaw)
        xy = place + rules.rotate([0.0, grasp.across], grasp.yaw)
        ground = rules.height_under(xy, yaw, (half, half), positions, yaws, half, ignore=grasp.block)[0]
        achieved = np.array([*xy, ground + half])
        self._put(grasp.block, achieved, yaw)
        self.settle()
        return PickPlaceResult(True, grasp.block, achieved, 'placed')

    # ---- goals -----------------------------------------------------------------------------------------------------

    def goal(self, seed: int | np.random.Generator, n_moved: int, stack: int = 0) -> GoalSpec:
        """A goal for the present scene: `n_moved` blocks elsewhere, some of them a tower `stack` blocks high."""
        return sample_goal(np.random.default_rng(seed), self.block_positions(), self.block_yaws(), self._colours,
                           n_moved, stack, self.config.workspace, self.config.block_half_size)

    def render_goal(self, goal: GoalSpec) -> NDArray[np.uint8]:
        """Camera image [480, 640, 3] of the goal, arm at home; the scene stays as it is."""
        with self.kept():
            self.set_blocks(goal.positions, goal.yaws)
            return self.render(self.config.width, self.config.height)

    def goal_reached(self, goal: GoalSpec, tolerance: float = 0.03) -> tuple[bool, NDArray[np.float64]]:
        """Whether each moved block is within `tolerance` (m) of its goal in x, y and z; and its largest error (m)."""
        errors = goal_errors(goal, self.block_positions())
        return bool((errors <= tolerance).all()), errors

    # ---- looking ---------------------------------------------------------------------------------------------------

    def place_camera(self, position: ArrayLike | None = None) -> None:
        """Move the camera to `position` [3] (m, work_plane); it looks at the configuration's target as before.

        None brings it back. `camera` tells where it is; it stays there when the scene is reset.
        """
        c = self.config
        if position is None:
            self.camera, self._aimed = c.camera(), None
        else:
            self.camera = PinholeCamera.looking_at(position, c.camera_target, c.fovy_deg, c.width, c.height)
            quat = np.empty(4)
            mujoco.mju_mat2Quat(quat, (self.camera.rotation * [1, -1, -1]).ravel())
            self._aimed = self.camera.position, quat
        self._aim()

    def render(self, width: int = 640, height: int = 480) -> NDArray[np.uint8]:
        """Camera image [height, width, 3], RGB."""
        return self._eye().colours(self.model, self.data, width, height)

    def render_labels(self, width: int = 640, height: int = 480) -> NDArray[np.uint8]:
        """Ground-truth labels [height, width]: 0 table, 1..N block, 255 arm."""
        return self._eye().labels(self.model, self.data, width, height)

    def model_frame(self, size: int = 64) -> NDArray[np.uint8]:
        """What the model sees [size, size, 3]; agrees closely with `model_image(render(), size)` and is faster."""
        side = min(RENDER_FACTOR * size, self.config.height)
        return model_image(self.render(side, side), size)

    def model_labels(self, size: int = 64) -> NDArray[np.uint8]:
        """Labels [size, size] of the model frame, taken at pixel centres."""
        return self.render_labels(size, size)

    def close(self) -> None:
        """Free the renderer; it comes back when something is rendered again."""
        if self._view is not None:
            self._view.close()
            self._view = None

    # ---- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Bring the scene back to its present state at the end of the block."""
        state = self.save_state()
        try:
            yield
        finally:
            self.restore_state(state)

    def _eye(self) -> TabletopView:
        if self._view is None:
            self._view = TabletopView(self.model)
        return self._view

    def _use(self, n: int, colours: NDArray[np.float64]) -> None:
        if n not in self._models:
            self._models[n] = build_model(self.config, n, True), build_model(self.config, n, False)
            full = self._models[n][0]
            self._compiled[n] = full.cam_pos[0].copy(), full.cam_quat[0].copy()
        self._n, self._colours = n, colours
        self.model = self._models[n][0]
        self.data = mujoco.MjData(self.model)
        self._fast_data = mujoco.MjData(self._models[n][1])
        for i in range(n):
            self.model.geom(f'block{i}').rgba[:3] = colours[i]
        self._aim()

    def _aim(self) -> None:
        self.model.cam_pos[0], self.model.cam_quat[0] = self._aimed or self._compiled[self._n]
        mujoco.mj_camlight(self.model, self.data)

    def _put(self, block: int, xyz: ArrayLike, yaw: float) -> None:
        self.data.qpos[7 * block:7 * block + 7] = [*np.asarray(xyz, float), np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        self.data.qvel[6 * block:6 * block + 6] = 0

    def _set_arm(self, joints: NDArray[np.float64], closed: float) -> None:
        self.data.qpos[7 * self._n:] = self.data.ctrl[:] = [*joints, closed, closed]
        self.data.qvel[6 * self._n:] = 0
        self.data.eq_active[:] = 0
        mujoco.mj_forward(self.model, self.data)

    def _point(self, name: str, xy: ArrayLike) -> NDArray[np.float64]:
        point = np.asarray(xy, float)
        limit = self.config.workspace + 0.03
        if point.shape != (2,) or not np.isfinite(point).all() or np.abs(point).max() > limit:
            raise InputError(f'{name} position', f'x, y within {limit:.2f} m of the table centre', point.tolist())
        return point
