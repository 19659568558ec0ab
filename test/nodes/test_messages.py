"""Tracked frames and cameras as messages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes.cameras import camera_from_info, info_from_camera, pose_from_parameters, same_camera
from object_centric_ros.nodes.drawing import draw_labels, draw_overlay, draw_plan
from object_centric_ros.nodes.markers import markers
from object_centric_ros.nodes.messages import frame_from_message, frame_to_message
from object_centric_ros.tracking.entities import Entity, SlotState, TrackedFrame

CAMERA = PinholeCamera.looking_at((0.0, -0.6, 0.7), (0.0, 0.0, 0.0), 40.0, 640, 480)


def state(slot: int) -> SlotState:
    rng = np.random.default_rng(slot)
    return SlotState(slot, *(rng.normal(size=n).astype(np.float32) for n in (8, 8, 5)))


def frame() -> TrackedFrame:
    labels = np.zeros((64, 64), np.uint16)
    labels[20:30, 20:30], labels[40:50, 40:50] = 3, 300
    entities = (Entity(3, state(0), 0.9, True, (0.1, 0.0, 0.03), (200.5, 210.0), (190.0, 200.0, 260.0, 270.0), 100.0,
                       (1.0, 0.5, 0.0), (4e-6, 1e-6, 1e-6, 9e-6)),
                Entity(300, state(2), 0.0, False, (-0.1, 0.1, 0.03), (np.nan, np.nan), (0.0,) * 4, 0.0, (0, 0, 1)))
    zeros = np.zeros((3, 64, 64), np.float32)
    return TrackedFrame(12.5, 'parts-1', entities, (state(1),), labels, zeros, zeros[:, None].repeat(3, 1), zeros,
                        np.zeros((64, 64, 3), np.uint8), 0.02)


def test_a_frame_survives_the_wire():
    before, header = frame(), Header(frame_id='camera')
    header.stamp.sec, header.stamp.nanosec = 12, 500_000_000
    wire = deserialize_message(serialize_message(frame_to_message(before, header, 'work_plane')), EntityArray)
    assert (wire.header.frame_id, wire.work_frame, wire.header.stamp.sec) == ('camera', 'work_plane', 12)
    after = frame_from_message(wire)
    assert (after.stamp, after.model_id) == (12.5, 'parts-1')
    for a, b in zip([*(e.state for e in before.entities), *before.background],
                    [*(e.state for e in after.entities), *after.background], strict=True):
        assert a.slot == b.slot
        for name in ('mean', 'std', 'memory'):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for a, b in zip(before.entities, after.entities, strict=True):
        assert (a.id, a.visible, a.position) == (b.id, b.visible, b.position)
        np.testing.assert_array_equal(a.covariance, b.covariance)
        np.testing.assert_allclose([*a.box, *a.colour, a.confidence, a.mask_area],
                                   [*b.box, *b.colour, b.confidence, b.mask_area], rtol=1e-6)


@pytest.mark.parametrize('spoil, words', [
    (lambda m: m.entities[1].latent_std.pop(), 'the same for all slots'),
    (lambda m: setattr(m.entities[1], 'id', 3), 'different'),
    (lambda m: setattr(m.entities[1], 'id', 0), 'not 0'),
    (lambda m: m.entities[0].latent_mean.__setitem__(0, float('nan')), 'finite'),
    (lambda m: setattr(m.entities[0].position, 'x', float('inf')), 'finite'),
    (lambda m: m.background.extend([m.background[0]] * 300), 'at most 256')])
def test_a_message_that_makes_no_sense_is_refused(spoil, words):
    message = frame_to_message(frame(), Header(), 'work_plane')
    spoil(message)
    with pytest.raises(InputError, match=words):
        frame_from_message(message)


def test_markers_replace_the_old_ones_and_carry_ids():
    out = markers(frame(), Header().stamp, 'work_plane', CAMERA).markers
    assert out[0].action == out[0].DELETEALL
    kinds = [(m.ns, m.id) for m in out[1:]]
    assert kinds == [('entities', 3), ('ids', 3), ('outlines', 3), ('covariances', 3),
                     ('entities', 300), ('ids', 300), ('outlines', 300)], 'an ellipse of what nobody knows'
    assert all(m.header.frame_id == 'work_plane' for m in out) and out[2].text == '3'


def test_outlines_lie_where_the_mask_is_and_ellipses_hold_the_position():
    out = {m.ns: m for m in markers(frame(), Header().stamp, 'work_plane', CAMERA).markers if m.id == 3}
    points = np.array([(p.x, p.y, p.z) for p in out['outlines'].points])
    assert (points[0] == points[-1]).all() and np.allclose(points[:, 2], 0.03)
    pixels = CAMERA.square(64).project(points)
    np.testing.assert_allclose([*pixels.min(0), *pixels.max(0)], [20, 20, 30, 30], atol=0.5)
    ellipse, covariance = out['covariances'], np.reshape(frame().entities[0].covariance, (2, 2))
    turn = 2 * np.arctan2(ellipse.pose.orientation.z, ellipse.pose.orientation.w)
    for angle, length in ((turn, ellipse.scale.x), (turn + np.pi / 2, ellipse.scale.y)):
        axis = np.array([np.cos(angle), np.sin(angle)])
        np.testing.assert_allclose(length / 2, np.sqrt(5.991 * axis @ covariance @ axis), rtol=1e-3)
    assert ellipse.scale.x > ellipse.scale.y


def test_camera_info_there_and_back():
    pose = (CAMERA.rotation, CAMERA.position)
    assert same_camera(camera_from_info(info_from_camera(CAMERA, Header()), pose), CAMERA)
    assert not same_camera(camera_from_info(info_from_camera(CAMERA.square(64), Header()), pose), CAMERA)
    with pytest.raises(InputError, match='focal'):
        camera_from_info(CameraInfo(width=640, height=480), pose)
    cropped = info_from_camera(CAMERA, Header())
    cropped.roi.width = 5
    with pytest.raises(InputError, match='region of interest'):
        camera_from_info(cropped, pose)


def test_pose_parameters():
    half = np.sqrt(0.5)
    by_quaternion = pose_from_parameters((0.0, 0.0, 1.0), (half, 0.0, 0.0, -half))
    by_matrix = pose_from_parameters((0.0, 0.0, 1.0), (1, 0, 0, 0, 0, 1, 0, -1, 0))
    assert by_quaternion is not None and by_matrix is not None
    np.testing.assert_allclose(by_quaternion[0], by_matrix[0], atol=1e-9)
    assert pose_from_parameters((), ()) is None
    for position, orientation in (((1.0, 2.0, 3.0), ()), ((0.0, 0.0, 1.0), (1.0,) * 9), ((0.0, 0.0, 1.0), (0.0,) * 4)):
        with pytest.raises(InputError, match='camera'):
            pose_from_parameters(position, orientation)


def test_pictures_have_the_sizes_that_were_asked_for():
    image, result = np.zeros((480, 640, 3), np.uint8), dataclasses.replace(frame())
    overlay = draw_overlay(image, result, 320)
    assert overlay.shape == (240, 320, 3) and overlay.any() and not image.any()
    assert draw_overlay(image, result, 2000).shape == image.shape
    labels = draw_labels(result, 640, 480)
    assert labels.shape == (480, 640) and set(np.unique(labels)) == {0, 3, 300} and not labels[:, :80].any()
    assert labels[int(25.5 * 7.5), 80 + int(25.5 * 7.5)] == 3
    strip = draw_plan(None, np.zeros((3, 64, 64, 3), np.uint8), np.array([[0.0, 0.0]]), side=32)
    assert strip.shape == (32, 4 * 32 + 3 * 4, 3) and strip[16, 16].all()
