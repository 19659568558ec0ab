"""Model-predictive control without ROS: observe, plan, act, look again."""

from __future__ import annotations

from collections.abc import Callable

from object_centric_ros.errors import InputError
from object_centric_ros.planning.commands import Command, Outcome, Plan
from object_centric_ros.planning.goals import Goal
from object_centric_ros.planning.planner import Planner
from object_centric_ros.planning.verification import MISSED, Finding, from_another_side, verify
from object_centric_ros.tracking.entities import TrackedFrame

Feedback = Callable[[int, Plan, 'Command | None'], None]
PATIENT = 40
"""Frames more to look at while nothing at all is seen: a scene was changed, or something stands before the camera."""


class BuildLoop:
    """Brings a scene to a goal, one command at a time, and looks after each whether it did what it should.

    What was missed is picked again from another side. A build ends with the reason when no command helps, when one
    thing is missed again and again, when nothing gets better, or after `max_plans`.

    Args:
        planner: makes the plans.
        goal: what is to be reached.
        observe: the newest frame, seen after the last command ended; each call waits for a newer one.
        act: carries a command out and says how it ended.
        feedback: told of the step (from 1), the plan, and the command under way or None before it is chosen.
        cancelled: asked before each step.
        max_plans: plans after which to give up; 0 = two for each thing of the goal, as in OP3 section 6.5.2.
        looks: frames to look at after each command, so that a moved thing is found again; the last one counts.
        found: told what became of each command.
    """

    def __init__(self, planner: Planner, goal: Goal, observe: Callable[[], TrackedFrame],
                 act: Callable[[Command], Outcome], feedback: Feedback | None = None,
                 cancelled: Callable[[], bool] | None = None, max_plans: int = 0, looks: int = 6,
                 found: Callable[[Finding], None] | None = None) -> None:
        self.planner, self.goal, self.observe, self.act = planner, goal, observe, act
        self.feedback = feedback or (lambda step, plan, command: None)
        self.cancelled = cancelled or (lambda: False)
        self.found = found or (lambda finding: None)
        self.max_plans = max_plans or 2 * goal.size
        self.looks = looks
        self.history: list[Plan] = []
        self.remarks: list[str] = []

    def run(self) -> Outcome:
        """Build; the outcome says whether the planner holds the goal for reached, and why not."""
        config = self.planner.config
        best, worse, refusals, misses, last = float('inf'), 0, 0, 0, -1
        frame = self._look()
        while True:
            if self.cancelled():
                return self._outcome('cancelled')
            try:
                plan = self.planner.plan(frame, self.goal)
            except InputError as e:
                return self._outcome(str(e))
            self.history.append(plan)
            steps = len(self.remarks)
            self.feedback(steps, plan, None)
            if plan.reached:
                return self._outcome()
            if len(self.history) > self.max_plans:
                return self._outcome(f'goal not reached after {self.max_plans} plans')
            worse = 0 if plan.costs[0] < best - config.minimum_gain else worse + 1
            best = min(best, plan.costs[0])
            if worse >= config.patience:
                return self._outcome(f'nothing has come closer to the goal in {worse} plans')
            if not plan.commands:
                refusals += 1
                if refusals > 1:
                    return self._outcome(plan.remark or 'no command brings the scene closer to the goal')
                frame = self._look()
                continue
            refusals = 0
            command = plan.commands[0]
            misses = misses if command.entity_id == last else 0
            if misses >= config.max_misses:
                return self._outcome(f'entity {last} was missed {misses} times')
            command = from_another_side(command, misses, frame.entities, config)
            self.feedback(steps + 1, plan, command)
            if self.cancelled():
                return self._outcome('cancelled')
            result = self.act(command)
            before, frame = frame, self._look()
            finding = verify(command, before.entities, frame.entities, config)
            misses, last = misses + 1 if finding.kind == MISSED else 0, command.entity_id
            self.remarks.append(finding.text if result.success else f'{finding.text} ({result.message})')
            self.found(finding)

    def _look(self) -> TrackedFrame:
        """A frame in which everything is found, or the last of `looks`; where nothing at all is seen, of more."""
        frame = self.observe()
        for look in range(1, self.looks + PATIENT):
            visible = [e.visible for e in frame.entities]
            if (look > 2 and visible and all(visible)) or (look >= self.looks and any(visible)) or self.cancelled():
                break
            frame = self.observe()
        return frame

    def _outcome(self, failure: str = '') -> Outcome:
        """How the build ended: an empty reason is success."""
        cost = self.history[-1].costs[0] if self.history else float('nan')
        last = f'; after the last command: {self.remarks[-1]}' if failure and self.remarks else ''
        return Outcome(not failure, failure + last, len(self.remarks), cost, history=tuple(self.history),
                       remarks=tuple(self.remarks))
