"""What a goal picture shows, found by the tracker that watches the scene: several starts, the likeliest is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.initial import PARKED, seed_positions
from object_centric_ros.planning.goals import Goal
from object_centric_ros.tracking.entities import TrackedFrame
from object_centric_ros.tracking.settings import TrackerConfig
from object_centric_ros.tracking.tracker import EntityTracker

STARTS = 6
"""Starts while part of the picture is not explained; one is enough for most."""
SLIVER = 8.0
"""Smallest mask of an entity, model pixels: a goal picture stands still, so less will do than in a scene."""
PLACES = 8
"""Unexplained places that are kept."""
SHIFT = 2
"""How far from where the goal shows it something may be seen, model pixels: about the planner's tolerance."""


def explain_goal(model: CycleModel, record: dict[str, Any], camera: PinholeCamera, image: NDArray[np.uint8],
                 looks: int, seed: int, device: str) -> Goal:
    """The entities of a goal picture.

    A block almost hidden behind others is a sliver, which some starts take for part of what hides it. The negative ELBO
    tells them apart, and as long as part of the picture is not explained another start is tried.

    Args:
        model, record, camera, device: as for the tracker.
        image: uint8 [H, W, 3].
        looks: how often each start looks at the picture.
        seed: of the first start.

    Raises:
        InputError: the picture does not fit the camera, or no entity is found in it.
    """
    likeliest: tuple[float, TrackedFrame, tuple[tuple[float, float], ...]] | None = None
    for start in range(STARTS):
        tracker = EntityTracker(model, record, camera, replace(TrackerConfig(), min_area=SLIVER), device, seed + start)
        for look in range(looks):
            frame = tracker.step(image, stamp=look / 10)
        left = _unexplained(frame, tracker.config.unexplained)
        if likeliest is None or tracker.usual < likeliest[0]:
            likeliest = tracker.usual, frame, left
        if not left:
            break
    assert likeliest is not None
    return replace(Goal.from_frame(likeliest[1]), unexplained=likeliest[2])


def missing(goal: Goal, image: NDArray[np.uint8], threshold: float) -> tuple[tuple[float, float], ...]:
    """What no entity of the goal explains, and the scene does not show either: places (u, v) in model pixels.

    Args:
        goal: of a picture.
        image: the scene's model image, uint8 [S, S, 3].
        threshold: squared difference (sum over RGB in [0, 1], mean about a place) above which it is not the same.
    """
    if goal.image is None or not goal.unexplained:
        return ()
    reach = len(image) // 32
    there, here = (np.pad(picture.astype(float) / 255, ((margin, margin), (margin, margin), (0, 0)), mode='edge')
                   for picture, margin in ((goal.image, reach), (image, reach + SHIFT)))
    found = []
    for u, v in goal.unexplained:
        row, column, side = int(v), int(u), 2 * reach + 1
        wanted = there[row:row + side, column:column + side]
        shifted = (here[row + i:row + i + side, column + j:column + j + side]
                   for i in range(2 * SHIFT + 1) for j in range(2 * SHIFT + 1))
        if min(np.square(wanted - seen).sum(-1).mean() for seen in shifted) > threshold:
            found.append((u, v))
    return tuple(found)


def _unexplained(frame: TrackedFrame, threshold: float) -> tuple[tuple[float, float], ...]:
    """Where the picture differs from what the model draws, most salient first: (u, v) in model pixels."""
    image = torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 255
    where = seed_positions(image, torch.from_numpy(frame.reconstruction)[None], PLACES, threshold)[0]
    size = image.shape[-1]
    return tuple((float((u + 1) / 2 * size), float((v + 1) / 2 * size)) for u, v in where.tolist() if u < PARKED)
