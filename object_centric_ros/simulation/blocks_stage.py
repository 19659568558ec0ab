"""Where the block worlds of OP3 take place: floor, walls, lights, camera and the three shapes of blocks.

A stage is drawn by one model that holds everything but blocks (`stage_xml`), and its physics runs in models with the
blocks that are there and nothing to look at (`physics_model`). Lengths are the papers' own units, gravity 9.81 of
them per s^2; z is up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import hypot, isfinite

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError

SHAPES = ('cube', 'horizontal_rectangle', 'tetrahedron')
"""Names as in the goal files; what they call a tetrahedron is a pyramid on a square."""
TIMESTEP = 0.002
"""As released (s)."""
REST_SPEED = 1e-9
"""Blocks rest when no velocity is above this (units/s, rad/s) and no acceleration above a thousand times it."""
_CHECK = 50  # steps between two looks at whether everything rests

_CORNERS = np.array(list(product((-1, 1), repeat=3)))
_FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
_APEX = np.array([[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [0, 0, 1]])
_SIDES = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4], [0, 2, 1], [0, 3, 2]])


@dataclass(frozen=True)
class Block:
    """A block: what it is, and where.

    Attributes:
        shape: one of `SHAPES`.
        position: of its origin, the middle of its bounding box (x, y, z).
        rgb: colour in [0, 1].
        quaternion: w, x, y, z.
    """

    shape: str
    position: tuple[float, float, float]
    rgb: tuple[float, float, float]
    quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise InputError('block: shape', f'one of {SHAPES}', self.shape)
        for name, size in (('position', 3), ('rgb', 3), ('quaternion', 4)):
            given = getattr(self, name)
            try:
                values = tuple(map(float, given))
            except (TypeError, ValueError):
                values = ()
            if len(values) != size or not all(map(isfinite, values)):
                raise InputError(f'block: {name}', f'{size} finite numbers', given)
            object.__setattr__(self, name, values)
        if not all(0 <= c <= 1 for c in self.rgb):
            raise InputError('block: rgb', 'numbers in [0, 1]', self.rgb)
        if abs(hypot(*self.quaternion) - 1) > 1e-3:
            raise InputError('block: quaternion', 'one of length 1', self.quaternion)

    @property
    def pose(self) -> NDArray[np.float64]:
        """Position and quaternion [7]."""
        return np.array([*self.position, *self.quaternion])


@dataclass(frozen=True)
class Stage:
    """What surrounds the blocks, and what they are made of.

    Attributes:
        scale: half the edge of a cube.
        contact: MuJoCo attributes of a block's geom.
        surroundings: MuJoCo elements that blocks can touch.
        decor: MuJoCo elements that are only seen: lights, one camera.
        floor_rgb: colour of everything in `surroundings` that is seen.
        drawn: side of the picture that is rendered (pixels); twice `size` or `size`.
        size: side of the picture that is given out (pixels).
        upside_down: the camera's picture is turned over, top to bottom.
        shadows: draw shadows.
    """

    scale: float
    contact: str
    surroundings: str
    decor: str
    drawn: int
    size: int
    upside_down: bool
    shadows: bool


def quaternion(axis: ArrayLike, angle: float) -> tuple[float, float, float, float]:
    """The rotation by `angle` (rad) about `axis` [3]; about nothing when the axis is zero."""
    q = np.empty(4)
    norm = np.linalg.norm(axis)
    mujoco.mju_axisAngle2Quat(q, np.asarray(axis, float) / norm if norm else np.zeros(3), angle if norm else 0.0)
    w, x, y, z = q.tolist()
    return w, x, y, z


def shape_meshes(scale: float) -> str:
    """The shapes as MuJoCo meshes, in the order of `SHAPES`; a cube is 2 `scale` wide.

    Light is computed at corners and drawn linearly over triangles, so it can be seen along which diagonal a face is
    cut: these are the cuts of the released pictures.
    """
    meshes = []
    for shape, cuts in zip(SHAPES[:2], ((1, 2), (3,)), strict=True):
        faces = [[q[[1, 2, 3]], q[[1, 3, 0]]] if i in cuts else [q[[0, 1, 2]], q[[0, 2, 3]]]
                 for i, q in enumerate(_FACES)]
        meshes.append((shape, _CORNERS * ((2, 1, 1) if shape == SHAPES[1] else 1), np.array(faces)))
    meshes.append((SHAPES[2], _APEX, _SIDES))
    return ''.join(f'<mesh name="{name}" scale="{scale} {scale} {scale}" vertex="{_words(vertices)}" '
                   f'face="{_words(faces)}"/>' for name, vertices, faces in meshes)


def stage_model(stage: Stage) -> mujoco.MjModel:
    """What is seen of a stage without blocks, with the meshes of the shapes."""
    return mujoco.MjModel.from_xml_string(f"""
<mujoco>
  <compiler angle="radian"/>
  <visual>
    <global offwidth="{stage.drawn}" offheight="{stage.drawn}"/>
    <quality offsamples="0" shadowsize="256"/>
    <map znear="0.001"/>
  </visual>
  <statistic extent="5" center="0 0 1"/>
  <asset>{shape_meshes(stage.scale)}<material name="floor" rgba="0.9 0.9 0.9 1" emission="0.25" specular="0"
    shininess="0"/></asset>
  <worldbody>{stage.surroundings}{stage.decor}</worldbody>
</mujoco>""")


@lru_cache(maxsize=512)
def physics_model(stage: Stage, shapes: tuple[str, ...]) -> mujoco.MjModel:
    """What moves: the surroundings and blocks of these shapes. Shared by all worlds; only `run` changes it."""
    s = stage.scale
    geoms = {SHAPES[0]: f'type="box" size="{s} {s} {s}"', SHAPES[1]: f'type="box" size="{2 * s} {s} {s}"',
             SHAPES[2]: f'type="mesh" mesh="{SHAPES[2]}"'}
    blocks = ''.join(f'<body><freejoint/><geom {geoms[shape]} {stage.contact}/></body>' for shape in shapes)
    return mujoco.MjModel.from_xml_string(f"""
<mujoco>
  <compiler angle="radian"/>
  <option tolerance="1e-6"><flag island="disable"/></option>
  <asset>{shape_meshes(s)}<material name="floor"/></asset>
  <worldbody>{stage.surroundings}{blocks}</worldbody>
</mujoco>""")


def run(model: mujoco.MjModel, data: mujoco.MjData, seconds: float, timestep: float) -> None:
    """Let physics run for some seconds in steps of `timestep` (s), or until all blocks rest.

    At rest means that what is left out would move no block by more than about `REST_SPEED` times the time left out.
    """
    model.opt.timestep = timestep
    steps = round(seconds / timestep)
    for done in range(0, steps, _CHECK):
        mujoco.mj_step(model, data, min(_CHECK, steps - done))
        if np.abs(data.qvel).max(initial=0) < REST_SPEED and np.abs(data.qacc).max(initial=0) < 1000 * REST_SPEED:
            return


def poses(blocks: Sequence[Block]) -> NDArray[np.float64]:
    """Positions and quaternions of blocks [7 N]."""
    return np.concatenate([block.pose for block in blocks]) if blocks else np.zeros(0)


def _words(values: ArrayLike) -> str:
    return ' '.join(f'{v:g}' for v in np.ravel(values))
