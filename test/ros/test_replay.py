"""`object-centric replay`: the same results as the live node, over real DDS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import Point
from harness import Nodes, Probe
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from object_centric_ros.cli import main
from object_centric_ros.msg import EntityArray, ExecutedAction
from object_centric_ros.nodes.bag import BagWriter
from object_centric_ros.nodes.cameras import info_from_camera
from object_centric_ros.nodes.images import from_array, labels_of
from object_centric_ros.simulation.tabletop import TabletopWorld

IMAGES = 8
MOVED = 4
"""Before this image a block is moved."""
DISTORTION = [-0.05, 0.01, 0.0, 0.0, 0.0]
"""What the images are said to have, so that the node and replay have to take it out."""


def pictures() -> tuple[list[np.ndarray], tuple[Point, Point], TabletopWorld]:
    """Images of a scene in which one block is moved, and from where to where it goes."""
    world = TabletopWorld()
    world.reset(5, 3)
    before = world.render()
    pick, place = world.block_positions()[0, :2], (0.12, -0.13)
    assert world.teleport_pick_place(pick, place).success
    after = world.render()
    points = Point(x=float(pick[0]), y=float(pick[1])), Point(x=place[0], y=place[1])
    return [before] * MOVED + [after] * (IMAGES - MOVED), points, world


def read(bag: Path, topic: str, kind: type) -> list:
    with AnyReader([bag]) as reader:
        wanted = [c for c in reader.connections if c.topic == topic]
        return [deserialize_message(data, kind) for _, _, data in reader.messages(wanted)]


@pytest.mark.parametrize('parameters', [
    {}, {'crop': [70, 0, 500, 480], 'letterbox': True, 'label_image_size': 'input'}], ids=['whole', 'part'])
def test_offline_and_live_results_are_the_same(nodes: Nodes, probe: Probe, tmp_path: Path, parameters: dict) -> None:
    images, (pick, place), world = pictures()
    sent: list[tuple[str, object]] = []
    publishers = {topic: probe.node.create_publisher(kind, topic, QoSProfile(depth=10)) for topic, kind in
                  (('image', Image), ('camera_info', CameraInfo), ('executed_actions', ExecutedAction))}
    probe.statuses.clear()
    nodes.start('entity_perception', threads=1, **parameters)
    probe.listen(EntityArray, 'entities')
    probe.listen(Image, 'label_image')
    for publisher in publishers.values():
        probe.wait(publisher.get_subscription_count, 120, f'subscriber of {publisher.topic_name}')

    def answered(topic: str, header: Header) -> bool:
        return any(m.header == header for m in probe.heard[topic])

    for k, picture in enumerate(images):
        now = probe.node.get_clock().now().to_msg()
        if k == MOVED:
            action = ExecutedAction(header=Header(stamp=now, frame_id='work_plane'), entity_id=1, pick=pick,
                                    place=place, success=True, started=now, finished=now)
            publishers['executed_actions'].publish(action)
            probe.counted('entity_perception', 'executed_actions', timeout=60)
            sent.append(('executed_actions', action))
            now = probe.node.get_clock().now().to_msg()
        header = Header(stamp=now, frame_id='lens')
        info, image = info_from_camera(world.camera, header), from_array(picture[..., ::-1], header, 'bgr8')
        info.d = DISTORTION

        def send(info: CameraInfo = info, image: Image = image) -> None:
            publishers['camera_info'].publish(info)
            publishers['image'].publish(image)

        probe.again(send, lambda header=header: answered('entities', header) and answered('label_image', header),
                    60, f'entities of image {k}')
        sent += [('camera_info', info), ('image', image)]

    with BagWriter(tmp_path / 'bag') as bag:
        for topic, kind in (('image', Image), ('camera_info', CameraInfo), ('executed_actions', ExecutedAction)):
            bag.add_topic(f'/{topic}', kind)
        for topic, message in sent:
            stamp = message.header.stamp  # type: ignore[attr-defined]
            bag.write(f'/{topic}', stamp.sec * 10 ** 9 + stamp.nanosec, serialize_message(message))
    file = tmp_path / 'parameters.yaml'
    file.write_text(yaml.safe_dump({'/**': {'ros__parameters': parameters}}))
    assert main(['replay', str(tmp_path / 'bag'), '--threads', '1', '--params-file', str(file)]) == 0
    out = tmp_path / 'bag_entities'
    offline, labels = read(out, '/entities', EntityArray), read(out, '/label_image', Image)
    assert len(offline) == len(labels) == len(read(out, '/overlay', Image)) == IMAGES
    live = {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in probe.heard['entities']}
    shown = {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in probe.heard['label_image']}
    for message, picture in zip(offline, labels, strict=True):
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        compare(live[stamp], message)
        assert (labels_of(shown[stamp]) != labels_of(picture)).mean() < 1e-3
    found, seen_at_the_end = offline[-1].entities, labels_of(labels[-1])
    assert parameters or len(found) == 3  # the weights do not know black bars and may take one for a thing
    places = np.array([(e.position.x, e.position.y, e.position.z) for e in found])
    for block in world.block_positions():
        entity = found[np.linalg.norm(places - block, axis=1).argmin()]
        assert entity.visible and 1e-8 < entity.position_covariance[0] < 1e-3
        assert np.linalg.norm(places - block, axis=1).min() < 0.015
        u, v = entity.centroid
        assert np.linalg.norm(world.camera.project([block])[0] - [u, v]) < 8, 'not a pixel of the image as it came'
        if parameters:
            assert seen_at_the_end.shape == images[0].shape[:2] and seen_at_the_end[int(v), int(u)] == entity.id
    told = json.loads((out / 'metrics.json').read_text())
    assert told['processed'] == IMAGES and told['counts']['executed_actions'] == 1 and not told['problems']
    assert nodes.end() == [0]
    for publisher in publishers.values():
        probe.node.destroy_publisher(publisher)


def compare(live: EntityArray, offline: EntityArray) -> None:
    """All that a message says of entities and beliefs, to 1e-4 of the field's size."""
    assert offline.header == live.header and offline.model_id == live.model_id
    assert [(e.id, e.slot, e.visible) for e in offline.entities] == [(e.id, e.slot, e.visible) for e in live.entities]
    assert [s.slot for s in offline.background] == [s.slot for s in live.background]
    for a, b in zip([*live.entities, *live.background], [*offline.entities, *offline.background], strict=True):
        for name in ('latent_mean', 'latent_std', 'memory', 'centroid', 'bounding_box'):
            np.testing.assert_allclose(getattr(b, name), getattr(a, name), rtol=1e-4, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(b.position_covariance, a.position_covariance, rtol=1e-3, atol=1e-10)
        np.testing.assert_allclose([b.position.x, b.position.y, b.position.z, b.confidence, b.mask_area, b.colour.r],
                                   [a.position.x, a.position.y, a.position.z, a.confidence, a.mask_area, a.colour.r],
                                   rtol=1e-4, atol=1e-4)


def test_a_bag_without_images_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/camera_info', CameraInfo)
        bag.write('/camera_info', 1, serialize_message(CameraInfo()))
    assert main(['replay', str(tmp_path / 'bag')]) == 2
    error = capsys.readouterr().err
    assert 'expected one topic of sensor_msgs/msg/Image' in error and '/camera_info' in error
    assert error.count('\n') == 1 and not (tmp_path / 'bag_entities').exists()
