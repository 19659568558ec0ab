"""Cameras from CameraInfo, poses from tf2."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Transform, Vector3
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, named_rectified
from object_centric_ros.nodes.cameras import (
    Transforms,
    camera_from_info,
    info_from_camera,
    pose_of_transform,
    preparation_from_info,
)

CAMERA = PinholeCamera.looking_at((0.0, -0.88, 1.0), (0.0, 0.0, 0.045), 23.0, 160, 120)
POSE = (CAMERA.rotation, CAMERA.position)
IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8), (0, 0), 3)


def info(model: str = 'plumb_bob', d: tuple[float, ...] = (-0.2, 0.05, 0.001, -0.001, 0.0)) -> CameraInfo:
    message = info_from_camera(CAMERA, Header())
    message.distortion_model, message.d = model, list(d)
    message.p = [200.0, 0.0, 78.5, 0.0, 0.0, 201.0, 60.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


@pytest.mark.parametrize('model, d', [('plumb_bob', (-0.2, 0.05, 0.001, -0.001, 0.0)),
                                      ('rational_polynomial', (0.2, -0.1, 0.001, 0.001, 0.02, 0.5, -0.1, 0.01)),
                                      ('equidistant', (0.05, -0.01, 0.002, 0.0))])
def test_a_distorted_image_becomes_that_of_the_pinhole_camera(model, d):
    message = info(model, d)
    preparation = preparation_from_info(message, POSE)
    k, coefficients = np.reshape(message.k, (3, 3)), np.array(d)
    expected = (cv2.fisheye.undistortImage(IMAGE, k, coefficients, Knew=k) if model == 'equidistant'
                else cv2.undistort(IMAGE, k, coefficients))
    assert np.abs(preparation(IMAGE).astype(int) - expected).max() <= 1
    np.testing.assert_allclose([preparation.camera.cx, preparation.camera.fx], [CAMERA.cx, CAMERA.fx])


def test_pixel_centres_of_camera_info_are_integers():
    message = info_from_camera(CAMERA, Header())
    assert message.k[2] == CAMERA.cx - 0.5 and camera_from_info(message, POSE).cx == CAMERA.cx
    point = np.array([0.02, 0.03, 0.0])
    seen, _ = cv2.projectPoints(point, cv2.Rodrigues(CAMERA.rotation.T)[0], -CAMERA.rotation.T @ CAMERA.position,
                                np.reshape(message.k, (3, 3)), np.zeros(5))
    np.testing.assert_allclose(seen.reshape(2) + 0.5, CAMERA.project(point)[0])


def test_a_rectified_image_is_described_by_p_and_left_as_it_is():
    preparation = preparation_from_info(info(), POSE, rectified=True)
    assert preparation(IMAGE) is IMAGE
    camera = preparation.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (200.0, 201.0, 79.0, 61.0)
    empty = info()
    empty.p = [0.0] * 12
    assert preparation_from_info(empty, POSE, rectified=True).camera.fx == CAMERA.fx


def test_crop_and_letterbox_come_after_and_no_distortion_costs_nothing():
    plain = info(d=(0.0,) * 5)
    assert preparation_from_info(plain, POSE)(IMAGE) is IMAGE
    camera = preparation_from_info(plain, POSE, crop=(10, 20, 100, 60), letterbox=True).camera
    assert (camera.width, camera.height) == (100, 100)
    point = [[0.01, 0.02, 0.0]]
    np.testing.assert_allclose(camera.project(point), CAMERA.project(point) - np.array([10, 0]))
    with pytest.raises(InputError, match='4 or 5 finite numbers'):
        preparation_from_info(info(d=(0.1,)), POSE)
    with pytest.raises(InputError, match='plumb_bob'):
        preparation_from_info(info(model='unheard_of'), POSE)


def test_names_of_rectified_topics():
    assert [named_rectified(t) for t in ('/cam/image_rect', '/image_rect_color', '/cam/image_rect/compressed',
                                         '/cam/image_raw', '/direct/image', 'image')] == [True] * 3 + [False] * 3


def transform() -> Transform:
    half = np.sqrt(0.5)
    return Transform(translation=Vector3(x=0.1, y=-0.2, z=1.0), rotation=Quaternion(x=half, y=0.0, z=0.0, w=-half))


def test_the_pose_of_a_transform():
    rotation, position = pose_of_transform(transform())
    np.testing.assert_allclose(position, [0.1, -0.2, 1.0])
    np.testing.assert_allclose(rotation @ [0, 0, 1], [0, 1, 0], atol=1e-12)  # it looks along y


def test_tf2_where_it_imports_and_otherwise_what_to_give_instead(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    with pytest.raises(InputError, match='tf2_ros, or camera_position'):
        Transforms(None)
    tf2, asked = ModuleType('tf2_ros'), []

    class Buffer:
        def lookup_transform(self, target, source, when):
            asked.append((target, source))
            if len(asked) < 3 or source == 'nobody':
                raise tf2.TransformException('not yet')
            return SimpleNamespace(transform=transform())

    tf2.TransformException = type('TransformException', (Exception,), {})
    gone: list[str] = []
    tf2.Buffer = Buffer
    tf2.TransformListener = lambda buffer, node: SimpleNamespace(unregister=lambda: gone.append(node))
    monkeypatch.setitem(sys.modules, 'tf2_ros', tf2)
    transforms = Transforms('node')
    np.testing.assert_allclose(transforms.pose('table', 'lens', 60.0)[1], [0.1, -0.2, 1.0])
    assert asked == [('table', 'lens')] * 3
    with pytest.raises(InputError, match='from nobody to table, got not yet'):
        transforms.pose('table', 'nobody', 0.1)
    transforms.close()
    assert gone == ['node']
