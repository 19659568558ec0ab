"""Model-predictive control without ROS: observe, plan, act, look again."""

from __future__ import annotations

from collections.abc import Callable

from object_centric_ros.errors import InputError
from object_centric_ros.planning.commands import Command, Outcome, Plan
from object_centric_ros.planning.goals import Goal
from object_centric_ros.planning.planner import Planner
from object_centric_ros.tracking.entities import TrackedFrame

Feedback = Callable[[int, Plan, 'Command | None'], None]


class BuildLoop:
    """Brings a scene to a goal, one command at a time.

    Args:
        planner: makes the plans.
        goal: what is to be reached.
        observe: the newest frame, seen after the last command ended; each call waits for a newer one.
        act: carries a command out and says how it ended.
        feedback: told of the step (from 1), the plan, and the command under way or None before it is chosen.
        cancelled: asked before each step.
        max_plans: plans after which to give up; 0 = two for each thing of the goal, as in OP3 section 6.5.2.
        looks: frames to look at after each command, so that a moved thing is found again; the last one counts.
    """

    def __init__(self, planner: Planner, goal: Goal, observe: Callable[[], TrackedFrame],
                 act: Callable[[Command], Outcome], feedback: Feedback | None = None,
                 cancelled: Callable[[], bool] | None = None, max_plans: int = 0, looks: int = 6) -> None:
        self.planner, self.goal, self.observe, self.act = planner, goal, observe, act
        self.feedback = feedback or (lambda step, plan, command: None)
        self.cancelled = cancelled or (lambda: False)
        self.max_plans = max_plans or 2 * goal.size
        self.looks = looks

    def run(self) -> Outcome:
        """Build; the outcome says whether the planner holds the goal for reached, and why not."""
        history: list[Plan] = []
        steps, message, refusals = 0, '', 0
        for _ in range(self.max_plans + 1):
            if self.cancelled():
                return self._outcome(False, 'cancelled', steps, history)
            frame = self._look()
            try:
                plan = self.planner.plan(frame, self.goal)
            except InputError as e:
                return self._outcome(False, str(e), steps, history)
            history.append(plan)
            self.feedback(steps, plan, None)
            if plan.reached:
                return self._outcome(True, '', steps, history)
            if len(history) > self.max_plans:
                break
            if not plan.commands:
                refusals += 1
                if refusals > 1:
                    return self._outcome(False, f'no command brings the scene closer to the goal{message}', steps,
                                         history)
                continue
            refusals = 0
            command = plan.commands[0]
            steps += 1
            self.feedback(steps, plan, command)
            if self.cancelled():
                return self._outcome(False, 'cancelled', steps - 1, history)
            result = self.act(command)
            message = '' if result.success else f'; last command failed: {result.message}'
        return self._outcome(False, f'goal not reached after {self.max_plans} plans{message}', steps, history)

    def _look(self) -> TrackedFrame:
        """A frame in which everything is found, or the last of `looks`."""
        frame = self.observe()
        for look in range(1, self.looks):
            if look > 2 and frame.entities and all(e.visible for e in frame.entities):
                break
            frame = self.observe()
        return frame

    def _outcome(self, success: bool, message: str, steps: int, history: list[Plan]) -> Outcome:
        cost = history[-1].costs[0] if history else float('nan')
        return Outcome(success, message, steps, cost, history=tuple(history))
