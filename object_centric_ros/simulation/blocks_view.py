"""Offscreen pictures of blocks on a stage: colours and ground-truth labels.

The stage is laid out once; for each picture the blocks are put into the drawing list directly. No model is compiled or
forwarded for a picture, so a block that is only imagined costs as much as one that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.blocks_stage import SHAPES, Block, Stage, stage_model
from object_centric_ros.simulation.offscreen import Offscreen

MAX_DRAWN = 64
"""Blocks in a picture, and things on a stage, at most."""


class BlocksView:
    """Draws blocks on one stage. Use it from one thread only (OpenGL asks for it).

    Args:
        stage: where the blocks are.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._model = stage_model(stage)
        self._offscreen = Offscreen(self._model, stage.drawn, stage.drawn)
        data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, data)
        camera = mujoco.MjvCamera()
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        self._scene = mujoco.MjvScene(self._model, maxgeom=2 * MAX_DRAWN)
        mujoco.mjv_updateScene(self._model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL,
                               self._scene)
        self._n_stage = self._scene.ngeom
        for geom in self._scene.geoms[:self._n_stage]:
            geom.segid = 0

    def colours(self, blocks: Sequence[Block]) -> NDArray[np.uint8]:
        """Picture [S, S, 3], RGB."""
        picture = self._draw(blocks, labels=False)
        return picture if self.stage.drawn == self.stage.size else halved(picture)

    def labels(self, blocks: Sequence[Block]) -> NDArray[np.uint8]:
        """Labels [S, S]: 0 surroundings, i+1 the i-th block; of several that share a pixel the last."""
        ids = self._draw(blocks, labels=True)[..., 0]
        ids = np.where(ids > 1, ids - 1, 0).astype(np.uint8)
        return ids if self.stage.drawn == self.stage.size else halved_labels(ids)

    def close(self) -> None:
        """Free the context; the view cannot be used afterwards."""
        self._offscreen.close()

    def _draw(self, blocks: Sequence[Block], labels: bool) -> NDArray[np.uint8]:
        if len(blocks) > MAX_DRAWN:
            raise InputError('blocks in a picture', f'at most {MAX_DRAWN}', len(blocks))
        scene, place, turn, turn9 = self._scene, np.empty(3), np.empty(4), np.empty(9)
        for i, block in enumerate(blocks):
            geom, mesh = scene.geoms[self._n_stage + i], SHAPES.index(block.shape)
            # compiled meshes lie along their own axes of inertia
            mujoco.mju_mulPose(place, turn, np.array(block.position), np.array(block.quaternion),
                               self._model.mesh_pos[mesh], self._model.mesh_quat[mesh])
            mujoco.mju_quat2Mat(turn9, turn)
            mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_MESH, np.ones(3), place, turn9,
                                np.array([*block.rgb, 1], np.float32))
            geom.dataid, geom.segid = 2 * mesh, i + 1
            geom.emission, geom.specular, geom.shininess = 0.25, 0, 0
            geom.category = mujoco.mjtCatBit.mjCAT_DYNAMIC
        scene.ngeom = self._n_stage + len(blocks)
        picture = self._offscreen.draw(scene, labels, self.stage.shadows)  # bottom row first
        return picture if self.stage.upside_down else np.ascontiguousarray(picture[::-1])


@cache
def view_of(stage: Stage) -> BlocksView:
    """The view of a stage; all worlds of a process share it."""
    return BlocksView(stage)


def halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture [2S, 2S, 3] at half the size [S, S, 3], each new pixel a triangle-weighted mean of 4 x 4 old ones.

    Rows, then columns, each rounded to 8 bits, as image libraries do it ("bilinear" with antialiasing).
    """
    return np.ascontiguousarray(_halved_rows(_halved_rows(picture.swapaxes(0, 1)).swapaxes(0, 1)))


def _halved_rows(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    even, odd = picture[::2].astype(np.uint16), picture[1::2].astype(np.uint16)
    out = 3 * (even + odd) + 4
    out[1:] += odd[:-1]
    out[:-1] += even[1:]
    out >>= 3
    out[0] = (2 * (3 * (even[0] + odd[0]) + even[1]) + 7) // 14
    out[-1] = (2 * (3 * (even[-1] + odd[-1]) + odd[-2]) + 7) // 14
    return out.astype(np.uint8)


def halved_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels [2S, 2S] at half the size [S, S]: the highest among the 4 x 4 old pixels that `halved` mixes."""
    return np.ascontiguousarray(_highest_rows(_highest_rows(labels.T).T))


def _highest_rows(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    even, odd = labels[::2], labels[1::2]
    out = np.maximum(even, odd)
    np.maximum(out[1:], odd[:-1], out=out[1:])
    np.maximum(out[:-1], even[1:], out=out[:-1])
    return out
