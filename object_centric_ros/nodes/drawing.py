"""Pictures for people: entities on the camera image, and what the planner imagines."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.evaluation.pictures import entity_colour
from object_centric_ros.tracking.entities import TrackedFrame


def draw_overlay(image: NDArray[np.uint8], frame: TrackedFrame, width: int) -> NDArray[np.uint8]:
    """Outlines of the masks and ids on the camera image.

    Args:
        image: RGB [H, W, 3].
        frame: its result.
        width: of the picture (pixels), at most W.

    Returns:
        RGB [width * H / W, width, 3].
    """
    full_height, full_width = image.shape[:2]
    scale = min(1.0, width / full_width)
    size = (round(full_width * scale), round(full_height * scale))
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image.copy()
    side = round(min(full_width, full_height) * scale)
    corner = ((size[0] - side) // 2, (size[1] - side) // 2)
    for e in frame.entities:
        colour = entity_colour(e.id)
        mask = (frame.label_image == e.id).astype(np.float32)
        if mask.any():
            smooth = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
            outlines, _ = cv2.findContours((smooth > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE,
                                           offset=corner)
            cv2.drawContours(canvas, outlines, -1, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.drawContours(canvas, outlines, -1, colour, 1, cv2.LINE_AA)
        if np.isfinite(e.centroid).all():
            at = (int(e.centroid[0] * scale) - 5, int(e.centroid[1] * scale) + 5)
            text = str(e.id) if e.visible else f'({e.id})'
            cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def draw_labels(frame: TrackedFrame, width: int, height: int) -> NDArray[np.uint16]:
    """Entity id of each pixel of the camera image [height, width]; 0 where the model does not look."""
    side = min(width, height)
    out = np.zeros((height, width), np.uint16)
    top, left = (height - side) // 2, (width - side) // 2
    out[top:top + side, left:left + side] = cv2.resize(frame.label_image, (side, side), interpolation=cv2.INTER_NEAREST)
    return out


def draw_plan(goal: NDArray[np.uint8] | None, imagined: NDArray[np.uint8], targets: NDArray[np.float64] | None = None,
              side: int = 128) -> NDArray[np.uint8]:
    """Goal, present and imagined frames side by side.

    Args:
        goal: model image [S, S, 3], or None: then the present is shown with a cross at each target.
        imagined: present and predicted frames [1 + N, S, S, 3].
        targets: [M, 2] in [-1, 1], where things shall go in the model image.
        side: of each panel (pixels).

    Returns:
        RGB [side, (2 + N) * side + gaps, 3].
    """
    def panel(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_NEAREST), np.uint8)

    first = panel(imagined[0] if goal is None else goal)
    for u, v in [] if targets is None else (np.asarray(targets) + 1) * side / 2:
        cv2.drawMarker(first, (int(u), int(v)), (255, 255, 255), cv2.MARKER_CROSS, side // 8, 2)
    gap = np.full((side, 4, 3), 255, np.uint8)
    parts = [first]
    for picture in imagined:
        parts += [gap, panel(picture)]
    return np.concatenate(parts, 1)
