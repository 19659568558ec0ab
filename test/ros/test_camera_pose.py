"""Where the camera is and what part of its image counts, for perception and planner alike; tf2_ros is a stand-in."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import PoseArray
from harness import FakeCamera, Goals, Nodes, Probe
from scripted import CAMERA
from std_msgs.msg import Header

from object_centric_ros.action import BuildGoal
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.geometry.calibration import quaternion
from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes.images import from_array
from object_centric_ros.simulation.tabletop import TabletopWorld

PICTURE = np.full((480, 640, 3), 130, np.uint8)
PICTURE[200:250, 300:350] = (230, 30, 30)
PERCEPTION, PLANNER = 'entity_perception', 'pick_place_planner'
TF2 = '''
"""A stand-in for tf2_ros: a transform is known as soon as a file with it is there."""
import json, os
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

class TransformException(Exception):
    pass

class Buffer:
    def lookup_transform(self, target, source, when):
        path = os.path.join(os.path.dirname(__file__), f'{target}_{source}.json')
        if not os.path.exists(path):
            raise TransformException(f'{source} is not connected to {target}')
        with open(path) as file:
            position, turn = json.load(file)
        return TransformStamped(transform=Transform(translation=Vector3(**position), rotation=Quaternion(**turn)))

class TransformListener:
    def __init__(self, buffer, node):
        pass

    def unregister(self):
        pass
'''


class Tf:
    """The stand-in, in a folder; `environment` makes nodes find it."""

    def __init__(self, folder: Path, text: str = TF2) -> None:
        self._folder = folder
        (folder / 'tf2_ros.py').write_text(text)
        self.environment = {'PYTHONPATH': os.pathsep.join([str(folder), *filter(None, [os.environ.get('PYTHONPATH')])])}

    def send(self, work_frame: str, camera_frame: str, camera: PinholeCamera) -> None:
        """From now on the transform is known."""
        pose = [dict(zip(names, map(float, values), strict=True))
                for names, values in (('xyz', camera.position), ('xyzw', quaternion(camera.rotation)))]
        whole = self._folder / 'whole'
        whole.write_text(json.dumps(pose))
        whole.rename(self._folder / f'{work_frame}_{camera_frame}.json')


def test_the_pose_of_the_camera_comes_from_tf_and_is_asked_for_until_it_does(nodes: Nodes, probe: Probe, tmp_path: Path
                                                                             ) -> None:
    tf = Tf(tmp_path)
    nodes.start(PERCEPTION, scripted=True, environment=tf.environment, camera_pose='tf', work_frame='table',
                publish_detections=True)
    probe.listen(EntityArray, 'entities')
    source = FakeCamera(probe, CAMERA)
    source.ready(60)
    probe.again(lambda: source.send(PICTURE), lambda: probe.count(PERCEPTION, 'images_waiting_for_transform'), 60, 'it')
    probe.wait(lambda: 'from lens to table, got lens is not connected' in probe.statuses[PERCEPTION].message, 60, 'why')
    assert probe.statuses[PERCEPTION].level == b'\x02' and not probe.heard['entities']
    higher = dataclasses.replace(CAMERA, position=np.add(CAMERA.position, [0.0, 0.0, 0.2]))
    tf.send('table', 'lens', higher)
    sent: list[Header] = []
    result = probe.again(lambda: sent.append(source.send(PICTURE)),
                         lambda: next((m for m in probe.heard['entities'] if m.header in sent), None), 60, 'entities')
    (red,) = result.entities
    np.testing.assert_allclose([red.position.x, red.position.y], higher.to_plane([[324.5, 224.5]], 0.035)[0, :2],
                               atol=2e-3)
    assert result.work_frame == 'table'
    probe.wait(lambda: 'not connected' not in probe.statuses[PERCEPTION].message, 60, 'end of the complaint')
    if importlib.util.find_spec('vision_msgs') is None:
        assert probe.count(PERCEPTION, 'detections_not_published') == 1 and 'expected vision_msgs' in nodes.log()
    assert nodes.end() == [0]


def test_tf_that_is_not_there_is_one_clear_reason(nodes: Nodes, probe: Probe, tmp_path: Path) -> None:
    tf = Tf(tmp_path, "raise ImportError('not in this test')")
    probe.statuses.clear()
    nodes.start(PERCEPTION, scripted=True, environment=tf.environment, camera_pose='tf')
    probe.wait(lambda: 'expected tf2_ros, or camera_position' in getattr(probe.statuses.get(PERCEPTION), 'message', ''),
               60, 'reason')
    assert nodes.end() == [0]


@pytest.mark.parametrize('part', [{'crop': [90, 0, 460, 470]}, {'crop': [90, 20, 460, 440], 'letterbox': True}],
                         ids=['crop', 'letterbox'])
def test_a_goal_image_is_built_by_a_part_of_the_image(nodes: Nodes, probe: Probe, tmp_path: Path, part: dict) -> None:
    tf, world = Tf(tmp_path), TabletopWorld()
    tf.send('work_plane', 'camera_optical_frame', world.camera)
    world.reset(3, 2)
    goal = world.goal(0, 1, False)
    probe.statuses.clear()
    nodes.start('tabletop_sim', speed=12.0, n_blocks=2, rate_hz=20.0, seed=3)
    shared = {'environment': tf.environment, 'camera_pose': 'tf', **part}
    nodes.start(PERCEPTION, scripted=True, **shared)
    nodes.start(PLANNER, scripted=True, settle_time=0.2, **shared)
    probe.heard['entities'] = []
    probe.heard['ground_truth/blocks'] = []
    probe.listen(PoseArray, 'ground_truth/blocks')
    seen = probe.wait(lambda: probe.heard['entities'] and len(probe.heard['entities'][-1].entities) == 2
                      and probe.heard['entities'][-1], 60, 'both blocks')
    places = np.array([(e.position.x, e.position.y) for e in seen.entities])
    for block in world.block_positions():
        assert np.linalg.norm(places - block[:2], axis=1).min() < 0.02
    image = from_array(world.render_goal(goal), Header(), 'rgb8')
    status, result = Goals(probe).run(BuildGoal.Goal(image=image), 120)
    assert status == 'succeeded', result.message
    last = [(p.position.x, p.position.y, p.position.z) for p in probe.heard['ground_truth/blocks'][-1].poses]
    np.testing.assert_allclose(last, goal.positions, atol=0.03)
    assert nodes.end() == [0, 0, 0]
