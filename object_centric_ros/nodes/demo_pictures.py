"""Pictures of the demo: messages as images, panels of the plan, frames of the video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.evaluation.pictures import Image, resize, write_text
from object_centric_ros.evaluation.trials import Seen, SeenEntity
from object_centric_ros.nodes.images import labels_of, to_rgb

if TYPE_CHECKING:
    from object_centric_ros.nodes.demo_client import DemoClient

SIZE = (880, 480)
"""Width and height of the video."""
GAP = 4
"""Pixels between the panels of the plan's picture."""
SIDE = 64
"""Side of the frames that are kept of a plan."""


def plan_panels(picture: Image) -> NDArray[np.uint8]:
    """The panels of a plan's picture (goal, present, imagined ...), each [SIDE, SIDE, 3]."""
    side = picture.shape[0]
    count = (picture.shape[1] + GAP) // (side + GAP)
    return np.stack([resize(picture[:, i * (side + GAP):i * (side + GAP) + side], SIDE, SIDE) for i in range(count)])


def seen(client: DemoClient, picture: dict[str, bytes], label: str, since: float) -> Seen:
    """A moment, from the newest messages of that moment."""
    overlay, labels = client.read(picture, 'overlay'), client.read(picture, 'label_image')
    array = client.read(picture, 'entities')
    entities = [] if array is None else [
        SeenEntity(int(e.id), bool(e.visible), float(e.confidence), (e.position.x, e.position.y, e.position.z),
                   (e.colour.r, e.colour.g, e.colour.b)) for e in array.entities]
    return Seen(label, since, to_rgb(client.read(picture, 'image')).copy(),
                None if overlay is None else to_rgb(overlay).copy(), None if labels is None else labels_of(labels),
                tuple(entities))


def video_frame(overlay: Image, goal: Image, imagined: Image | None, title: str, lines: Sequence[str]) -> Image:
    """One frame of the video: the overlay with a title, beside it the goal, what is imagined next, and notes."""
    canvas = np.full((SIZE[1], SIZE[0], 3), 24, np.uint8)
    canvas[:, :640] = resize(overlay, 640, 480)
    canvas[:26, :640] = canvas[:26, :640] // 3
    write_text(canvas, title, (10, 18))
    for name, picture, top, height in (('goal', goal, 0, 180), ('imagined next', imagined, 206, 180)):
        if picture is not None:
            wide = 240 if name == 'goal' else 180
            left = 640 + (240 - wide) // 2
            canvas[top + 26:top + 26 + height - 6, left + 4:left + wide - 4] = resize(picture, wide - 8, height - 6)
        write_text(canvas, name, (648, top + 18), 0.45, (170, 180, 190))
    for i, line in enumerate(lines):
        write_text(canvas, line, (648, 432 + 20 * i), 0.45)
    return canvas
