"""CLEVR-like pictures and CLEVRER-like videos: cubes, spheres and cylinders of rubber or metal on a gray floor.

Static scenes follow CLEVR (Johnson et al. 2017): sizes, colours, materials, distances, a camera and lights that are
moved a little. Moving ones follow CLEVRER (Yi et al. 2020): things slide in, collide and come to rest. Metres, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.offscreen import Offscreen

GENERATOR_VERSION = 1
MAX_OBJECTS = 16
SHAPES = ('cube', 'sphere', 'cylinder')
MATERIALS = ('rubber', 'metal')
COLOURS = {'gray': (87, 87, 87), 'red': (173, 35, 35), 'blue': (42, 75, 215), 'green': (29, 105, 20),
           'brown': (129, 74, 25), 'purple': (129, 38, 192), 'cyan': (41, 208, 208), 'yellow': (255, 238, 51)}
BOUND = 3.0
"""Centres of things are placed within |x|, |y| <= this."""
GAP, MARGIN = 0.25, 0.4
"""Least distance between the sides of two things, and least distance along the axes of the picture that tells which of
them is left or in front, so that no two hide each other."""
CAMERA = (7.36, -6.93, 4.96)
FOVY_DEG = 33.0
"""Of a square picture: about the middle of CLEVR's that the Multi-Object Datasets cut out."""
_TIMESTEP = 0.005
_TRIES = 500  # of whole scenes
_PLACES = 64  # tried for a thing before the scene is given up
_LOOKS = {'rubber': 'specular="0.05" shininess="0.1" emission="0"',
          'metal': 'specular="0.9" shininess="0.8" emission="0"'}
_DIFFUSE = {'rubber': 1.0, 'metal': 0.75}
_FRICTION = {'rubber': 0.12, 'metal': 0.06}
_LIGHTS = (((12.9, -5.8, 8.5), 0.6, True), ((-9.3, -8.0, 6.0), 0.25, False), ((0.2, 8.7, 10.2), 0.2, False))
"""Key, fill and back light: place, which they shine from to the middle; power; whether they cast shadows."""
_FLOOR = '<geom type="plane" size="30 30 2" rgba="0.62 0.62 0.62 1" condim="6" friction="0.05 0.01 0.01"/>'

FIELDS = {
    'frames': '[T, S, S, 3] RGB',
    'labels': '[T, S, S] 0 floor, i+1 thing i',
    'positions': '[T, K, 3] centres (m), NaN where there is no thing',
    'velocities': '[T, K, 3] of the centres (m/s), NaN where there is no thing',
    'shapes': '[K] 0 cube, 1 sphere, 2 cylinder, 255 no thing',
    'materials': '[K] 0 rubber, 1 metal, 255 no thing',
    'colours': '[K] index into gray, red, blue, green, brown, purple, cyan, yellow; 255 no thing',
    'sizes': '[K] radius, or half the height and edge (m); 0 where there is no thing',
    'collisions': '[T] whether two things touched each other since the frame before',
}
PRESETS: dict[str, dict[str, Any]] = {
    'clevr6': {'max_objects': 6, 'size': 96}, 'clevr10': {'max_objects': 10, 'size': 96},
    'clevrer': {'max_objects': 6, 'sizes': (0.4,), 'steps': 128, 'interval': 0.04, 'moving': 0.6}}


@dataclass(frozen=True)
class ClevrConfig:
    """What the scenes are like.

    Attributes:
        size: side of a frame (pixels), S.
        steps: frames in an episode; 1 for pictures.
        interval: time between two frames (s).
        min_objects, max_objects: things in a scene, drawn uniformly; K is the second.
        sizes: radii that there are (m); half an edge of a cube is 1 / sqrt 2 of it.
        moving: share of the things that slide in at random speed; the others stand until they are hit.
        speed: slowest and fastest of them (m/s).
        jitter: largest offset of the camera, and of the lights, along every axis (m).
        min_visible: least part of a frame that each thing covers in the first one.
        shadows: draw shadows.
    """

    size: int = 64
    steps: int = 1
    interval: float = 0.1
    min_objects: int = 3
    max_objects: int = 10
    sizes: tuple[float, ...] = (0.35, 0.7)
    moving: float = 0.0
    speed: tuple[float, float] = (1.5, 4.5)
    jitter: float = 0.5
    min_visible: float = 0.0025
    shadows: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (('size', 16, 1024), ('steps', 1, 10_000), ('interval', _TIMESTEP, 10.0),
                                ('moving', 0, 1), ('jitter', 0, 1), ('min_visible', 0, 0.02)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f'clevr: {name}', f'{low} to {high}', getattr(self, name))
        if not 1 <= self.min_objects <= self.max_objects <= MAX_OBJECTS:
            raise InputError('clevr: objects', f'1 <= min <= max <= {MAX_OBJECTS}',
                             (self.min_objects, self.max_objects))
        if not self.sizes or not all(0.1 <= s <= 1 for s in self.sizes):
            raise InputError('clevr: sizes', 'some radii of 0.1 to 1 m', self.sizes)
        if len(self.speed) != 2 or not 0 <= self.speed[0] <= self.speed[1] <= 10:
            raise InputError('clevr: speed', 'slowest and fastest, 0 to 10 m/s', self.speed)


