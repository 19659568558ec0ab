"""Entities as vision_msgs/Detection2DArray, for programs that know nothing of this package; vision_msgs is optional."""

from __future__ import annotations

from typing import Any

import numpy as np
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.nodes.messages import point
from object_centric_ros.tracking.entities import TrackedFrame

CLASS = 'entity'
"""The class of every detection: entities have ids and no classes."""


def vision_messages() -> Any:
    """The module vision_msgs.msg.

    Raises:
        InputError: it is not installed.
    """
    try:
        from vision_msgs import msg
    except ImportError as e:
        raise InputError('publish_detections', 'vision_msgs (on Ubuntu ros-$ROS_DISTRO-vision-msgs)', e) from e
    return msg


def detections(kinds: Any, frame: TrackedFrame, header: Header, camera: PinholeCamera) -> Any:
    """A Detection2DArray of the visible entities: boxes in pixels, their ids as text, confidence as score.

    Args:
        kinds: the module vision_msgs.msg, version 4.
        frame: in pixels of the image as it came.
        header: of the image; its frame, the camera's optical one, is that of the positions.
        camera: where it is.
    """
    turn = np.asarray(camera.rotation).T
    out = kinds.Detection2DArray(header=header)
    for e in frame.entities:
        if not e.visible:
            continue
        u0, v0, u1, v1 = e.box
        one = kinds.Detection2D(header=header, id=str(e.id))
        one.bbox.center.position.x, one.bbox.center.position.y = (u0 + u1) / 2, (v0 + v1) / 2
        one.bbox.size_x, one.bbox.size_y = u1 - u0, v1 - v0
        guess = kinds.ObjectHypothesisWithPose()
        guess.hypothesis.class_id, guess.hypothesis.score = CLASS, float(e.confidence)
        guess.pose.pose.position = point(tuple(turn @ (np.asarray(e.position) - camera.position)))
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = turn[:, :2] @ np.reshape(e.covariance, (2, 2)) @ turn[:, :2].T
        guess.pose.covariance = covariance.ravel()
        one.results.append(guess)
        out.detections.append(one)
    return out
