"""BuildGoal end to end: simulator, perception and planner as three processes, talking over DDS."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PoseArray
from harness import Goals, Nodes, Probe
from rclpy.action import ActionClient
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from object_centric_ros.action import BuildGoal, PickPlace
from object_centric_ros.msg import EntityArray, EntityPlace, EntityRelation, ExecutedAction
from object_centric_ros.nodes.images import from_array, to_rgb
from object_centric_ros.nodes.messages import nanoseconds
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.srv import ResetWorld

FAST = {'speed': 12.0, 'n_blocks': 2, 'rate_hz': 20.0}
PATIENT = {'belief_timeout': 60.0, 'server_timeout': 60.0, 'max_belief_age': 5.0}
SIM, PERCEPTION, PLANNER = 'tabletop_sim', 'entity_perception', 'pick_place_planner'


@pytest.fixture(scope='module')
def goals(nodes: Nodes, probe: Probe) -> Goals:
    """Three nodes that run, and a client; the planner waits longer than a node that is killed takes to come back."""
    nodes.start(SIM, **FAST)
    nodes.start(PERCEPTION, scripted=True)
    nodes.start(PLANNER, scripted=True, settle_time=0.2, **PATIENT)
    probe.listen(PoseArray, 'ground_truth/blocks')
    probe.listen(Image, 'image')
    probe.listen(CameraInfo, 'camera_info')
    probe.listen(JointState, 'joint_states')
    probe.listen(ExecutedAction, 'executed_actions')
    probe.listen(EntityArray, 'entities')
    probe.listen(Image, 'plan')
    probe.listen(MarkerArray, 'plan_markers')
    return Goals(probe)


def newest(probe: Probe, topic: str):
    return probe.heard[topic][-1]


def reset(probe: Probe, seed: int, n_blocks: int = 2) -> ResetWorld.Response:
    client = probe.node.create_client(ResetWorld, 'reset')
    request = ResetWorld.Request(seed=seed, n_blocks=n_blocks)
    answer = probe.ask(lambda: client.call_async(request), client.service_is_ready, 'reset').result()
    now = probe.node.get_clock().now().nanoseconds
    for topic in ('entities', 'ground_truth/blocks'):
        probe.wait(lambda t=topic: probe.heard[t] and after(newest(probe, t).header.stamp, now), 60, topic)
    return answer


def after(stamp: Time, moment: int) -> bool:
    return nanoseconds(stamp) > moment


def blocks(probe: Probe) -> np.ndarray:
    return np.array([[p.position.x, p.position.y, p.position.z] for p in newest(probe, 'ground_truth/blocks').poses])


def places(*targets: tuple[int, float, float], **fields: object) -> BuildGoal.Goal:
    return BuildGoal.Goal(places=[EntityPlace(entity_id=i, place=Point(x=x, y=y)) for i, x, y in targets], **fields)


def entity_near(probe: Probe, xy: np.ndarray):
    return min(newest(probe, 'entities').entities, key=lambda e: np.hypot(e.position.x - xy[0], e.position.y - xy[1]))


def free_place(probe: Probe) -> tuple[float, float]:
    corners = np.array([(x, y) for x in (-0.1, 0.1) for y in (-0.1, 0.1)])
    distance = np.linalg.norm(corners[:, None] - blocks(probe)[None, :, :2], axis=-1).min(1)
    x, y = corners[distance.argmax()]
    return float(x), float(y)


def test_the_camera_and_the_joints_of_the_simulator(goals, probe):
    assert reset(probe, 1).success
    image, info = newest(probe, 'image'), newest(probe, 'camera_info')
    assert (image.width, image.height, image.encoding, info.width, info.height) == (640, 480, 'rgb8', 640, 480)
    assert image.header.frame_id == info.header.frame_id == 'camera_optical_frame'
    world = TabletopWorld()
    world.reset(1, 2)
    assert np.abs(to_rgb(image).astype(int) - world.render()).mean() < 0.5
    np.testing.assert_allclose(blocks(probe), world.block_positions(), atol=1e-3)
    joints = newest(probe, 'joint_states')
    assert joints.name == world.joint_names and len(joints.position) == len(joints.velocity) == 8
    assert not reset(probe, 1, 9).success


def test_places_are_built(goals, probe):
    reset(probe, 2)
    start = blocks(probe)
    entity, (x, y) = entity_near(probe, start[0]), free_place(probe)
    status, result = goals.run(places((entity.id, x, y)))
    assert (status, result.success, result.message) == ('succeeded', True, '') and result.steps == 1
    probe.wait(lambda: np.linalg.norm(blocks(probe)[0, :2] - (x, y)) < 0.02, 60, 'block at its place')
    np.testing.assert_allclose(blocks(probe)[1], start[1], atol=0.005)
    assert {'observe', 'plan', 'act'} == {f.stage for f in goals.feedback}
    acted = next(f for f in goals.feedback if f.stage == 'act')
    assert acted.entity_id == entity.id and acted.step == 1 and acted.place.x == pytest.approx(x)
    done = newest(probe, 'executed_actions')
    assert done.success and done.entity_id == entity.id and done.header.frame_id == 'work_plane'
    shown = probe.wait(lambda: len(probe.heard['plan_markers']) >= 2 and probe.heard['plan_markers'], 60, 'arrows')
    (clear, arrow, label), last = next(m.markers for m in shown if len(m.markers) == 3), shown[-1].markers
    assert [m.action for m in last] == [clear.action] == [Marker.DELETEALL] and label.text == str(entity.id)
    assert arrow.type == Marker.ARROW and arrow.header.frame_id == 'work_plane'
    np.testing.assert_allclose([(p.x, p.y) for p in arrow.points], [start[0, :2], (x, y)], atol=0.03)
    plan = probe.wait(lambda: probe.heard['plan'], 60, 'picture of a plan')[-1]
    assert plan.header.frame_id == 'camera_optical_frame' and to_rgb(plan).shape[0] == 128


def test_a_goal_image_is_built(goals, probe):
    reset(probe, 3)
    world = TabletopWorld()
    world.reset(3, 2)
    goal = world.goal(0, 1, False)
    image = from_array(world.render_goal(goal), Header(), 'rgb8')
    status, result = goals.run(BuildGoal.Goal(image=image))
    assert status == 'succeeded', result.message
    np.testing.assert_allclose(blocks(probe), goal.positions, atol=0.03)


def test_what_example_pictures_agree_on_is_built_and_the_rest_is_left_alone(goals, probe):
    """Two blocks stand alike in three pictures, the third anywhere."""
    reset(probe, 6, 3)
    start, world = blocks(probe), TabletopWorld()
    world.reset(6, 3)
    agreed, examples = np.array([[-0.10, -0.12], [0.06, 0.10]]), []
    for anywhere in ((-0.15, 0.0), (0.0, 0.0), (0.14, -0.10)):
        world.set_blocks([(x, y, 0.03) for x, y in (*agreed, anywhere)], world.block_yaws())
        examples.append(from_array(world.render(), Header(), 'rgb8'))
    status, result = goals.run(BuildGoal.Goal(examples=examples))
    assert (status, result.success, result.message) == ('succeeded', True, '') and result.steps == 2
    probe.wait(lambda: np.abs(blocks(probe)[:2, :2] - agreed).max() < 0.03, 60, 'blocks where the examples have them')
    np.testing.assert_allclose(blocks(probe)[2], start[2], atol=0.005)


def related(kind: str, entity: int, other: int = 0, region: list[float] | None = None, frame_id: str = ''
            ) -> BuildGoal.Goal:
    relation = EntityRelation(kind=kind, entity_id=entity, other_id=other, region=region or [0.0] * 4)
    return BuildGoal.Goal(relations=[relation], frame_id=frame_id)


def test_a_goal_is_sent_by_the_command(goals, probe):
    """The entities are listed, and one of them is brought into a region, all by `object-centric goal`."""
    reset(probe, 4)
    x, y = free_place(probe)
    entity = entity_near(probe, blocks(probe)[0]).id

    def command(*words: str) -> str:
        program = 'from object_centric_ros.cli import main; raise SystemExit(main())'
        done = subprocess.run([sys.executable, '-c', program, 'goal', *words], text=True, timeout=120,
                              capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert re.search(rf'^ *{entity} +yes ', command('--list'), re.MULTILINE)
    region = [f'{v:.3f}' for v in (x - 0.03, y - 0.03, x + 0.03, y + 0.03)]
    told = command('--within', str(entity), *region)
    assert f'moves entity {entity}' in told and 'reached after 1 commands' in told
    np.testing.assert_allclose(blocks(probe)[0, :2], (x, y), atol=0.03)


def small_image() -> Image:
    return from_array(np.zeros((64, 64, 3), np.uint8), Header(), 'rgb8')


def bare() -> Image:
    """The size of the camera's images, with nothing in it."""
    return from_array(np.zeros((480, 640, 3), np.uint8), Header(), 'rgb8')


