"""What a goal entity is: shapes, places and colours that are read off a picture by drawing; no model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from object_centric_ros.evaluation.benchmark_stack import stage_camera
from object_centric_ros.planning.blocks_fit import Drop, Kind, Likeness, drop_of
from object_centric_ros.simulation.blocks_stack import STAGE, StackWorld, upright_block

KINDS: tuple[Kind, ...] = (('cube', 0.0), ('cube', np.pi / 4), ('horizontal_rectangle', 0.0), ('tetrahedron', 0.0))
BELOW = upright_block('cube', (0.7, 0.3, 0.3), (0.0, -0.25, -0.1))


def at(pixel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the ray of a pixel meets the plane y = -0.25: x and z."""
    camera = stage_camera().square(STAGE.size)
    ray = camera.rotation @ [(pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy, 1.0]
    along = (-0.25 - camera.position[1]) / ray[1]
    return (camera.position + along * ray)[[0, 2]]


def tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize('kind', range(len(KINDS)))
def test_a_block_is_known_by_what_it_looks_like(kind: int) -> None:
    world = StackWorld()
    world.set_blocks([BELOW])
    present = tensor(world.render())
    shape, yaw = KINDS[kind]
    block = upright_block(shape, (0.2, 0.4, 0.3), (0.2, -0.25, 0.7), yaw)
    world.set_blocks([BELOW, block])
    goal, mask = tensor(world.render()), torch.from_numpy((world.render_labels() == 2).astype(np.float32))
    world.set_blocks([BELOW])

    def draw(drops: list[Drop]) -> NDArray[np.uint8]:
        return np.stack([world.render_block_in_air(d.shape, d.rgb, d.position, d.yaw) for d in drops])
    likeness = Likeness(goal, mask, present, draw)
    same = likeness.costs([Drop(shape, block.rgb, block.position, yaw), Drop(shape, block.rgb, (0.5, -0.25, 0.7), yaw),
                           Drop(shape, (0.4, 0.2, 0.1), block.position, yaw)])
    assert same[0] < 0.05 and (same[1:] > same[0] + 0.2).all()
    rows, columns = mask.nonzero(as_tuple=True)
    x, z = at(np.array([float(columns.float().mean()), float(rows.float().mean())]) + 0.5)
    fits = likeness.fit(KINDS, np.array([x, -0.25, z]), at)
    assert fits.costs.argmin() == kind and fits.costs[kind] < 0.4
    found = drop_of(KINDS[kind], fits.points[kind])
    assert np.abs(np.subtract(found.position, block.position)).max() < 0.15
    assert np.abs(np.subtract(found.rgb, block.rgb)).max() < 0.1
