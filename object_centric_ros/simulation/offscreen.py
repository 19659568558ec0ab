"""An OpenGL context without a window, for pictures of MuJoCo scenes."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError


class Offscreen:
    """Draws scenes into pictures of one size. Use it from one thread only (OpenGL asks for it).

    Args:
        model: brings meshes, planes and visual settings; other models can be drawn that have the same ones and no
            textures.
        width, height: of the pictures (pixels).
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        try:
            self._gl = mujoco.GLContext(width, height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as e:  # the platform's GL layers raise errors of many types
            raise InputError('offscreen rendering', 'a working OpenGL driver (headless: MUJOCO_GL=egl)', e) from e
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._rect = mujoco.MjrRect(0, 0, width, height)

    def draw(self, scene: mujoco.MjvScene, labels: bool = False, shadows: bool = True) -> NDArray[np.uint8]:
        """Picture [H, W, 3] with the bottom row first; with `labels` the colour is the `segid` + 1 of each geom."""
        scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = labels
        scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = labels
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows and not labels
        picture = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        self._gl.make_current()
        mujoco.mjr_render(self._rect, scene, self._context)
        mujoco.mjr_readPixels(picture, None, self._rect, self._context)
        return picture

    def close(self) -> None:
        """Free the context; it cannot be used afterwards."""
        self._gl.make_current()  # else what belongs to another context is freed
        self._context.free()
        self._gl.free()
