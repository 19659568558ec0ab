"""What a blind two-finger hand can grasp and where a block comes to stand: plane geometry, without physics.

Footprints are rectangles on the table: centre [2] (m), yaw (rad) and half sizes [2] (m). The rules mirror the guarded
motions of the arm, so that the fast teleport and the real pick-and-place miss and succeed alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.simulation.tabletop_scene import FINGER_LENGTH, FINGER_OPEN, FINGER_THICKNESS, FINGER_WIDTH

GRASP_YAWS = (0.0, np.pi / 2, np.pi / 4, 3 * np.pi / 4)
"""Directions of the closing axis that the hand tries in turn (rad from x) when a finger meets something going down."""
SQUEEZE_REACH = 0.03
"""Largest offset of a block's centre across the closing axis at which squeezing still holds it (m)."""
PALM_HALF = (FINGER_OPEN + FINGER_THICKNESS, FINGER_WIDTH / 2)


@dataclass(frozen=True)
class Grasp:
    """A block between the fingers: its index, the closing axis's yaw (rad), and the block's offset across it (m)."""

    block: int
    yaw: float
    across: float


@dataclass(frozen=True)
class PickPlaceResult:
    """How a pick-and-place ended.

    Attributes:
        success: the hand held a block from pick to place.
        block: index of that block, or None.
        achieved: where the hand let go of it, centre of the block (x, y, z) in m; NaN when nothing was held.
        message: one sentence.
    """

    success: bool
    block: int | None
    achieved: NDArray[np.float64]
    message: str


def rotate(xy: ArrayLike, yaw: float) -> NDArray[np.float64]:
    """Rotate vectors [..., 2] by `yaw` (rad)."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.asarray(xy, float) @ np.array([[c, s], [-s, c]])


def overlap(centre_a: ArrayLike, yaw_a: float, half_a: ArrayLike, centre_b: ArrayLike, yaw_b: float,
            half_b: ArrayLike) -> bool:
    """Whether two rectangles overlap (separating axes)."""
    delta = np.asarray(centre_b, float) - np.asarray(centre_a, float)
    turn = np.array([[abs(np.cos(yaw_b - yaw_a)), abs(np.sin(yaw_b - yaw_a))],
                     [abs(np.sin(yaw_b - yaw_a)), abs(np.cos(yaw_b - yaw_a))]])
    a, b = np.asarray(half_a, float), np.asarray(half_b, float)
    in_a, in_b = np.abs(rotate(delta, -yaw_a)), np.abs(rotate(delta, -yaw_b))
    return bool((in_a < a + turn @ b).all() and (in_b < b + turn.T @ a).all())


def height_under(centre: ArrayLike, yaw: float, half: ArrayLike, positions: NDArray[np.float64],
                 yaws: NDArray[np.float64], block_half: float, ignore: int | None = None) -> tuple[float, int | None]:
    """Height (m) of the highest block top under a rectangle and that block's index; (0, None) over bare table.

    Args:
        centre, yaw, half: the rectangle.
        positions, yaws: block centres [N, 3] and yaws [N]; `block_half` their half size.
        ignore: index of a block that does not count.
    """
    best: tuple[float, int | None] = (0.0, None)
    centre = np.asarray(centre, float)
    for i, (p, block_yaw) in enumerate(zip(positions, yaws, strict=True)):
        if i == ignore or np.hypot(*(p[:2] - centre)) > np.hypot(*np.asarray(half, float)) + 1.4143 * block_half:
            continue
        if p[2] + block_half > best[0] and overlap(centre, yaw, half, p[:2], block_yaw, (block_half, block_half)):
            best = (float(p[2] + block_half), i)
    return best


def find_grasp(pick_xy: ArrayLike, positions: NDArray[np.float64], yaws: NDArray[np.float64],
               block_half: float) -> Grasp | None:
    """What the hand would hold after going straight down at `pick_xy` [2] (m) and closing; None is a miss."""
    pick = np.asarray(pick_xy, float)
    for yaw in GRASP_YAWS:
        top, block = height_under(pick, yaw, PALM_HALF, positions, yaws, block_half)
        side = rotate([FINGER_OPEN + FINGER_THICKNESS / 2, 0.0], yaw)
        finger = max(height_under(pick + s * side, yaw, (FINGER_THICKNESS / 2, FINGER_WIDTH / 2), positions, yaws,
                                  block_half)[0] for s in (-1, 1))
        if finger + FINGER_LENGTH > top and finger > 0:
            continue
        if block is None:
            return None
        across = rotate(positions[block, :2] - pick, -yaw)[1]
        if abs(across) <= SQUEEZE_REACH:
            return Grasp(block, float(yaw), float(across))
    return None


def squeezed_yaw(block_yaw: float, grasp_yaw: float) -> float:
    """Yaw (rad) of a block after the fingers closed on it: a face turns flush with the fingers."""
    return float(grasp_yaw + np.pi / 2 * np.round((block_yaw - grasp_yaw) / (np.pi / 2)))