@pytest.mark.parametrize('make, words', [
    (lambda: BuildGoal.Goal(), 'exactly one of them, got nothing'),
    (lambda: places((1, 0.0, 0.0), image=small_image()), 'exactly one of them, got an image and places'),
    (lambda: related('under', 1, 2), 'expected one of on, within'),
    (lambda: related('on', 1, 1), 'another entity'),
    (lambda: related('within', 99, region=[-0.1, -0.1, 0.1, 0.1]), 'among those in view'),
    (lambda: related('within', 1, region=[-0.1, -0.1, 0.1, 0.1], frame_id='map'), 'expected work_plane or empty'),
    (lambda: BuildGoal.Goal(image=small_image()), 'expected 640x480 as of the camera, got 64x64'),
    (lambda: BuildGoal.Goal(image=Image(width=640, height=480, encoding='rgb8', step=1920)),
     'expected 921600 bytes (480 rows of 1920), got 0 bytes'),
    (lambda: BuildGoal.Goal(image=Image(width=640, height=480, encoding='jpeg')), 'image encoding: expected one of'),
    (lambda: BuildGoal.Goal(examples=[bare(), bare()], image=bare()), 'exactly one of them, got an image and examples'),
    (lambda: BuildGoal.Goal(examples=[bare()]), 'goal: examples: expected 2 to 16 pictures, got 1'),
    (lambda: BuildGoal.Goal(examples=[bare(), small_image()]),
     'example 2: goal image size: expected 640x480 as of the camera, got 64x64'),
    (lambda: BuildGoal.Goal(examples=[bare(), bare()]), 'example 1: goal: expected entities of a goal image'),
    (lambda: places((1, 0.5, 0.0)), r'x in [-0.17, 0.17] and y in [-0.17, 0.17] m, got (0.5, 0)'),
    (lambda: places((1, float('nan'), 0.0)), 'got (nan, 0)'),
    (lambda: places((1, 0.0, 0.0), (1, 0.1, 0.0)), 'got 1 twice'),
    (lambda: places((77, 0.0, 0.0)), 'among those in view'),
    (lambda: places((1, 0.0, 0.0), frame_id='map'), 'frame_id: expected work_plane or empty, got map')])