@dataclass(frozen=True)
class Thing:
    """One thing: what it is, where it starts and how fast.

    Attributes:
        shape, material, colour: see `SHAPES`, `MATERIALS`, `COLOURS`.
        half: half its height (m).
        xy: start of its centre (m).
        yaw: (rad).
        velocity: start (m/s).
    """

    shape: str
    material: str
    colour: str
    half: float
    xy: tuple[float, float]
    yaw: float
    velocity: tuple[float, float] = (0.0, 0.0)


class ClevrWorld:
    """Things on a floor; starts as the scene `reset(0)` makes.

    Args:
        config: what the scenes are like.
    """

    def __init__(self, config: ClevrConfig | None = None) -> None:
        self.config = config or ClevrConfig()
        self.reset(0)

    def reset(self, seed: int | Sequence[int] | np.random.Generator) -> None:
        """A random scene in which everything can be seen; the same seed gives the same scene."""
        rng = np.random.default_rng(seed)
        n = int(rng.integers(self.config.min_objects, self.config.max_objects + 1))
        least = self.config.min_visible * self.config.size ** 2
        for _ in range(_TRIES):
            things = _sample_things(rng, n, self.config)
            self._put(things, _scene_xml(things, rng, self.config))
            if (np.bincount(self.render_labels().ravel(), minlength=n + 1)[1:n + 1] >= least).all():
                return
        raise InputError('clevr: scene', f'room for {n} things that can all be seen', f'none in {_TRIES} tries')

    def step(self) -> bool:
        """Let the time of one frame pass; returns whether two things touched each other."""
        touched = False
        for _ in range(max(1, round(self.config.interval / _TIMESTEP))):
            mujoco.mj_step(self._model, self._data)
            bodies = self._model.geom_bodyid[self._data.contact.geom]
            touched = touched or bool((bodies > 0).all(1).any())
        return touched

    def positions(self) -> NDArray[np.float64]:
        """Centres [N, 3] (m)."""
        return self._data.qpos.reshape(-1, 7)[:, :3].copy()

    def velocities(self) -> NDArray[np.float64]:
        """Velocities [N, 3] of the centres (m/s)."""
        return self._data.qvel.reshape(-1, 6)[:, :3].copy()

    def render(self) -> NDArray[np.uint8]:
        """Picture [S, S, 3], RGB."""
        return self._draw(labels=False)

    def render_labels(self) -> NDArray[np.uint8]:
        """Labels [S, S]: 0 floor, i+1 thing i."""
        return np.maximum(self._draw(labels=True)[..., 0], 1) - 1

    def _put(self, things: Sequence[Thing], xml: str) -> None:
        self.things = tuple(things)
        self._model = mujoco.MjModel.from_xml_string(xml)
        self._data, self._scene = mujoco.MjData(self._model), mujoco.MjvScene(self._model, maxgeom=2 * MAX_OBJECTS)
        self._data.qvel.reshape(-1, 6)[:, :2] = [thing.velocity for thing in things]

    def _draw(self, labels: bool) -> NDArray[np.uint8]:
        camera = mujoco.MjvCamera()
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mjv_updateScene(self._model, self._data, mujoco.MjvOption(), None, camera,
                               mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        for geom in self._scene.geoms[:self._scene.ngeom]:
            geom.segid = geom.objid  # the floor is geom 0
        picture = _offscreen(self.config.size).draw(self._scene, labels, self.config.shadows)
        return np.ascontiguousarray(picture[::-1])


@cache
def _offscreen(size: int) -> Offscreen:
    return Offscreen(mujoco.MjModel.from_xml_string(
        f'<mujoco>{_visual(size)}<worldbody>{_FLOOR}</worldbody></mujoco>'), size, size)


def _visual(size: int) -> str:
    return (f'<visual><global offwidth="{size}" offheight="{size}"/><quality offsamples="4" shadowsize="1024"/>'
            '<headlight ambient="0.28 0.28 0.28" diffuse="0.1 0.1 0.1" specular="0 0 0"/>'
            '<map znear="0.2" zfar="8"/></visual>')


def _sample_things(rng: np.random.Generator, n: int, config: ClevrConfig) -> list[Thing]:
    """`n` things that keep their distances; starts anew when there is no room for the next."""
    turn = np.array([[1, 1], [1, -1]]) / np.sqrt(2)  # x and y to right and front of the picture
    for _ in range(_TRIES):
        things: list[Thing] = []
        places, radii = np.zeros((0, 2)), np.zeros(0)
        while len(things) < n:
            shape, material = str(rng.choice(SHAPES)), str(rng.choice(MATERIALS))
            colour, radius = str(rng.choice(list(COLOURS))), float(rng.choice(config.sizes))
            slides = rng.random() < config.moving
            xy = rng.uniform(-BOUND, BOUND, (_PLACES, 2))
            if slides:  # from the outer parts inwards
                xy *= BOUND / np.abs(xy).max(1, keepdims=True)
            apart = xy[:, None] - places
            free = ((np.hypot(apart[..., 0], apart[..., 1]) >= radius + radii + GAP).all(1)
                    & (np.abs(apart @ turn) >= MARGIN).all((1, 2)))
            if not free.any():
                break
            x, y = xy[free.argmax()].tolist()
            towards = rng.uniform(-1, 1, 2) - (x, y)
            speed = rng.uniform(*config.speed) if slides else 0.0
            vx, vy = (towards / np.linalg.norm(towards) * speed).tolist()
            half = radius / np.sqrt(2) if shape == 'cube' else radius
            things.append(Thing(shape, material, colour, half, (x, y), rng.uniform(0, 2 * np.pi), (vx, vy)))
            places, radii = np.vstack([places, (x, y)]), np.append(radii, radius)
        else:
            return things
    raise InputError('clevr: scene', f'room for {n} things', f'none in {_TRIES} tries')


def _scene_xml(things: Sequence[Thing], rng: np.random.Generator, config: ClevrConfig) -> str:
    def moved(place: ArrayLike) -> str:
        return _words(np.asarray(place, float) + rng.uniform(-config.jitter, config.jitter, 3))
    geoms = {'cube': 'type="box" size="{0} {0} {0}"', 'sphere': 'type="sphere" size="{0}"',
             'cylinder': 'type="cylinder" size="{0} {0}"'}
    bodies = ''.join(
        f'<body pos="{_words([*t.xy, t.half])}" quat="{_words([np.cos(t.yaw / 2), 0, 0, np.sin(t.yaw / 2)])}">'
        f'<freejoint/><geom {geoms[t.shape].format(f"{t.half:.9g}")} material="{t.material}" condim="6" '
        f'friction="{_FRICTION[t.material]} 0.01 0.01" '
        f'rgba="{_words(np.array(COLOURS[t.colour]) / 255 * _DIFFUSE[t.material])} 1"/></body>' for t in things)
    materials = ''.join(f'<material name="{name}" {look}/>' for name, look in _LOOKS.items())
    lights = ''.join(
        f'<light pos="{moved(place)}" dir="{_words(-np.array(place))}" diffuse="{_words([power] * 3)}" '
        f'specular="{_words([power] * 3)}" castshadow="{str(shadow).lower()}" cutoff="60" exponent="0"/>'
        for place, power, shadow in _LIGHTS)
    return f"""
<mujoco>
  <compiler angle="radian"/>
  <option timestep="{_TIMESTEP}"/>
  {_visual(config.size)}
  <statistic extent="6" center="0 0 0"/>
  <asset>{materials}</asset>
  <worldbody>
    {_FLOOR}
    <body name="aim"/>
    <camera pos="{moved(CAMERA)}" mode="targetbody" target="aim" fovy="{FOVY_DEG}"/>
    {lights}{bodies}
  </worldbody>
</mujoco>"""


def _words(values: ArrayLike) -> str:
    return ' '.join(f'{v:.9g}' for v in np.ravel(np.asarray(values, float)))


def make_batch(config: ClevrConfig, seeds: Sequence[Sequence[int]]) -> dict[str, NDArray]:
    """Episodes with these seeds: field -> array [N, ...]; see `FIELDS`."""
    world = ClevrWorld(config)
    episodes = [_episode(world, np.random.default_rng(seed)) for seed in seeds]
    return {k: np.stack([e[k] for e in episodes]) for k in episodes[0]}


def _episode(world: ClevrWorld, rng: np.random.Generator) -> dict[str, NDArray]:
    config = world.config
    steps, most, side = config.steps, config.max_objects, config.size
    episode: dict[str, NDArray] = {
        'frames': np.empty((steps, side, side, 3), np.uint8), 'labels': np.empty((steps, side, side), np.uint8),
        'positions': np.full((steps, most, 3), np.nan, np.float32),
        'velocities': np.full((steps, most, 3), np.nan, np.float32),
        'shapes': np.full(most, 255, np.uint8), 'materials': np.full(most, 255, np.uint8),
        'colours': np.full(most, 255, np.uint8), 'sizes': np.zeros(most, np.float32),
        'collisions': np.zeros(steps, bool),
    }
    world.reset(rng)
    for i, thing in enumerate(world.things):
        episode['shapes'][i], episode['materials'][i] = SHAPES.index(thing.shape), MATERIALS.index(thing.material)
        episode['colours'][i], episode['sizes'][i] = list(COLOURS).index(thing.colour), thing.half
    for t in range(steps):
        if t:
            episode['collisions'][t] = world.step()
        n = len(world.things)
        episode['frames'][t], episode['labels'][t] = world.render(), world.render_labels()
        episode['positions'][t, :n], episode['velocities'][t, :n] = world.positions(), world.velocities()
    return episode


def meta(config: ClevrConfig) -> dict[str, Any]:
    """Facts for the episode file."""
    return {'generator': 'clevr', 'generator_version': GENERATOR_VERSION, 'action_format': 'none'}
