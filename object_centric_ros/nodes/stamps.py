"""In what order images come: stamps that repeat or go back, and clocks that were set. No rclpy in here."""

from __future__ import annotations

from typing import NamedTuple

BACK, AHEAD = 1_000_000_000, 10_000_000_000
"""Stamps that went back, or ahead of the time that has passed, by more than this (ns): the clock was set."""


class Order(NamedTuple):
    """Where an image belongs.

    Attributes:
        refused: under which name an image that must not be used is counted; empty for one that is used.
        shift: seconds by which the clock was set before it, 0 where it was not.
    """

    refused: str = ''
    shift: float = 0.0


class Stamps:
    """Stamp and arrival of the last image that was used."""

    def __init__(self) -> None:
        self._stamp, self._arrived = 0, 0.0

    def order(self, stamp: int, arrived: float) -> Order:
        """Whether an image may be used.

        Args:
            stamp: of the image, ns; one without a stamp (0) is always used.
            arrived: when it came, seconds of a clock that nobody sets: the process's own, or that of a recording.
        """
        ahead = stamp - self._stamp
        if stamp and -BACK < ahead <= 0:
            return Order('images_out_of_order' if ahead else 'images_repeated')
        passed = 1e9 * (arrived - self._arrived)
        jumped = bool(stamp and self._stamp) and (ahead < 0 or ahead - passed > AHEAD)
        self._stamp, self._arrived = stamp, arrived
        return Order(shift=1e-9 * ahead if jumped else 0.0)
