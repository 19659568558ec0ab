"""One trial of the demo: a scene, a goal picture, the build, the judgement."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.trials import Imagined, Progress, Trial
from object_centric_ros.evaluation.video import VideoWriter
from object_centric_ros.nodes.demo_client import Build, DemoClient
from object_centric_ros.nodes.demo_pictures import plan_panels, seen, video_frame
from object_centric_ros.nodes.images import to_rgb
from object_centric_ros.nodes.processes import NodeFailed
from object_centric_ros.simulation.tabletop import TabletopWorld
from object_centric_ros.simulation.tabletop_goals import GoalSpec

SEEN = ('image', 'entities', 'label_image', 'overlay', 'ground_truth/blocks')
CALM = 1.0
"""Seconds for which the entities must stay the same before a goal is sent."""


def sample_task(world: TabletopWorld, seed: int, blocks: int, moved: int, stack: bool) -> GoalSpec:
    """Put the world into the scene of `seed` and draw a goal for it: the same for the same numbers."""
    world.reset(seed, blocks)
    for attempt in range(20):
        try:
            return world.goal(np.random.default_rng([seed, attempt, 7]), moved, 2 if stack else 0)
        except InputError:
            if attempt == 19:
                raise
    raise AssertionError


class Show:
    """Progress in the terminal and frames of the video, while a build is under way."""

    def __init__(self, client: DemoClient, video: VideoWriter, began: float, trial: Trial, title: str) -> None:
        self._client, self._video, self._began, self._trial, self._title = client, video, began, trial, title
        self._told = self._overlays = self._plans = 0
        self._imagined: Any = None
        self._line = ''
        self.build: Build | None = None

    def __call__(self) -> None:
        """Bring both up to date."""
        if self.build is not None:
            with self._client.changed:
                feedback = list(self.build.feedback)
            for since, message in feedback[self._told:]:
                self._tell(since, message)
            self._told = len(feedback)
            self._look_at_plan()
        overlay = self._client.heard['overlay']
        now = time.monotonic() - self._began
        if overlay.count != self._overlays and self._video.due(now):
            self._overlays = overlay.count
            self._film(now)

    def _tell(self, since: float, message: Any) -> None:
        if message.stage == 'plan':
            return
        text = 'looks and plans'
        if message.stage == 'act':
            pick = f'({message.pick.x:+.2f}, {message.pick.y:+.2f})'
            text = (f'step {message.step}: moves entity {message.entity_id} from {pick} '
                    f'to ({message.place.x:+.2f}, {message.place.y:+.2f}) m')
        cost = f', cost {message.cost:.4f}' if np.isfinite(message.cost) else ''
        line = f'  {since:5.1f} s  {text}{cost}'
        if line[9:] != self._line[9:]:
            self._line = line
            print(line, flush=True)

    def _look_at_plan(self) -> None:
        with self._client.changed:
            plans = self.build.plans if self.build is not None else []
            picture = plans[-1][1] if len(plans) > self._plans else None
            self._plans = len(plans)
        if picture is not None:
            panels = plan_panels(to_rgb(self._client.read(picture, 'plan')))
            self._imagined = panels[2] if len(panels) > 2 else None

    def _film(self, now: float) -> None:
        message = self._client.newest('overlay')
        notes = [self._line[9:].strip().partition(', cost')[0][:34]] if self._line else []
        if self._client.heard['entities'].count:
            notes.append(f'{len(self._client.newest("entities").entities)} entities')
        self._video.add(video_frame(to_rgb(message), self._trial.goal_image, self._imagined, self._title, notes), now)


def calm(client: DemoClient, since_ns: int, show: Show, timeout: float) -> None:
    """Wait until perception has seen the new scene and its entities stay the same for a while."""
    state: dict[str, Any] = {'key': None, 'since': time.monotonic(), 'count': -1}

    def steady() -> bool:
        topic = client.heard['entities']
        if not client.news(SEEN, since_ns):
            return False
        if topic.count != state['count']:
            state['count'] = topic.count
            message = client.newest('entities')
            key = tuple(e.id for e in message.entities), all(e.visible for e in message.entities)
            if key != state['key']:
                state['key'], state['since'] = key, time.monotonic()
        ids, visible = state['key']
        return visible and time.monotonic() - state['since'] >= (CALM if ids else 3 * CALM)

    client.wait(steady, timeout, 'entities that stay the same')


def run_trial(client: DemoClient, world: TabletopWorld, args: argparse.Namespace, index: int, video: VideoWriter,
              began: float) -> Trial:
    """Reset the scene, send the goal's picture, follow the build, judge the result by ground truth."""
    seed = args.seed + index
    goal = sample_task(world, seed, args.blocks, args.moved, args.stack)
    trial = Trial(seed, args.blocks, args.moved, args.stack, goal.description, world.render_goal(goal))
    title = f'trial {index + 1} of {args.trials}: {goal.description}'
    print(f'\nTrial {index + 1} of {args.trials}, seed {seed}, {args.blocks} blocks. Goal: {goal.description}',
          flush=True)
    show = Show(client, video, began, trial, title)
    client.reset(seed, args.blocks)
    reset_ns = time.time_ns()
    client.wait(lambda: client.news(SEEN, reset_ns), 30.0, 'a picture of the new scene', show)
    start = client.block_positions()
    if start.shape != goal.positions.shape or np.abs(start - world.block_positions()).max() > 0.005:
        raise NodeFailed('the simulator\'s scene is not the one that the goal was made for')
    try:
        calm(client, reset_ns, show, 30.0)
    except NodeFailed as error:
        client._check()
        print(f'  {error}; the goal is sent all the same', flush=True)
    show.build = build = client.send_goal(trial.goal_image)
    trial.seen.append(seen(client, client.picture(), 'start', 0.0))
    try:
        client.wait(lambda: build.result is not None or build.refused, args.timeout, 'the end of the build', show)
    except NodeFailed as error:
        client._check()
        client.cancel(build)
        trial.message = f'given up by the demo: {error}'
        finish_cancel(client, build, show)
    _conclude(client, trial, build)
    end_ns = time.time_ns()
    client.wait(lambda: client.news(SEEN, end_ns), 30.0, 'a picture of the end', show)
    trial.seen.append(seen(client, client.picture(), 'end', time.monotonic() - build.sent))
    trial.judge(goal, client.block_positions())
    with client.changed:
        client.build = None
    verdicts = ['reached' if v else 'NOT reached' for v in (trial.reached, trial.believed)]
    print(f'  {verdicts[0]} by ground truth (worst error {trial.worst_mm:.0f} mm), {verdicts[1]} by the planner, '
          f'{trial.steps} steps, {trial.seconds:.0f} s'
          f'{"; " + trial.message if trial.message else ""}', flush=True)
    return trial


