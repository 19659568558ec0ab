"""What perception knows of the robot: is it moving, and what has it done since the last image. No rclpy in here."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from object_centric_ros.errors import InputError
from object_centric_ros.tracking.entities import PickPlace


class RobotWatch:
    """Joint states and executed actions, brought together with images by their stamps.

    Args:
        threshold: a joint that is faster than this moves (rad/s, m/s).
        settle_time: the robot counts as moving for so long (s) after its last motion, unless it has reported the end of
            its action in the meantime.
    """

    def __init__(self, threshold: float, settle_time: float) -> None:
        self._threshold, self._settle_time = threshold, settle_time
        self._lock = threading.Lock()
        self._positions: dict[str, tuple[float, float]] = {}
        self._last_motion = self._last_finish = self._last_image = -np.inf
        self._waiting: list[tuple[float, PickPlace]] = []

    def joints(self, names: Sequence[str], positions: Sequence[float], velocities: Sequence[float],
               stamp: float) -> int:
        """Take a joint state (rad, rad/s or m, m/s; `stamp` in s); returns how many NaN or infinite numbers it skipped.

        Raises:
            InputError: a list that is not empty and not as long as `names`.
        """
        for what, values in (('position', positions), ('velocity', velocities)):
            if len(values) not in (0, len(names)):
                raise InputError(f'joint_states: {what}', f'{len(names)} values for the names, or none', len(values))
        bad, fastest = 0, 0.0
        with self._lock:
            for i, name in enumerate(names):
                if len(velocities):
                    if np.isfinite(velocities[i]):
                        fastest = max(fastest, abs(velocities[i]))
                    else:
                        bad += 1
                if len(positions):
                    if np.isfinite(positions[i]):
                        fastest = max(fastest, self._speed(name, positions[i], stamp))
                    else:
                        bad += 1
            if fastest > self._threshold:
                self._last_motion = max(self._last_motion, stamp)
        return bad

    def _speed(self, name: str, position: float, stamp: float) -> float:
        """Speed since the position before, which is kept for at least 50 ms so that noise is not taken for motion."""
        before = self._positions.get(name)
        if before is None or not 0 <= stamp - before[1] < 5.0:
            self._positions[name] = (position, stamp)
            return 0.0
        if stamp - before[1] < 0.05:
            return 0.0
        self._positions[name] = (position, stamp)
        return abs(position - before[0]) / (stamp - before[1])

    def executed(self, action: PickPlace | None, finished: float) -> bool:
        """Take the end of an action at `finished` (s); None: it moved nothing. Returns whether it comes late.

        An action is late if an image taken after its end was handed out already; it then goes with the next image.
        """
        with self._lock:
            self._last_finish = max(self._last_finish, finished)
            if action is not None:
                self._waiting.append((finished, action))
            return action is not None and finished < self._last_image

    def at_image(self, stamp: float) -> tuple[list[PickPlace], bool]:
        """(actions that ended before the image and belong to no image yet, whether the robot moves) at `stamp` (s)."""
        with self._lock:
            self._last_image = stamp
            done = [a for finished, a in self._waiting if finished <= stamp]
            self._waiting = [w for w in self._waiting if w[0] > stamp]
            ended = self._last_motion <= self._last_finish <= stamp
            moving = not ended and abs(stamp - self._last_motion) <= self._settle_time
            return done, moving

    def clear(self) -> None:
        """Forget everything, after a jump of the clock."""
        with self._lock:
            self._positions.clear()
            self._waiting.clear()
            self._last_motion = self._last_finish = self._last_image = -np.inf
