"""Carrying out commands by PickPlace, with every wait bounded and cancellable."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from rclpy.task import Future

from object_centric_ros.action import PickPlace
from object_centric_ros.errors import InputError
from object_centric_ros.planning.commands import Outcome

REJECTED = 'PickPlace rejected the command'


class ArmLost(Exception):
    """There is no PickPlace server, or it does not answer; the message says which."""


class Arm:
    """PickPlace for threads other than the executor's.

    Args:
        client: of pick_place.
        server_timeout: seconds to wait for the server and for its answer.
        action_timeout: seconds after which an action is cancelled; after twice that it is given up.
    """

    def __init__(self, client: ActionClient, server_timeout: float, action_timeout: float) -> None:
        self._client, self._server_timeout, self._action_timeout = client, server_timeout, action_timeout

    def wait_for_server(self, cancelled: Callable[[], bool]) -> None:
        """Return when there is a server or `cancelled` is true.

        Raises:
            ArmLost: neither, within the timeout.
        """
        waited = threading.Event()
        for _ in range(int(self._server_timeout / 0.05) + 1):
            if self._client.server_is_ready() or cancelled():
                return
            waited.wait(0.05)
        raise ArmLost(str(InputError('PickPlace server', f'available within {self._server_timeout:g} s', 'none')))

    def move(self, goal: PickPlace.Goal, cancelled: Callable[[], bool]) -> Outcome:
        """Carry out a command; when `cancelled` becomes true, the arm is told to stop and its end is waited for.

        Raises:
            ArmLost: no server, no answer in time, or the server went away.
        """
        self.wait_for_server(cancelled)
        if cancelled():
            return Outcome(False, 'cancelled')
        handle = self._result(self._client.send_goal_async(goal), 'answer of PickPlace')
        if not handle.accepted:
            return Outcome(False, REJECTED)
        return self._finish(handle, cancelled)

    def _result(self, future: Future, what: str) -> Any:
        """The result of a future that needs no cancelling."""
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        if not done.wait(self._server_timeout):
            raise ArmLost(str(InputError(what, f'within {self._server_timeout:g} s', 'none')))
        return future.result()

    def _servers(self) -> set[bytes]:
        """What tells servers apart: who publishes the status of the actions."""
        node, name = self._client._node, self._client._action_name
        topic = f'{node.resolve_topic_name(name)}/_action/status'
        return {bytes(p.endpoint_gid) for p in node.get_publishers_info_by_topic(topic)}

    def _finish(self, handle: Any, cancelled: Callable[[], bool]) -> Outcome:
        """Wait for the end of an accepted action."""
        done = threading.Event()
        future = handle.get_result_async()
        future.add_done_callback(lambda _: done.set())
        asked, gone, servers = False, 0, self._servers()
        limit = self._action_timeout
        for _ in range(int(2 * limit / 0.1)):
            if done.wait(0.1):
                result = future.result().result
                achieved = (result.achieved.x, result.achieved.y, result.achieved.z)
                known = bool(np.isfinite(achieved).all()) and result.success
                return Outcome(bool(result.success), result.message, achieved=achieved if known else None)
            limit -= 0.1
            if not asked and (cancelled() or limit <= 0):
                handle.cancel_goal_async()
                asked = True
            gone = 0 if self._client.server_is_ready() else gone + 1
            if gone > 10:
                raise ArmLost('the PickPlace server went away during the action')
            if self._servers() - servers:  # one that was killed seems to be there for a while
                raise ArmLost('the PickPlace server was started again during the action')
        raise ArmLost(str(InputError('PickPlace', f'done within {self._action_timeout:g} s', 'no result')))