def finish_cancel(client: DemoClient, build: Build, show: Show) -> None:
    """Give the planner time to stop the arm."""
    try:
        client.wait(lambda: build.result is not None, 30.0, 'the end of the cancelled build', show)
    except NodeFailed:
        client._check()


def _conclude(client: DemoClient, trial: Trial, build: Build) -> None:
    """What the planner said and what was recorded on the way."""
    if build.refused:
        trial.message = 'the planner refused the goal'
    if build.result is not None:
        trial.believed = bool(build.result.success)
        trial.steps, trial.cost = int(build.result.steps), float(build.result.final_cost)
        trial.message = trial.message or build.result.message
        trial.seconds = build.ended
    else:
        trial.seconds = time.monotonic() - build.sent
    with client.changed:
        feedback, plans, latency = list(build.feedback), list(build.plans), list(build.latency)
    trial.progress = [Progress(since, int(m.step), m.stage, float(m.cost), int(m.entity_id), (m.pick.x, m.pick.y),
                               (m.place.x, m.place.y)) for since, m in feedback]
    trial.steps = trial.steps or max((p.step for p in trial.progress if p.stage == 'act'), default=0)
    trial.latency = np.array(latency, float).reshape(-1, 3)
    for n, (since, picture) in enumerate(plans):
        trial.plans.append(Imagined(since, plan_panels(to_rgb(client.read(picture, 'plan')))[1:]))
        if n:
            trial.seen.append(seen(client, picture, f'plan {n + 1}', since))