def test_goals_that_cannot_be_used_are_refused_with_the_reason(goals, probe, make, words):
    before = probe.count(PLANNER, 'goals_refused')
    status, result = goals.run(make())
    assert status == 'aborted' and not result.success and result.steps == 0
    assert words in result.message
    probe.counted(PLANNER, 'goals_refused', before + 1)


def test_commands_that_the_arm_cannot_carry_out_are_refused(goals, probe):
    client = ActionClient(probe.node, PickPlace, 'pick_place')
    probe.wait(client.server_is_ready, 60, 'pick_place server')
    table = 'work_plane'
    for frame, x, words in ((table, 0.7, 'within 0.20 m'), (table, float('nan'), 'nan'), ('', 0.0, 'frame')):
        goal = PickPlace.Goal(header=Header(frame_id=frame), place=Point(x=x))
        handle = probe.call(client.send_goal_async(goal), 60, 'answer')
        answer = probe.call(handle.get_result_async(), 60, 'result')
        assert answer.status == 6 and not answer.result.success and words in answer.result.message


def slow(nodes: Nodes, probe: Probe, seed: int) -> None:
    """The simulator at a speed that leaves time for things to happen during an action."""
    nodes.stop(SIM)
    nodes.start(SIM, **FAST | {'speed': 2.0})
    reset(probe, seed)


def arm(probe: Probe) -> np.ndarray:
    return np.array(newest(probe, 'joint_states').position[:6])


def under_way(goals: Goals, probe: Probe, goal: BuildGoal.Goal):
    """The handle of a goal whose first command is being carried out."""
    handle = goals.send(goal)
    probe.wait(lambda: any(f.stage == 'act' for f in goals.feedback), 60, 'command')
    home = arm(probe)
    probe.wait(lambda: np.abs(arm(probe) - home).max() > 0.2, 60, 'motion')
    return handle


