"""An executor in a thread of its own, ended without a race."""

from __future__ import annotations

import threading
import traceback

from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, ExternalShutdownException


class Spinner:
    """Spins an executor in a thread until told to end.

    `Executor.shutdown` takes the executor's guard conditions away while its thread may be about to wait for them, which
    is an AttributeError there. So the thread is ended first, by a task that wakes it, and the executor after it.

    Args:
        executor: with its nodes; shut down by `end`.
    """

    def __init__(self, executor: Executor) -> None:
        self.failure: BaseException | None = None
        """What ended the thread, if not `end` or the context's shutdown; its traceback is printed."""
        self._executor, self._ending = executor, threading.Event()
        self._thread = threading.Thread(target=self._spin, name='executor', daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ending.is_set() and self._executor.context.ok():
            try:
                self._executor.spin_once()
            except InvalidHandle:
                continue  # a subscription was destroyed by another thread just before it would have been waited for
            except ExternalShutdownException:
                return
            except BaseException as error:
                traceback.print_exc()
                self.failure = error
                return

    def alive(self, seconds: float = 0.0) -> bool:
        """Whether it still spins, after waiting for at most so long for it to end by itself."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def end(self, seconds: float = 2.0) -> bool:
        """End thread and executor; not to be called from a callback.

        Args:
            seconds: for a callback that is under way, then for the others of a multi-threaded executor.

        Returns:
            False if a callback takes longer: its thread is left behind.
        """
        self._ending.set()
        self._executor.create_task(lambda: None)  # wakes the thread
        ended = not self.alive(seconds)
        self._executor.shutdown(timeout_sec=seconds)
        return ended
