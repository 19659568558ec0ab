"""Hand-over between threads: only the newest thing counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')


class Newest(Generic[T]):
    """Holds the newest item; what nobody took is replaced."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Replace the item; returns whether one that nobody took was lost."""
        with self._changed:
            lost = self._item is not None
            self._item = item
            self._changed.notify_all()
        return lost

    def take(self, timeout: float) -> T | None:
        """Remove and return the item, waiting up to `timeout` seconds; None if none came or the holder is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = (None if self._closed else self._item), None
        return item

    def peek(self) -> T | None:
        """The item, which stays."""
        with self._changed:
            return self._item

    def wait_for(self, wanted: Callable[[T], bool], timeout: float,
                 stopped: Callable[[], bool] = lambda: False) -> T | None:
        """The first item that is `wanted`, which stays; None after `timeout` seconds, when closed, or when `stopped`.

        `stopped` is looked at every 0.1 s.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while not self._closed and not stopped():
                if self._item is not None and wanted(self._item):
                    return self._item
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, 0.1))
        return None

    def close(self) -> None:
        """Wake everyone up; from now on there is nothing to be had."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed
