"""One build over ROS: what the planning loop sees and does, with every wait bounded and cancellable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from rclpy.action import ActionClient
from std_msgs.msg import Header

from object_centric_ros.action import BuildGoal, PickPlace
from object_centric_ros.errors import InputError
from object_centric_ros.msg import Entity as EntityMsg
from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes.arm import REJECTED, Arm, ArmLost
from object_centric_ros.nodes.diagnostics import Diagnostics
from object_centric_ros.nodes.messages import frame_from_message, nanoseconds, point
from object_centric_ros.nodes.waiting import Newest
from object_centric_ros.nodes.zones import Zones
from object_centric_ros.planning.commands import Command, Outcome, Plan
from object_centric_ros.planning.verification import Finding
from object_centric_ros.tracking.entities import TrackedFrame

SAME = 0.002
"""Commands whose places differ by less than this (m) are the same one."""


class BuildStopped(Exception):
    """The build cannot go on; the message says why."""


@dataclass(frozen=True)
class BuildLimits:
    """When a build may act, how long it waits, and how fast; seconds, metres, m/s; see the node's parameters."""

    max_belief_age: float
    settle_time: float
    belief_timeout: float
    server_timeout: float
    action_timeout: float
    pick_tolerance: float
    max_speed: float


class PlannerNode(Protocol):
    """What a build needs of its node."""

    diagnostics: Diagnostics

    def get_clock(self) -> Any:
        """The clock."""

    def get_logger(self) -> Any:
        """The log."""

    def lost(self, role: str) -> str:
        """Why a node counts as lost, '' if it does not."""


class GoalHandle(Protocol):
    """What a build needs of the action server's goal handle."""

    @property
    def is_cancel_requested(self) -> bool:
        """Whether the client wants it to end."""

    def publish_feedback(self, feedback: BuildGoal.Feedback) -> None:
        """Tell the client."""


class RosBuild:
    """The callbacks of a `BuildLoop`: observe, act, feedback, found, cancelled.

    Args:
        node: for its clock, its log and its diagnostics.
        handle: of the BuildGoal under way.
        beliefs: newest message of perception.
        client: of pick_place.
        limits: waits and ages.
        model_id: of the planner's weights.
        zones: where the arm may act.
        stopped: why everything was stopped, '' if it was not.

    Attributes:
        show: takes each plan and the header of its image, for publishing.
        step, cost: index of the newest plan's first command, and the cost before it.
        findings: what became of the commands so far, see `verification`, and how often.
    """

    def __init__(self, node: PlannerNode, handle: GoalHandle, beliefs: Newest[EntityArray], client: ActionClient,
                 limits: BuildLimits, model_id: str, zones: Zones, stopped: Callable[[], str]) -> None:
        self._node, self._handle, self._beliefs = node, handle, beliefs
        self._arm = Arm(client, limits.server_timeout, limits.action_timeout)
        self._limits, self._model_id, self._zones, self._stopped = limits, model_id, zones, stopped
        self._failed: list[tuple[Command, str]] = []
        self.show: Callable[[Plan, Header], None] = lambda *_: None
        self.findings: dict[str, int] = {}
        self._not_before = 0
        self._used: EntityArray | None = None
        self._session: int | None = None
        self._stage, self._remark = '', ''
        self.step, self.cost = 0, float('nan')

    # ---- callbacks of the loop ---------------------------------------------------------------------------------------

    def cancelled(self) -> bool:
        """Whether the build shall stop."""
        return bool(self.why_cancelled())

    def why_cancelled(self) -> str:
        """Who wants the build to stop, empty if nobody does."""
        if self._stopped():
            return self._stopped()
        if self._handle.is_cancel_requested:
            return 'cancelled'
        return 'the planner was deactivated' if self._beliefs.closed else ''

    def go_on(self) -> None:
        """Nothing, unless the build shall stop.

        Raises:
            BuildStopped: it shall.
        """
        if self.cancelled():
            raise BuildStopped(self.why_cancelled())

    def observe(self) -> TrackedFrame:
        """A belief that is newer than the one before, younger than the last action and than `max_belief_age`.

        Raises:
            BuildStopped: none comes in time, it is of another model, or the build was cancelled.
        """
        if self._stage != 'observe':
            self._tell('observe')
        belief = self._beliefs.wait_for(self._is_fresh, self._limits.belief_timeout, self.cancelled)
        if belief is None:
            raise BuildStopped(self.why_cancelled() or str(self._no_belief()))
        if belief.model_id != self._model_id:
            raise BuildStopped(str(InputError('model of entity_perception', f'{self._model_id} as in the planner',
                                              belief.model_id)))
        self._check_session(belief)
        self._used = belief
        self._not_before = max(self._not_before, nanoseconds(belief.header.stamp))
        try:
            return frame_from_message(belief)
        except InputError as error:
            raise BuildStopped(str(error)) from error

    def pin_ids(self) -> None:
        """From now on ids must keep their meaning: a restart of perception ends the build."""
        self._session = self._used.session if self._used else None

    def act(self, command: Command) -> Outcome:
        """Carry out a command by PickPlace, unless it is out of date, forbidden or has failed before.

        Raises:
            BuildStopped: a place where the arm may not act, a command that was rejected or has failed before, no
                server, no answer in time, or perception was restarted and the goal names ids.
        """
        problem = self._out_of_date(command)
        if problem:
            self._node.diagnostics.reject('commands_out_of_date', problem)
            return Outcome(False, problem)
        self._check_allowed(command)
        self._tell('act', command)
        assert self._used is not None
        seen, log = self._used, self._node.get_logger()
        goal = PickPlace.Goal(header=Header(stamp=seen.header.stamp, frame_id=seen.work_frame),
                              entity_id=command.entity_id, pick=point(command.pick), place=point(command.place),
                              max_speed=self._limits.max_speed)
        log.info(f'command: {_words(command)}, seen {self._age(seen):.2f} s ago')
        try:
            outcome = self._arm.move(goal, self.cancelled)
        except ArmLost as error:
            log.warning(f'command given up: {error}')
            raise BuildStopped(str(error)) from error
        finally:
            self._not_before = self._now() + int(1e9 * self._limits.settle_time)
        if not outcome.success:
            self._note_failure(command, outcome.message)
        if outcome.message == REJECTED:
            raise BuildStopped(f'{_words(command)}: {REJECTED}')
        return outcome

    def _check_allowed(self, command: Command) -> None:
        """A command that the zones forbid, or that has failed in the same way before, ends the build."""
        problem = self._zones.problem('pick', *command.pick[:2]) or self._zones.problem('place', *command.place[:2])
        for failed, reason in self._failed:
            apart = np.abs(np.subtract([*failed.pick[:2], *failed.place[:2]], [*command.pick[:2], *command.place[:2]]))
            if failed.entity_id == command.entity_id and apart.max() < SAME:
                problem = problem or f'the same command has failed before and is not repeated: {reason}'
        if problem:
            problem = f'{_words(command)}: {problem}'
            self._node.diagnostics.reject('commands_refused', problem)
            raise BuildStopped(problem)

    def _note_failure(self, command: Command, reason: str) -> None:
        if self.cancelled():
            return
        self._node.diagnostics.reject('commands_failed', f'{_words(command)}: {reason}')
        self._failed.append((command, reason))

    def feedback(self, step: int, plan: Plan, command: Command | None) -> None:
        """Pass on a plan; the loop calls again when it has chosen a command, which `act` then tells of."""
        self.step = step
        self.cost = float(plan.costs[0]) if plan.costs else float('nan')
        if command is None:
            self._tell('plan')
            if self._used is not None:
                self.show(plan, self._used.header)

    def found(self, finding: Finding) -> None:
        """Keep what became of the last command, for the feedback."""
        self._remark = finding.text
        self.findings[finding.kind] = self.findings.get(finding.kind, 0) + 1

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _age(self, belief: EntityArray) -> float:
        return 1e-9 * (self._now() - nanoseconds(belief.header.stamp))

    def _is_fresh(self, belief: EntityArray) -> bool:
        later = nanoseconds(belief.header.stamp) > self._not_before
        return later and self._age(belief) <= self._limits.max_belief_age

    def _no_belief(self) -> InputError:
        newest = self._beliefs.peek()
        wanted = (f'entities at most {self._limits.max_belief_age:g} s old and newer than the last action, '
                  f'within {self._limits.belief_timeout:g} s')
        return InputError('belief', wanted, f'the newest is {self._age(newest):.1f} s old' if newest else 'none')

    def _check_session(self, belief: EntityArray) -> None:
        if self._session is not None and belief.session != self._session:
            raise BuildStopped('entity_perception was restarted: the entity ids of the goal lost their meaning')

    def _out_of_date(self, command: Command) -> str:
        """Why the command must not be carried out (any more), empty if it may: what is seen now decides."""
        newest = self._beliefs.peek()
        lost = self._node.lost('entity_perception')
        if lost:
            return f'not acting without perception: {lost}'
        if newest is None or self._age(newest) > self._limits.max_belief_age:
            return f'not acting on a stale belief: {self._no_belief()}'
        self._check_session(newest)
        if self._used is None or newest.session != self._used.session:
            return 'entity_perception was restarted since the command was planned'
        for e in newest.entities:
            if e.id == command.entity_id:
                away = float(np.hypot(e.position.x - command.pick[0], e.position.y - command.pick[1]))
                if e.visible and away > self._limits.pick_tolerance:
                    return f'entity {e.id} has moved by {away:.3f} m since it was planned for'
                return ''
        return f'entity {command.entity_id} is no longer there'

    def _tell(self, stage: str, command: Command | None = None) -> None:
        self._stage = stage
        feedback = BuildGoal.Feedback(step=self.step, cost=self.cost, stage=stage, entity_id=EntityMsg.NONE,
                                      remark=self._remark)
        if command is not None:
            feedback.entity_id = command.entity_id
            feedback.pick, feedback.place = point(command.pick), point(command.place)
        self._handle.publish_feedback(feedback)


def _words(command: Command) -> str:
    (x0, y0), (x1, y1) = command.pick[:2], command.place[:2]
    return f'entity {command.entity_id} from ({x0:.3f}, {y0:.3f}) to ({x1:.3f}, {y1:.3f})'