def target(probe: Probe) -> BuildGoal.Goal:
    entity, (x, y) = entity_near(probe, blocks(probe)[0]), free_place(probe)
    return places((entity.id, x, y))


def test_a_cancelled_build_takes_the_arm_home_and_the_next_one_works(goals, nodes, probe):
    slow(nodes, probe, 4)
    home = arm(probe)
    handle = under_way(goals, probe, target(probe))
    second = goals.run(target(probe))
    assert second[0] == 'aborted' and 'another one is under way' in second[1].message
    handle.cancel_goal_async()
    status, result = goals.end(handle)
    assert status == 'canceled' and 'cancelled' in result.message
    probe.wait(lambda: np.abs(arm(probe) - home).max() < 0.05, 60, 'arm at home')
    assert goals.run(target(probe))[0] == 'succeeded'


def test_perception_killed_in_a_build_of_an_image_comes_back_and_the_goal_is_reached(goals, nodes, probe):
    reset(probe, 3)
    world = TabletopWorld()
    world.reset(3, 2)
    goal = world.goal(0, 1, False)
    handle = under_way(goals, probe, BuildGoal.Goal(image=from_array(world.render_goal(goal), Header(), 'rgb8')))
    nodes.kill(PERCEPTION)
    nodes.start(PERCEPTION, scripted=True)
    status, result = goals.end(handle)
    assert status == 'succeeded', result.message
    np.testing.assert_allclose(blocks(probe), goal.positions, atol=0.03)


def test_perception_killed_in_a_build_by_ids_ends_it_with_the_reason(goals, nodes, probe):
    reset(probe, 5)
    handle = under_way(goals, probe, target(probe))
    nodes.kill(PERCEPTION)
    nodes.start(PERCEPTION, scripted=True)
    status, result = goals.end(handle)
    assert status == 'aborted' and 'entity_perception was restarted' in result.message


def test_arm_killed_in_an_action_ends_the_build_and_a_new_one_works_with_the_next(goals, nodes, probe):
    reset(probe, 6)
    handle = under_way(goals, probe, target(probe))
    nodes.kill(SIM)
    nodes.start(SIM, **FAST)
    status, result = goals.end(handle)
    assert status == 'aborted' and any(words in result.message for words in (
        'went away', 'belief', 'started again')), result.message
    reset(probe, 6)
    assert goals.run(target(probe))[0] == 'succeeded'


def test_without_perception_nothing_is_done(goals, nodes, probe):
    nodes.kill(PLANNER)
    nodes.start(PLANNER, scripted=True, settle_time=0.2, belief_timeout=4.0, max_belief_age=1.0)
    reset(probe, 5)
    goal = target(probe)
    known, actions = newest(probe, 'entities'), len(probe.heard['executed_actions'])
    probe.wait(lambda: after(newest(probe, 'entities').header.stamp, nanoseconds(known.header.stamp) + 10**9 // 2), 60,
               'entities that the planner has, too')
    nodes.kill(PERCEPTION)
    status, result = goals.run(goal)
    assert status == 'aborted' and 'expected entities at most 1 s old' in result.message
    assert len(probe.heard['executed_actions']) == actions
    nodes.start(PERCEPTION, scripted=True, environment={'SCRIPTED_MODEL': 'another-2'})
    probe.wait(lambda: newest(probe, 'entities').model_id == 'another-2', 60, 'entities of another model')
    status, result = goals.run(goal)
    assert status == 'aborted' and 'expected scripted-1 as in the planner, got another-2' in result.message
    nodes.kill(PERCEPTION)
    nodes.start(PERCEPTION, scripted=True)
    probe.wait(lambda: newest(probe, 'entities').model_id == 'scripted-1', 60, 'entities')


def test_planner_killed_and_started_again_takes_goals(goals, nodes, probe, tmp_path: Path):
    reset(probe, 7)
    nodes.kill(PLANNER)
    nodes.start(PLANNER, scripted=True, settle_time=0.2, **PATIENT)
    again = Goals(probe)
    assert again.run(target(probe))[0] == 'succeeded'
    assert nodes.end() == [0, 0, 0]
