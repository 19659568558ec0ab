"""A plan as markers: an arrow for each pick-and-place, and the id of what it moves."""

from __future__ import annotations

from collections.abc import Sequence

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from object_centric_ros.nodes.messages import point
from object_centric_ros.planning.commands import Command

NEXT, LATER = ColorRGBA(r=1.0, g=0.8, b=0.1, a=1.0), ColorRGBA(r=1.0, g=0.8, b=0.1, a=0.35)
SHAFT, HEAD, HEAD_LENGTH, TEXT = 0.008, 0.02, 0.025, 0.03
"""Diameters and length of an arrow, height of its id (m)."""
ABOVE = 0.05
"""How far above the middles of things the arrows are (m), so that these do not hide them."""


def plan_markers(commands: Sequence[Command], stamp: Time, work_frame: str) -> MarkerArray:
    """Arrows from pick to place, the next command's bright and the later ones' faint; without commands, none.

    They replace all markers of the plan before, and stay until they are replaced.
    """
    header = Header(stamp=stamp, frame_id=work_frame)
    out = [Marker(header=header, action=Marker.DELETEALL)]
    for i, command in enumerate(commands):
        start, end = raised(command.pick), raised(command.place)
        arrow = Marker(header=header, ns='moves', id=i, type=Marker.ARROW, action=Marker.ADD, points=[start, end],
                       color=LATER if i else NEXT)
        arrow.scale.x, arrow.scale.y, arrow.scale.z = SHAFT, HEAD, HEAD_LENGTH
        label = Marker(header=header, ns='ids', id=i, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD,
                       text=str(command.entity_id), color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0))
        label.pose.position = Point(x=(start.x + end.x) / 2, y=(start.y + end.y) / 2, z=max(start.z, end.z) + TEXT)
        label.scale.z = TEXT
        out += [arrow, label]
    return MarkerArray(markers=out)


def raised(xyz: tuple[float, float, float]) -> Point:
    """A point above a place."""
    return point((xyz[0], xyz[1], xyz[2] + ABOVE))
