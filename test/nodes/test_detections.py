"""Entities as vision_msgs, against stand-ins: the package is not among the wheels."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Point, PoseWithCovariance
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.nodes.detections import detections, vision_messages
from object_centric_ros.tracking.entities import Entity, SlotState, TrackedFrame

CAMERA = PinholeCamera.looking_at((0.0, -0.6, 0.7), (0.0, 0.0, 0.0), 40.0, 640, 480)


def center() -> Any:
    return SimpleNamespace(position=SimpleNamespace(x=0.0, y=0.0), theta=0.0)


@dataclass
class Box:
    center: Any = field(default_factory=center)
    size_x: float = 0.0
    size_y: float = 0.0


@dataclass
class Hypothesis:
    hypothesis: Any = field(default_factory=lambda: SimpleNamespace(class_id='', score=0.0))
    pose: PoseWithCovariance = field(default_factory=PoseWithCovariance)


@dataclass
class Detection2D:
    header: Header
    id: str
    bbox: Box = field(default_factory=Box)
    results: list[Hypothesis] = field(default_factory=list)


@dataclass
class Detection2DArray:
    header: Header
    detections: list[Detection2D] = field(default_factory=list)


KINDS = SimpleNamespace(Detection2DArray=Detection2DArray, Detection2D=Detection2D, ObjectHypothesisWithPose=Hypothesis)


def frame() -> TrackedFrame:
    state, zeros = SlotState(0, *(np.zeros(2, np.float32),) * 3), np.zeros((1, 8, 8), np.float32)
    seen = Entity(7, state, 0.8, True, (0.1, 0.05, 0.03), (200.0, 210.0), (190.0, 200.0, 260.0, 280.0), 100.0,
                  (1.0, 0.5, 0.0), (4e-6, 1e-6, 1e-6, 9e-6))
    hidden = Entity(8, state, 0.0, False, (0.0, 0.0, 0.03), (0.0, 0.0), (0.0,) * 4, 0.0, (0.0, 0.0, 1.0))
    return TrackedFrame(1.0, 'm', (seen, hidden), (), np.zeros((8, 8), np.uint16), zeros, zeros[:, None], zeros[0],
                        np.zeros((8, 8, 3), np.uint8), 0.01)


def test_visible_entities_are_detections_in_the_frame_of_the_image():
    header = Header(frame_id='lens')
    message = detections(KINDS, frame(), header, CAMERA)
    (one,) = message.detections
    assert message.header == one.header == header and one.id == '7'
    assert (one.bbox.center.position.x, one.bbox.center.position.y) == (225.0, 240.0)
    assert (one.bbox.size_x, one.bbox.size_y) == (70.0, 80.0)
    (guess,) = one.results
    assert (guess.hypothesis.class_id, guess.hypothesis.score) == ('entity', 0.8)
    at: Point = guess.pose.pose.position
    u, v = CAMERA.fx * at.x / at.z + CAMERA.cx, CAMERA.fy * at.y / at.z + CAMERA.cy
    np.testing.assert_allclose([u, v], CAMERA.project([[0.1, 0.05, 0.03]])[0])
    assert guess.pose.pose.orientation.w == 1.0
    covariance = np.reshape(guess.pose.covariance, (6, 6))
    assert not covariance[3:].any() and not covariance[:, 3:].any()
    back = CAMERA.rotation @ covariance[:3, :3] @ CAMERA.rotation.T
    np.testing.assert_allclose(back, [[4e-6, 1e-6, 0], [1e-6, 9e-6, 0], [0, 0, 0]], atol=1e-18)


def test_vision_msgs_are_taken_where_they_are_and_missed_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'vision_msgs', None)
    with pytest.raises(InputError, match='publish_detections: expected vision_msgs'):
        vision_messages()
    package, messages = ModuleType('vision_msgs'), ModuleType('vision_msgs.msg')
    package.msg = messages
    monkeypatch.setitem(sys.modules, 'vision_msgs', package)
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', messages)
    assert vision_messages() is messages
