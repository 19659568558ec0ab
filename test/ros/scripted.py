"""The nodes with a tracker and a planner that follow simple rules: ``python scripted.py NODE [--ros-args ...]``.

They make what is tested here, the nodes, independent of any training. Blocks are found by their colour.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, model_image
from object_centric_ros.planning.commands import Command, Plan
from object_centric_ros.planning.goals import Goal, GoalEntity
from object_centric_ros.planning.relations import Relation
from object_centric_ros.planning.settings import PlannerConfig
from object_centric_ros.tracking.entities import Entity, PickPlace, SlotState, TrackedFrame

if TYPE_CHECKING:
    from object_centric_ros.nodes.entity_perception import PerceptionSettings

MODEL_ID = os.environ.get('SCRIPTED_MODEL', 'scripted-1')
CAMERA = PinholeCamera.looking_at((0.0, -0.88, 1.0), (0.0, 0.0, 0.045), 23.0, 640, 480)  # as the simulator's


def blobs(image: np.ndarray, camera: PinholeCamera) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(mask, mean RGB, position on the table [2]) of each thing with a bright colour."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    count, labels = cv2.connectedComponents(((hsv[..., 1] > 110) & (hsv[..., 2] > 60)).astype(np.uint8))
    out = []
    for k in range(1, count):
        mask = labels == k
        if mask.sum() > image.shape[0] * image.shape[1] / 2000:
            v, u = np.nonzero(mask)
            colour = image[mask].mean(0) / 255
            out.append((mask, colour / np.linalg.norm(colour), camera.to_plane([[u.mean(), v.mean()]], 0.035)[0, :2]))
    return out


class ColourTracker:
    """Ids by colour; expects what it saw last.

    The memory of slot 99 tells what `step` was given (action given, robot moving), its mean how often it was asked what
    it expects.
    """

    def __init__(self, camera: PinholeCamera | None) -> None:
        self.camera, self.model_id = camera or CAMERA, MODEL_ID
        self.known: list[np.ndarray] = []
        self.shifted = self.reconsidered = 0.0
        self.asked, self.last = 0, None  # how often it was asked what it expects, and the last model image

    def reconsider(self) -> None:
        self.reconsidered += 1

    def shift_clock(self, seconds: float) -> None:
        self.shifted += seconds

    def reset(self) -> None:
        self.known = []

    def predicted(self, action: PickPlace | None = None) -> np.ndarray | None:
        self.asked += 1
        return self.last

    def state_dict(self) -> dict:
        return {}  # nothing that outlives it

    def step(self, image: np.ndarray, action: PickPlace | None = None, stamp: float = 0.0,
             robot_moving: bool = False) -> TrackedFrame:
        began = time.perf_counter()
        labels, entities = np.zeros(image.shape[:2], np.uint16), []
        for mask, colour, xy in blobs(image, self.camera):
            near = [i for i, k in enumerate(self.known) if np.linalg.norm(k - colour) < 0.15]
            if not near:
                self.known.append(colour)
                near = [len(self.known) - 1]
            labels[mask] = near[0] + 1
            v, u = np.nonzero(mask)
            box = (float(u.min()), float(v.min()), float(u.max() + 1), float(v.max() + 1))
            belief = np.array([*xy, *colour], np.float32)
            slot = SlotState(near[0], belief, np.ones(5, np.float32), np.zeros(2, np.float32))
            if near[0] + 1 not in [e.id for e in entities]:
                entities.append(Entity(near[0] + 1, slot, 1.0, True, (float(xy[0]), float(xy[1]), 0.03),
                                       (float(u.mean()), float(v.mean())), box, float(mask.sum()), tuple(colour)))
        told = np.array([action is not None, robot_moving], np.float32)
        asked = np.array([self.asked, 0, 0, 0, 0], np.float32)
        rest = SlotState(99, asked, np.ones(5, np.float32), told)
        height, width = labels.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = labels[top:top + side, left:left + side]
        small = cv2.resize(middle, (64, 64), interpolation=cv2.INTER_NEAREST)
        masks = np.stack([0.8 * (small == k + 1) for k in range(max(1, len(self.known)))]).astype(np.float32)
        self.last = model_image(image)
        return TrackedFrame(stamp, self.model_id, tuple(entities), (rest,), small, masks, masks[:, None].repeat(3, 1),
                            np.zeros((3, 64, 64), np.float32), self.last, time.perf_counter() - began)


class Places(list):
    """(entity id or colour, xy) of each thing."""

    @property
    def size(self) -> int:
        return len(self)

    @property
    def ids(self) -> set[int]:
        return {what for what, _ in self if isinstance(what, int)}


class GreedyPlanner:
    """Moves what is farthest from its place."""

    def __init__(self, camera: PinholeCamera | None) -> None:
        self.camera, self.model_id, self.config = camera or CAMERA, MODEL_ID, PlannerConfig()

    def goal_from_image(self, image: np.ndarray) -> Goal:
        nothing = np.zeros((3, 1, 1), np.float32)
        return Goal(tuple(GoalEntity((float(xy[0]), float(xy[1]), 0.03), tuple(colour), nothing)
                          for _, colour, xy in blobs(image, self.camera)))

    def goal_from_places(self, places: dict[int, tuple[float, float]]) -> Places:
        return Places((i, np.array(xy)) for i, xy in places.items())

    def goal_from_relations(self, relations: list[Relation]) -> Places:
        centres = [(r.entity, np.add(r.region[:2], r.region[2:]) / 2) for r in relations if r.region]
        if len(centres) < len(relations):
            raise InputError('goal: relation', 'within, all that this planner knows', [r.kind for r in relations])
        return Places(centres)

    def plan(self, frame: TrackedFrame, goal: Places | Goal, n_steps: int | None = None) -> Plan:
        began, jobs = time.perf_counter(), []
        if isinstance(goal, Goal):
            goal = Places((np.array(e.colour), np.array(e.position[:2])) for e in goal.entities)
        for what, xy in goal:
            if isinstance(what, int):
                entity = frame.entity(what)
            elif not frame.entities:
                continue
            else:
                entity = min(frame.entities, key=lambda e: float(np.linalg.norm(np.array(e.colour) - what)))
            jobs.append((float(np.linalg.norm(np.array(entity.position[:2]) - xy)), entity, xy))
        worst, entity, xy = max(jobs, key=lambda j: j[0]) if jobs else (float('inf'), None, np.zeros(2))
        reached = worst < 0.03
        commands = () if reached or entity is None else (
            Command(entity.id, entity.position, (float(xy[0]), float(xy[1]), 0.03)),)
        costs = tuple([sum(j[0] for j in jobs), sum(j[0] for j in jobs) - worst][:1 + len(commands)])
        pictures = np.zeros((1 + len(commands), 64, 64, 3), np.uint8)
        return Plan(commands, costs, pictures, worst, reached, len(jobs), time.perf_counter() - began)


def make_tracker(settings: PerceptionSettings, camera: PinholeCamera | None) -> ColourTracker:
    """The tracker that the checkpoint's name stands for: missing, broken, failing later, or a model of that name."""
    name = settings.checkpoint
    if name == 'missing':
        raise InputError('checkpoint', 'an existing file', name)
    if name == 'crash':
        raise ZeroDivisionError(name)
    tracker = FailingTracker(camera) if name == 'fails-late' else ColourTracker(camera)
    tracker.model_id = name or tracker.model_id
    return tracker


class FailingTracker(ColourTracker):
    """A tracker that is out of order."""

    def step(self, *args: object, **kwargs: object) -> TrackedFrame:
        raise ZeroDivisionError('step')


def main() -> int:
    """Run one node."""
    node = sys.argv.pop(1)
    if node == 'entity_perception':
        from object_centric_ros.nodes import entity_perception
        return entity_perception.main(factory=make_tracker)
    from object_centric_ros.nodes import pick_place_planner
    return pick_place_planner.main(factory=lambda _, camera: GreedyPlanner(camera))


if __name__ == '__main__':
    raise SystemExit(main())
