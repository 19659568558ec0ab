"""The base of the lifecycle nodes: transitions that say why they failed, and a node that becomes active by itself."""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile

from object_centric_ros.errors import InputError
from object_centric_ros.nodes.diagnostics import Diagnostics
from object_centric_ros.nodes.heartbeat import PERIOD, Heartbeat
from object_centric_ros.nodes.parameters import changes_only_at_rest, declare, parameter, qos_from_parameters, watch

OK, FAILURE, ERROR = (TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE,
                      TransitionCallbackReturn.ERROR)
AT_REST = ('unconfigured', 'inactive')
"""States in which every parameter that is not read-only may be changed."""
AGAIN_AFTER = 5.0
"""Seconds until a node that could not become active by itself tries again."""


@dataclass(frozen=True)
class ManagedSettings:
    """Parameters that every lifecycle node has."""

    autostart: bool = parameter(True, 'become active without being told; false: wait for lifecycle transitions',
                                change='never')
    heartbeat_timeout: float = parameter(
        2.0, 'seconds without a sign of life of another node after which it counts as lost', 0.5, 600, change='live')


S = TypeVar('S', bound=ManagedSettings)


class ManagedNode(LifecycleNode, Generic[S]):
    """A lifecycle node that loads in configure, listens in activate, and holds neither model nor device when inactive.

    A node fills in `check`, `load`, `start`, `halt` and `unload`. An InputError from one of them makes the transition
    fail with that reason; any other error goes through error processing to unconfigured, with everything released.
    Parameters may be changed while the node is inactive or unconfigured: activate loads again what they concern.

    Args:
        name: of the node.
        settings: the dataclass of its parameters.
        about: what its diagnostics are about.
        arguments: for the node.

    Attributes:
        settings: the parameters as they are now.
        problem: why the last transition failed, empty if it did not.
        ended: set when the node wants its process to end, with `status` as exit status.
    """

    ends_on_failure = False
    """Whether the process ends when the node cannot become active by itself; otherwise it tries again."""
    watches: tuple[str, ...] = ()
    """Nodes whose signs of life are missed on /diagnostics."""

    def __init__(self, name: str, settings: type[S], about: str, **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self.settings: S = declare(self, settings)
        self.check(self.settings)
        watch(self, settings, self._changed, lambda: self.state if self.state not in AT_REST else '')
        self.ended, self.status, self.problem = threading.Event(), 0, ''
        self.diagnostics = Diagnostics(self, about)
        self.diagnostics.fact('state', self.state)
        self._heartbeat = Heartbeat(self, name)
        self._beats = self.create_timer(PERIOD, self._beat)
        self._loaded: S | None = None
        self._rising, self._next_try = self.settings.autostart, 0.0
        self._recover = threading.Event()
        self._heard: list[Any] = []
        self._changing = threading.RLock()
        # rclpy's own answer to a transition that is not possible now is an exception that ends the executor.
        self._service_change_state.callback = self._on_change_state

    # ---- what a node fills in ----------------------------------------------------------------------------------------

    def check(self, settings: S) -> None:
        """Raise an InputError for parameters that do not go together."""

    def load(self) -> None:
        """Get what is needed to work: the model. May be called again after `unload`."""

    def start(self) -> None:
        """Begin to listen and to work."""

    def halt(self) -> None:
        """Stop working; what was subscribed to by `listen` is gone already."""

    def unload(self) -> None:
        """Let go of what `load` got; called in any state."""

    def alive(self) -> bool:
        """Whether an active node still does its work."""
        return True

    # ---- for nodes ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Label of the lifecycle state."""
        return str(self._state_machine.current_state[1])

    @property
    def active(self) -> bool:
        """Whether the node is in its active state."""
        return self.state == 'active'

    def listen(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile, **arguments: Any) -> Any:
        """A subscription until the node is deactivated; its QoS can be set by parameters."""
        with qos_from_parameters(topic) as options:
            heard = self.create_subscription(kind, topic, callback, qos, qos_overriding_options=options, **arguments)
        self._heard.append(heard)
        return heard

    def publish_on(self, kind: Any, topic: str, qos: QoSProfile) -> Any:
        """A publisher whose QoS can be set by parameters."""
        with qos_from_parameters(topic) as options:
            return self.create_publisher(kind, topic, qos, qos_overriding_options=options)

    def lost(self, role: str) -> str:
        """What is wrong if a node that was alive gives no sign of life any more, otherwise ''."""
        silent = self._heartbeat.silent(role)
        return f'{role} gives no sign of life for {silent:.1f} s' if silent > self.settings.heartbeat_timeout else ''

    def wait_until_settled(self, timeout: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Return when no transition is under way and the node is not about to become active; not in a transition."""
        end, waited = time.monotonic() + timeout, threading.Event()
        while time.monotonic() < end and not stopped():
            if self.state in ('active', 'finalized') or (self.state in AT_REST and (not self._rising or self.problem)):
                return
            waited.wait(0.05)

    def ask_for_recovery(self) -> None:
        """Have everything released and loaded again, by the main thread."""
        self._recover.set()

    # ---- for the process ---------------------------------------------------------------------------------------------

    def tend(self) -> None:
        """What the main thread does now and then: bring the node up, or through a recovery."""
        if self._recover.is_set():
            self._recover.clear()
            self.get_logger().error('too many errors in a row: everything is loaded again')
            self.diagnostics.count('recoveries')
            if self.change(Transition.TRANSITION_DEACTIVATE) and self.change(Transition.TRANSITION_CLEANUP):
                self._rising, self._next_try = True, 0.0
        if not self._rising or time.monotonic() < self._next_try:
            return
        with self._changing:
            up = self.state == 'active'
            if not up:
                up = ((self.state == 'inactive' or self.change(Transition.TRANSITION_CONFIGURE))
                      and self.change(Transition.TRANSITION_ACTIVATE))
        self._next_try = time.monotonic() + AGAIN_AFTER
        self._rising = not up
        if not up and self.ends_on_failure:
            print(f'{self.get_name()}: {self.problem}', file=sys.stderr)
            self.status = 2
            self.ended.set()

    def stop(self) -> None:
        """Stop working and let go of everything, before the process ends."""
        with self._changing:
            if self.state in ('unconfigured', 'inactive', 'active'):
                self.trigger_shutdown()

    def change(self, transition: int, asked: str = '') -> bool:
        """Go through a transition, which was `asked` for by name; False if it failed or is not possible now."""
        with self._changing:
            possible = {t[0] for t in self._state_machine.available_transitions}
            trigger = self._triggers().get(transition)
            if transition not in possible or trigger is None:
                self.problem = str(InputError('lifecycle transition', f'one that is possible in state {self.state}',
                                              asked or transition))
                self.diagnostics.reject('transitions_refused', self.problem)
                return False
            done = trigger() == OK
            self.diagnostics.fact('state', self.state)
            self.diagnostics.publish()  # whoever waits for the node need not wait for the next turn of the timer
            return done

    # ---- transitions -------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters and load."""
        return self._through('configure', self._load)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load again what is out of date or was released, then start."""
        return self._through('activate', self._start)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, and release model and device."""
        return self._through('deactivate', self._release)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        return self._through('cleanup', self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; the process ends."""
        self._rising = False
        self.ended.set()
        return self._through('shutdown', self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an error that nobody expected: release everything and begin anew, unconfigured."""
        self.diagnostics.count('lifecycle_errors')
        reason = self.problem
        result = self._through('error processing', self._release)
        self.problem = reason
        return OK if result == OK else FAILURE

    def _through(self, name: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            work()
        except InputError as error:
            self.problem = str(error)
            self.diagnostics.reject(f'{name}_failed', error)
            self.diagnostics.condition('lifecycle', 'error', self.problem)
            return FAILURE
        except Exception as error:
            self.problem = f'{name}: {error!r}'
            self.diagnostics.reject('errors', traceback.format_exc())
            self.diagnostics.condition('lifecycle', 'error', self.problem)
            return ERROR
        self.problem = ''
        self.diagnostics.condition('lifecycle')
        return OK

    def _load(self) -> None:
        self.check(self.settings)
        collects = gc.isenabled()
        gc.disable()  # what an import makes stays: looking for garbage is a fifth of the time of that of torch
        try:
            self.load()
        finally:
            if collects:
                gc.enable()
        self._loaded = self.settings

    def _start(self) -> None:
        if self._loaded is None or changes_only_at_rest(self._loaded) != changes_only_at_rest(self.settings):
            self.unload()
            self._loaded = None
            self._load()
        try:
            self.start()
        except Exception:
            self._release()
            raise

    def _beat(self) -> None:
        if self.active and self.alive():
            self._heartbeat.beat()
        for role in self.watches:
            problem = self.lost(role)
            self.diagnostics.condition(f'life of {role}', 'error' if problem else 'ok', problem)

    def _release(self) -> None:
        self._loaded = None
        self._heartbeat.farewell()
        while self._heard:
            self.destroy_subscription(self._heard.pop())
        self.halt()
        self.unload()
        gc.collect()  # a model's graphs refer to each other in circles
        torch = sys.modules.get('torch')
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _changed(self, settings: S) -> None:
        self.settings = settings

    def _triggers(self) -> dict[int, Callable[[], TransitionCallbackReturn]]:
        t = Transition
        return {t.TRANSITION_CONFIGURE: self.trigger_configure, t.TRANSITION_CLEANUP: self.trigger_cleanup,
                t.TRANSITION_ACTIVATE: self.trigger_activate, t.TRANSITION_DEACTIVATE: self.trigger_deactivate,
                t.TRANSITION_UNCONFIGURED_SHUTDOWN: self.trigger_shutdown,
                t.TRANSITION_INACTIVE_SHUTDOWN: self.trigger_shutdown,
                t.TRANSITION_ACTIVE_SHUTDOWN: self.trigger_shutdown}

    def _on_change_state(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        """The service: whoever changes the state is in charge from then on."""
        self._rising = False
        wanted = request.transition
        labels = {str(t[1]): int(t[0]) for t in self._state_machine.available_transitions}
        response.success = self.change(labels.get(wanted.label, -1) if wanted.label else int(wanted.id), wanted.label)
        return response
