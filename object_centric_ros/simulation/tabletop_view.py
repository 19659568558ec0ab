"""Offscreen pictures of the tabletop: colours and ground-truth labels from one OpenGL context."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

ARM_LABEL = 255


class TabletopView:
    """Renders any model of the tabletop; they hold no meshes or textures, so one context serves them all.

    Args:
        model: a compiled scene; its visual settings (buffer size, samples) fix those of the view.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._size = (int(model.vis.global_.offwidth), int(model.vis.global_.offheight))
        try:
            self._gl = mujoco.GLContext(*self._size)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as e:  # the platform's GL layers raise errors of many types
            raise InputError('offscreen rendering', 'a working OpenGL driver (headless: MUJOCO_GL=egl)', e) from e
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = 0
        self._scenes: dict[int, tuple[mujoco.MjModel, mujoco.MjvScene]] = {}

    def close(self) -> None:
        """Free the context; the view cannot be used afterwards."""
        self._scenes.clear()
        self._gl.make_current()  # else what belongs to another context is freed
        self._context.free()
        self._gl.free()

    def _draw(self, model: mujoco.MjModel, data: mujoco.MjData, width: int, height: int, labels: bool,
              update: bool) -> tuple[NDArray[np.uint8], mujoco.MjvScene]:
        if not (0 < width <= self._size[0] and 0 < height <= self._size[1]):
            raise InputError('size of the picture', f'at most {self._size[0]}x{self._size[1]}', f'{width}x{height}')
        if id(model) not in self._scenes:
            self._scenes[id(model)] = (model, mujoco.MjvScene(model, maxgeom=100))
        scene = self._scenes[id(model)][1]
        if update:
            mujoco.mjv_updateScene(model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, scene)
        scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = labels
        scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = labels
        rect, out = mujoco.MjrRect(0, 0, width, height), np.empty((height, width, 3), np.uint8)
        self._gl.make_current()
        mujoco.mjr_render(rect, scene, self._context)
        mujoco.mjr_readPixels(out, None, rect, self._context)
        return out[::-1], scene

    def colours(self, model: mujoco.MjModel, data: mujoco.MjData, width: int, height: int) -> NDArray[np.uint8]:
        """RGB picture [height, width, 3] of the state in `data`."""
        return np.ascontiguousarray(self._draw(model, data, width, height, False, True)[0])

    def labels(self, model: mujoco.MjModel, data: mujoco.MjData, width: int, height: int,
               update: bool = True) -> NDArray[np.uint8]:
        """Labels [height, width]: 0 table, 1..N block, 255 arm. `update=False`: the state drawn last, again."""
        raw, scene = self._draw(model, data, width, height, True, update)
        table = np.zeros(scene.ngeom + 2, np.uint8)
        for geom in scene.geoms[:scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                table[geom.segid + 1] = _label_of(model, geom.objid)
        return table[raw[..., 0]]


def _label_of(model: mujoco.MjModel, geom: int) -> int:
    name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or ''
    if name == 'table':
        return 0
    return int(name[5:]) + 1 if name.startswith('block') else ARM_LABEL
