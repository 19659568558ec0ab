"""An action client whose answers may come while the request is still being noted down."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.action import ActionClient
from rclpy.task import Future


class SafeActionClient(ActionClient):
    """ActionClient for use from threads other than the executor's.

    rclpy sends a request and only then notes its number. An executor in another thread that takes the answer in between
    drops it as unexpected, and the request never ends. Here answers wait until requests under way are noted.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sending = threading.Lock()
        super().__init__(*args, **kwargs)

    def send_goal_async(self, *args: Any, **kwargs: Any) -> Future:
        """As of ActionClient."""
        with self._sending:
            return super().send_goal_async(*args, **kwargs)

    def _cancel_goal_async(self, goal_handle: Any) -> Future:
        with self._sending:
            return super()._cancel_goal_async(goal_handle)

    def _get_result_async(self, goal_handle: Any) -> Future:
        with self._sending:
            return super()._get_result_async(goal_handle)

    async def execute(self, taken_data: Any) -> None:
        """As of ActionClient."""
        with self._sending:
            pass
        await super().execute(taken_data)
