"""Entities as markers for RViz."""

from __future__ import annotations

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.nodes.messages import point
from object_centric_ros.tracking.entities import Entity, TrackedFrame

FINER = 4
"""Outlines are drawn on masks enlarged so many times."""
LIKELY = 2.4477
"""Standard deviations within which 95 % of a Gaussian on a plane are."""


def markers(frame: TrackedFrame, stamp: Time, work_frame: str, camera: PinholeCamera, size: float = 0.05
            ) -> MarkerArray:
    """What there is, where, and how surely; replaces all markers of an earlier frame.

    Namespaces: `entities`, spheres; `ids`; `outlines`, of the masks, on the plane through the entity's centre;
    `covariances`, ellipses that hold the position with 95 %.

    Args:
        frame: in pixels of the camera's image.
        stamp: of the image.
        work_frame: frame of the markers.
        camera: of the image.
        size: of the spheres, metres.
    """
    header = Header(stamp=stamp, frame_id=work_frame)
    out = [Marker(header=header, action=Marker.DELETEALL)]

    def add(entity: Entity, namespace: str, kind: int, alpha: float) -> Marker:
        r, g, b = (float(c) for c in entity.colour)
        marker = Marker(header=header, ns=namespace, id=int(entity.id), type=kind, action=Marker.ADD,
                        color=ColorRGBA(r=r, g=g, b=b, a=alpha))
        out.append(marker)
        return marker

    for e in frame.entities:
        body = add(e, 'entities', Marker.SPHERE, 0.9 if e.visible else 0.3)
        body.pose.position = point(e.position)
        body.scale.x = body.scale.y = body.scale.z = size
        label = add(e, 'ids', Marker.TEXT_VIEW_FACING, 1.0)
        label.text, label.color = str(e.id), ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
        label.pose.position = point((e.position[0], e.position[1], e.position[2] + size))
        label.scale.z = 0.6 * size
        around = outline(frame.label_image == e.id, camera, e.position[2])
        if len(around):
            line = add(e, 'outlines', Marker.LINE_STRIP, 1.0)
            line.points = [point(tuple(p)) for p in [*around, around[0]]]
            line.scale.x = 0.06 * size
        if np.isfinite(e.covariance).all():
            lengths, axes = np.linalg.eigh(np.reshape(e.covariance, (2, 2)))
            ellipse = add(e, 'covariances', Marker.CYLINDER, 0.5)
            ellipse.pose.position = point((e.position[0], e.position[1], 0.001))
            half = np.arctan2(axes[1, 1], axes[0, 1]) / 2  # the longer axis is its x
            ellipse.pose.orientation.z, ellipse.pose.orientation.w = float(np.sin(half)), float(np.cos(half))
            across, along = 2 * LIKELY * np.sqrt(np.maximum(lengths, 1e-10))
            ellipse.scale.x, ellipse.scale.y, ellipse.scale.z = float(along), float(across), 0.001
    return MarkerArray(markers=out)


def outline(mask: NDArray[np.bool_], camera: PinholeCamera, height: float) -> NDArray[np.float64]:
    """The longest outline of a mask [S, S] of the model image, points [N, 3] (m) on z = `height`; N may be 0."""
    side = FINER * len(mask)
    fine = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR) > 0.5
    found, _ = cv2.findContours(fine.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return np.zeros((0, 3))
    pixels = (max(found, key=len).reshape(-1, 2) + 0.5) / FINER
    points = camera.square(len(mask)).to_plane(pixels, height)
    return np.asarray(points[np.isfinite(points).all(1)])
