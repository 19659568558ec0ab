"""The tabletop world: determinism, pictures, picking and placing, goals."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import model_image
from object_centric_ros.simulation.arm import TICK, TRAVEL_HEIGHT, ArmIK
from object_centric_ros.simulation.sampling import clear_places
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.simulation.tabletop_play import PlayConfig, make_batch, meta
from object_centric_ros.simulation.tabletop_rules import find_grasp, overlap, squeezed_yaw
from object_centric_ros.simulation.tabletop_scene import TabletopConfig, top_down_joints


@pytest.fixture(scope='module')
def world() -> TabletopWorld:
    return TabletopWorld()


def test_same_seed_same_scene_and_picture(world: TabletopWorld) -> None:
    world.reset(7, 4)
    positions, picture = world.block_positions(), world.render()
    world.reset(8, 5)
    assert world.n_blocks == 5 and not np.array_equal(world.render(), picture)
    other = TabletopWorld()
    for again in (world, other):
        again.reset(7, 4)
        assert np.array_equal(again.block_positions(), positions)
        assert np.array_equal(again.render(), picture)
    other.close()


@pytest.mark.parametrize('seed', range(5))
def test_reset_is_unstacked_and_settled(world: TabletopWorld, seed: int) -> None:
    world.reset(seed, 5)
    positions = world.block_positions()
    assert np.allclose(positions[:, 2], 0.03, atol=1e-3)
    assert np.abs(positions[:, :2]).max() <= 0.171
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=-1)[~np.eye(5, dtype=bool)]
    assert gaps.min() >= 0.089


def test_labels_agree_with_pixels_and_camera(world: TabletopWorld) -> None:
    world.reset(3, 3)
    picture, labels = world.render(), world.render_labels()
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    table = picture[labels == 0].astype(int)
    assert table.std(axis=0).max() < 6 and np.ptp(table.mean(axis=0)) < 3
    for i, (colour, centre) in enumerate(zip(world.block_colours(), world.camera.project(world.block_positions()),
                                             strict=True)):
        mask = labels == i + 1
        seen = picture[mask].mean(axis=0)
        assert np.dot(seen, colour) / np.linalg.norm(seen) / np.linalg.norm(colour) > 0.98
        v, u = np.nonzero(mask)
        assert np.hypot(u.mean() + 0.5 - centre[0], v.mean() + 0.5 - centre[1]) < 6


def test_a_camera_that_moves_sees_the_table_from_where_it_says(world: TabletopWorld) -> None:
    world.reset(5, 2)
    still = world.render()
    for place in ((0.2, -0.88, 1.0), (0.0, -0.7, 1.2), (-0.2, -1.0, 0.8)):
        world.place_camera(place)
        assert np.allclose(world.camera.position, place)
        labels = world.render_labels()
        for k, (u, v) in enumerate(world.camera.project(world.block_positions())):
            assert np.hypot(*(np.argwhere(labels == k + 1).mean(0) - (v, u))) < 2
    world.place_camera()
    assert np.array_equal(world.render(), still)


def test_episodes_with_a_moving_camera() -> None:
    still, moving = PlayConfig(steps=3, max_blocks=3), PlayConfig(steps=4, max_blocks=3, camera_motion=0.1)
    before, seen, again = (make_batch(config, [(1, 0)]) for config in (still, moving, still))
    assert all(np.array_equal(before[k], again[k], equal_nan=k == 'positions') for k in before)
    assert 'camera' in meta(still) and 'camera' not in meta(moving)
    world, poses = TabletopWorld(), seen['camera_poses'][0]
    assert np.abs(poses[..., 3] - world.config.camera_position).max() <= 0.1 and (np.ptp(poses[..., 3], 0) > 0.01).all()
    for pose in poses:
        world.place_camera(pose[:, 3])
        assert np.allclose(world.camera.rotation, pose[:, :3], atol=1e-6)
    with pytest.raises(InputError, match='camera_motion'):
        PlayConfig(camera_motion=1.0)


def test_model_frame_is_the_camera_image_made_small(world: TabletopWorld) -> None:
    world.reset(5, 5)
    difference = np.abs(world.model_frame().astype(int) - model_image(world.render()).astype(int))
    assert difference.mean() <= 2
    assert world.model_labels().shape == (64, 64)


def test_workspace_and_a_stack_of_three_are_inside_the_model_frame(world: TabletopWorld) -> None:
    corners = [(x, y, z) for x in (-0.2, 0.2) for y in (-0.2, 0.2) for z in (0, 0.18)]
    pixels = world.camera.square(64).project(corners)
    assert pixels.min() > 0 and pixels.max() < 64


def test_home_arm_is_out_of_view_and_working_arm_is_in_view(world: TabletopWorld) -> None:
    world.reset(1, 2)
    assert not (world.model_labels() == 255).any()
    world.pose_arm_over((0.05, 0.0), np.random.default_rng(0))
    assert (world.model_labels() == 255).sum() > 20
    world.home_arm()
    assert not (world.model_labels() == 255).any()


def test_inverse_kinematics_agrees_with_the_closed_form() -> None:
    ik = ArmIK(TabletopConfig())
    for x, y in ((-0.19, -0.19), (0.0, 0.1), (0.19, 0.19)):
        joints = ik.solve(np.array([x, y, TRAVEL_HEIGHT]), 0.5)
        assert np.allclose(ik.palm(joints), [x, y, TRAVEL_HEIGHT], atol=1e-3)
        assert np.allclose(joints, top_down_joints((x, y), TRAVEL_HEIGHT, 0.5), atol=0.01)


@pytest.mark.parametrize('seed', range(6))
def test_arm_places_like_the_teleport(world: TabletopWorld, seed: int) -> None:
    world.reset(seed, 3)
    before = world.block_positions()
    place = clear_places(np.random.default_rng(seed), 1, 0.17, before)[0]
    with world.kept():
        quick = world.teleport_pick_place(before[0, :2], place)
        expected = world.block_positions()
    result = world.pick_place(before[0, :2], place)
    after = world.block_positions()
    assert result.success and quick.success and result.block == quick.block == 0
    assert np.abs(after[0, :2] - place).max() < 0.012
    assert np.allclose(after, expected, atol=0.012)
    assert np.allclose(after[1:], before[1:], atol=0.003)
    assert np.allclose(result.achieved, after[0], atol=0.01)
    assert not (world.model_labels() == 255).any()


def test_arm_builds_a_stack_of_three_and_takes_its_top(world: TabletopWorld) -> None:
    world.reset(2, 4)
    for mover in (1, 2):
        positions = world.block_positions()
        assert world.pick_place(positions[mover, :2], positions[0, :2]).success
    assert np.allclose(world.block_positions()[[1, 2], 2], [0.09, 0.15], atol=0.005)
    top = world.block_positions()[0, :2]
    place = clear_places(np.random.default_rng(0), 1, 0.15, world.block_positions())[0]
    assert world.pick_place(top, place).block == 2
    assert world.block_positions()[2, 2] == pytest.approx(0.03, abs=0.003)
    assert world.block_positions()[1, 2] == pytest.approx(0.09, abs=0.005)


def test_a_step_is_a_pick_and_place(world: TabletopWorld) -> None:
    world.reset(3)
    place = clear_places(np.random.default_rng(0), 1, 0.15, world.block_positions())[0]
    assert world.step([*world.block_positions()[0, :2], *place]).success
    assert np.abs(world.block_positions()[0, :2] - place).max() < 0.01


@pytest.mark.parametrize('way', ['arm', 'teleport'])
def test_a_pick_beside_the_block_is_a_real_miss(world: TabletopWorld, way: str) -> None:
    world.reset(4, 2)
    before = world.block_positions()
    away = clear_places(np.random.default_rng(1), 1, 0.17, before, clearance=0.13)[0]
    act = world.pick_place if way == 'arm' else world.teleport_pick_place
    result = act(away, (0.0, 0.0))
    assert not result.success and result.block is None and np.isnan(result.achieved).all()
    assert 'nothing' in result.message
    assert np.allclose(world.block_positions(), before, atol=1e-3)


def test_motion_is_advanced_in_time_and_can_be_cancelled(world: TabletopWorld) -> None:
    world.reset(6, 2)
    start = world.block_positions()
    motion = world.begin_pick_place(start[0, :2], (0.0, 0.0))
    stages, progress = [], []
    while motion.stage != 'transport':
        stages.append(motion.advance(0.05))
        progress.append(motion.progress)
        assert len(stages) < 400
    assert list(dict.fromkeys(stages)) == ['approach', 'descend', 'grasp', 'lift', 'transport']
    assert progress == sorted(progress)
    assert np.abs(world.joint_velocities()).max() > 0
    assert world.block_positions()[0, 2] > 0.15
    motion.cancel()
    result = motion.run()
    assert not result.success and result.message == 'cancelled'
    assert world.block_positions()[0, 2] == pytest.approx(0.03, abs=0.003)
    assert not (world.model_labels() == 255).any()


@pytest.mark.parametrize('limit', [np.inf, 0.15])
def test_the_hand_keeps_to_a_speed(world: TabletopWorld, limit: float) -> None:
    world.reset(3, 2)
    pick = world.block_positions()[0, :2]
    place = clear_places(np.random.default_rng(0), 1, 0.16, world.block_positions())[0]
    motion = world.begin_pick_place(pick, place)
    motion.max_speed = limit
    track = [world.data.site('palm').xpos.copy()]
    while not motion.done:
        motion.advance(TICK)
        track.append(world.data.site('palm').xpos.copy())
        assert len(track) < 5000
    fastest = np.linalg.norm(np.diff(track, axis=0), axis=1).max() / TICK
    assert motion.result.success and np.abs(motion.result.achieved[:2] - place).max() < 0.01
    assert fastest <= 1.1 * limit and (fastest > 0.6) == np.isinf(limit)
    limited = world.begin_pick_place(place, pick)  # and it can be stopped while it goes slowly
    limited.max_speed = limit
    while limited.stage != 'lift':
        limited.advance(TICK)
    limited.cancel()
    before = world.data.site('palm').xpos.copy()
    while not limited.done:
        limited.advance(TICK)
        now = world.data.site('palm').xpos.copy()
        assert np.linalg.norm(now - before) <= 1.1 * limit * TICK
        before = now
    assert not limited.result.success and world.block_positions()[0, 2] < 0.032


@pytest.mark.parametrize('stack', [2, 3])
def test_goals_are_reached_by_the_arm_and_rendered_without_a_trace(world: TabletopWorld, stack: int) -> None:
    world.reset(11, 4)
    before, picture = world.block_positions(), world.render()
    goal = world.goal(0, 3, stack)
    assert len(goal.moved) == 3 and goal.description.count('onto') == stack - 1
    assert goal.positions[:, 2].max() == pytest.approx(0.03 + 0.06 * (stack - 1), abs=0.002)
    goal_picture = world.render_goal(goal)
    assert goal_picture.shape == (480, 640, 3) and not np.array_equal(goal_picture, picture)
    assert np.array_equal(world.block_positions(), before) and np.array_equal(world.render(), picture)
    assert not world.goal_reached(goal)[0]
    for i in goal.moved:
        assert world.pick_place(before[i, :2], goal.positions[i, :2]).success
    reached, errors = world.goal_reached(goal)
    assert reached and errors.shape == (3,) and errors.max() < 0.02
    assert np.abs(world.render().astype(int) - goal_picture.astype(int)).mean() < 4


def test_the_rules_of_grasping() -> None:
    blocks, yaws = np.array([[0.0, 0.0, 0.03], [0.09, 0.0, 0.03]]), np.zeros(2)
    lone = find_grasp((0.0, 0.0), blocks[:1], yaws[:1], 0.03)
    assert lone is not None and lone.block == 0 and lone.yaw == 0.0
    crowded = find_grasp((0.0, 0.0), blocks, yaws, 0.03)
    assert crowded is not None and crowded.yaw == pytest.approx(np.pi / 2)
    assert find_grasp((0.0, 0.15), blocks, yaws, 0.03) is None
    assert squeezed_yaw(0.2, 0.0) == pytest.approx(0.0)
    assert overlap((0, 0), 0.0, (1, 1), (1.9, 0), 0.0, (1, 1))
    assert not overlap((0, 0), 0.0, (1, 1), (2.1, 0), 0.0, (1, 1))
    assert not overlap((0, 0), np.pi / 4, (1, 1), (1.5, 1.5), np.pi / 4, (1, 1))


def test_bad_input(world: TabletopWorld) -> None:
    world.reset(0, 2)
    for call, words in (
            (lambda: world.reset(0, 6), '2 to 5'),
            (lambda: world.set_blocks(np.zeros((3, 3)), np.zeros(3)), '2 finite'),
            (lambda: world.pick_place((0.5, 0.0), (0, 0)), 'pick position'),
            (lambda: world.teleport_pick_place((0.0, 0.0), (0, np.nan)), 'place position'),
            (lambda: world.goal(0, 3), '1 to 2'), (lambda: world.goal(0, 1, 3), '0, 2 or 3'),
            (lambda: world.render(1000, 10), '640x480'),
            (lambda: TabletopConfig(workspace=2.0), 'workspace')):
        with pytest.raises(InputError, match=words):
            call()
