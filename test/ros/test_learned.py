"""The nodes on the learned model: a tiny one with random weights, and the weights that are shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from geometry_msgs.msg import Point, PoseArray
from golden import DATA, needs_data
from harness import FakeCamera, Goals, Nodes, Probe
from scripted import CAMERA
from std_msgs.msg import Header

from object_centric_ros.action import BuildGoal
from object_centric_ros.cli import main
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.checkpoint import load_model, save_model
from object_centric_ros.models.parts import Parts, PartsConfig
from object_centric_ros.msg import EntityArray, EntityPlace
from object_centric_ros.nodes.images import from_array
from object_centric_ros.nodes.messages import nanoseconds
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.srv import ResetWorld

PICTURE = np.full((480, 640, 3), 130, np.uint8)
PICTURE[200:250, 300:350] = (230, 30, 30)


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    torch.manual_seed(0)
    config = PartsConfig(slots=4, latent=8, encoder_channels=(8, 8), attention_size=16, hidden=16, decoder_channels=8,
                         decoder_layers=1, dynamics_size=16, dynamics_heads=2)
    save_model(path, Parts(config), {'camera': CAMERA.to_dict()})
    return path


@pytest.fixture(scope='module')
def camera(nodes: Nodes, probe: Probe, weights: Path) -> FakeCamera:
    nodes.start('entity_perception', checkpoint=weights, threads=1)
    nodes.start('pick_place_planner', checkpoint=weights, threads=1)
    probe.listen(EntityArray, 'entities')
    camera = FakeCamera(probe, CAMERA)
    camera.ready(60)
    return camera


def test_every_slot_arrives_with_the_stamp_of_the_image(camera, probe, weights):
    probe.wait(lambda: camera.send(PICTURE) and probe.heard['entities'], 60, 'first entities')
    sent: list[Header] = []
    result = probe.again(lambda: sent.append(camera.send(PICTURE)),
                         lambda: next((m for m in probe.heard['entities'] if m.header in sent), None), 60, 'entities')
    slots = [*result.entities, *result.background]
    assert result.model_id == load_model(weights)[1]['model_id'] and 0 < result.inference_time < 60
    assert len(result.background) >= 1 and {len(s.latent_mean) for s in slots} == {8}
    assert all(np.isfinite(s.latent_mean).all() and (np.asarray(s.latent_std) > 0).all() for s in slots)
    probe.counted('entity_perception', 'images_processed')


def test_an_image_size_that_changes_is_an_error_and_no_restart(camera, probe):
    probe.again(lambda: camera.send(PICTURE[:240, :320].copy()),
                lambda: probe.count('entity_perception', 'images_rejected (image size)'), 60, 'complaint')
    assert 'expected 640x480 as at the start' in probe.statuses['entity_perception'].message


def test_a_goal_on_untrained_weights_ends_one_way_or_the_other(camera, probe):
    goals = Goals(probe)

    def run(goal: BuildGoal.Goal):
        result = goals.send(goal).get_result_async()
        probe.wait(lambda: camera.send(PICTURE) and result.done(), 60, 'result')
        return result.result()

    answer = run(BuildGoal.Goal(image=from_array(PICTURE, Header(), 'rgb8')))
    assert answer.result.success == (answer.status == 4) and (answer.result.success or answer.result.message)
    answer = run(BuildGoal.Goal(places=[EntityPlace(entity_id=9, place=Point())]))
    assert answer.status == 6 and 'entity id: expected among those in view' in answer.result.message


def test_a_missing_checkpoint_is_an_error_on_diagnostics_and_the_nodes_live(camera, nodes, probe, weights, tmp_path):
    nodes.end()
    missing = tmp_path / 'later.safetensors'
    nodes.start('entity_perception', checkpoint=missing)
    nodes.start('pick_place_planner', checkpoint=missing)
    words = 'no model: checkpoint: expected an existing .safetensors file, got'
    for node in ('entity_perception', 'pick_place_planner'):
        probe.wait(lambda n=node: words in getattr(probe.statuses.get(n), 'message', ''), 60, f'complaint of {node}')
    status, result = Goals(probe).run(BuildGoal.Goal(places=[EntityPlace(entity_id=1, place=Point())]))
    assert status == 'aborted' and 'checkpoint: expected an existing' in result.message
    probe.heard['entities'] = []
    missing.write_bytes(weights.read_bytes())
    probe.wait(lambda: camera.send(PICTURE) and probe.heard['entities'], 60, 'entities once the file is there')
    assert nodes.end() == [0, 0]


@needs_data
def test_an_imported_checkpoint_tracks_with_the_camera_that_the_node_is_told(nodes, probe, tmp_path):
    model = tmp_path / 'imported.safetensors'
    assert main(['import', 'op3', str(DATA / 'op3' / 'pick_place_curriculum.safetensors'), '--preset',
                 'op3_released_pick_place', '--out', str(model)]) == 0
    own = PinholeCamera(64, 64, 60.0, 60.0, 32.0, 32.0, np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0]))
    nodes.start('entity_perception', checkpoint=model, threads=1, precision='bfloat16',
                camera_position=own.position.tolist(), camera_orientation=own.rotation.flatten().tolist())
    with np.load(DATA / 'op3' / 'pick_place_two_blocks.npz') as episodes:
        image = episodes['frames'][0, 0]
    probe.listen(EntityArray, 'entities')
    probe.heard['entities'] = []
    camera = FakeCamera(probe, own)
    camera.ready(60)
    found = probe.wait(lambda: camera.send(image) and next(
        (m for m in probe.heard['entities'] if len(m.entities) == 2), None), 60, 'two blocks seen by an imported model')
    assert found.model_id == load_model(model)[1]['model_id']
    assert all(np.hypot(e.position.x, e.position.y) < 0.75 for e in found.entities)  # in view: 64 / 60 m wide
    assert nodes.end() == [0]


def test_the_shipped_weights_build_a_goal_image(nodes, probe):
    nodes.start('tabletop_sim', seed=11, n_blocks=2, speed=6.0)
    nodes.start('entity_perception')
    nodes.start('pick_place_planner')
    world = TabletopWorld()
    world.reset(11, 2)
    goal = world.goal(11, 1, False)
    probe.listen(PoseArray, 'ground_truth/blocks')
    probe.heard['entities'] = []
    probe.wait(lambda: any(len(m.entities) == 2 for m in probe.heard['entities']), 60, 'two entities')
    image = from_array(world.render_goal(goal), Header(), 'rgb8')
    status, result = Goals(probe).run(BuildGoal.Goal(image=image), 90)
    assert status == 'succeeded', result.message
    poses = probe.heard['ground_truth/blocks'][-1].poses
    there = np.array([[p.position.x, p.position.y, p.position.z] for p in poses])
    np.testing.assert_allclose(there, goal.positions, atol=0.03)
    assert nodes.end() == [0, 0, 0]


def test_ids_outlive_deactivation_and_a_crash_but_not_another_scene(nodes, probe, tmp_path):
    """With the shipped weights; the scene is the simulator's."""
    state, seen_ids = tmp_path / 'state.safetensors', lambda m: sorted(e.id for e in m.entities if e.visible)
    nodes.start('tabletop_sim', seed=5, n_blocks=3)
    nodes.start('entity_perception', state_file=state, state_interval=0.2)
    probe.listen(EntityArray, 'entities')

    def three(but: int = 0, since: int = 0) -> EntityArray:
        """The newest message with three entities, of another session than `but` and later than `since` (ns)."""
        def found() -> EntityArray | None:
            newest = probe.heard['entities'][-1] if probe.heard['entities'] else None
            good = newest is not None and len(seen_ids(newest)) == 3 and newest.session != but
            return newest if good and nanoseconds(newest.header.stamp) > since else None
        return probe.wait(found, 120, 'three entities')

    def now() -> int:
        return probe.node.get_clock().now().nanoseconds

    probe.heard['entities'] = []
    first = three()
    probe.counted('entity_perception', 'state_saved', probe.count('entity_perception', 'state_saved') + 2, 60)
    nodes.kill('entity_perception')
    began = now()
    nodes.start('entity_perception', state_file=state, state_interval=0.2)
    again = three(since=began)
    assert (again.session, seen_ids(again)) == (first.session, seen_ids(first))
    probe.counted('entity_perception', 'state_restored', 1, 60)

    assert probe.change_state('entity_perception', 'deactivate')
    assert probe.change_state('entity_perception', 'activate')
    again = three(since=now())
    assert (again.session, seen_ids(again)) == (first.session, seen_ids(first))

    assert probe.change_state('entity_perception', 'deactivate')
    reset = probe.node.create_client(ResetWorld, 'reset')
    request = ResetWorld.Request(seed=61, n_blocks=3)
    assert probe.ask(lambda: reset.call_async(request), reset.service_is_ready, 'reset', 60).result().success
    assert probe.change_state('entity_perception', 'activate')
    three(but=first.session)
    assert 'the scene is not the one that was saved' in nodes.log()
    assert nodes.end() == [0, 0]
