"""Where the arm may pick and place; no rclpy in here."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from object_centric_ros.errors import InputError
from object_centric_ros.nodes.managed import ManagedSettings
from object_centric_ros.nodes.parameters import parameter


@dataclass(frozen=True)
class ArmSettings(ManagedSettings):
    """Parameters of the nodes that move an arm."""

    work_frame: str = parameter('work_plane', 'frame of places: origin on the table, x right, y away, z up')
    work_area: tuple[float, ...] = parameter(
        (-0.17, -0.17, 0.17, 0.17), 'x_min, y_min, x_max, y_max of places in work_frame, metres', -10, 10, lengths=(4,))
    work_polygon: tuple[float, ...] = parameter(
        (), 'corners x, y, x, y, ... of the area outside of which nothing is picked or placed, three or more, metres; '
        'empty: no such area', -10, 10)
    keep_out: tuple[float, ...] = parameter(
        (), 'rectangles x_min, y_min, x_max, y_max, ... in which nothing is picked or placed, metres; what is carried '
        'may pass over them', -10, 10)
    max_speed: float = parameter(
        0.0, 'greatest speed of the gripper that commands ask for, m/s; 0: the server\'s own limit', 0, 10,
        change='live')
    server_timeout: float = parameter(5.0, 'seconds to wait for the PickPlace server', 0.1, 600)
    action_timeout: float = parameter(60.0, 'seconds after which a PickPlace is cancelled', 1, 3600)


class Zones:
    """The area and the zones of an arm's parameters, in metres.

    Args:
        settings: the parameters.

    Raises:
        InputError: an area without an inside, or numbers that do not make corners.
    """

    def __init__(self, settings: ArmSettings) -> None:
        x0, y0, x1, y1 = self.area = settings.work_area
        if x0 >= x1 or y0 >= y1:
            raise InputError('parameter work_area', 'x_min < x_max and y_min < y_max', list(settings.work_area))
        corners = settings.work_polygon
        if corners and (len(corners) % 2 or len(corners) < 6):
            raise InputError('parameter work_polygon', 'x and y of three corners or more', f'{len(corners)} numbers')
        self.polygon = np.reshape(corners, (-1, 2)).astype(np.float32)
        if corners and cv2.contourArea(self.polygon) < 1e-6:
            raise InputError('parameter work_polygon', 'corners of an area with an inside', list(corners))
        numbers = settings.keep_out
        if len(numbers) % 4:
            raise InputError('parameter keep_out', 'four numbers for each rectangle', f'{len(numbers)} numbers')
        self.keep_out = np.reshape(numbers, (-1, 4))
        if (self.keep_out[:, :2] >= self.keep_out[:, 2:]).any():
            raise InputError('parameter keep_out', 'x_min < x_max and y_min < y_max', list(numbers))

    def problem(self, what: str, x: float, y: float) -> str:
        """Why nothing may be picked or placed at (x, y), metres; empty if it may."""
        if not np.isfinite([x, y]).all():
            return f'{what} at ({x:g}, {y:g}) is no place'
        if len(self.polygon) and cv2.pointPolygonTest(self.polygon, (float(x), float(y)), False) < 0:
            return f'{what} at ({x:.3f}, {y:.3f}) is outside of work_polygon'
        for x0, y0, x1, y1 in self.keep_out:
            if x0 <= x <= x1 and y0 <= y <= y1:
                return f'{what} at ({x:.3f}, {y:.3f}) is in the keep-out zone {x0:g}, {y0:g}, {x1:g}, {y1:g}'
        return ''
