"""The tabletop scene as MuJoCo models: table, blocks, camera and a six-joint arm made of primitive shapes.

The world frame of MuJoCo is the `work_plane` frame: origin on the table surface, x right in the image, y away from the
camera, z up, metres. Two models describe one scene: the *full* one has the arm and is what is rendered and moved; the
*blocks-only* one is for fast physics when the arm stands still.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera

MAX_BLOCKS = 5
JOINT_NAMES = ['base_yaw', 'shoulder', 'elbow', 'forearm_roll', 'wrist', 'tool_yaw', 'finger_left', 'finger_right']
HOME_JOINTS = (1.45, -0.75, 2.3, 0.0, np.pi - 1.55, 1.45)
"""Arm joints at home (rad): folded back beside the table, outside of the square crop."""
BASE_XY = (-0.56, 0.0)
"""Foot of the arm on the table (m)."""
UPPER_ARM, FOREARM, SHOULDER_HEIGHT = 0.43, 0.43, 0.30
PALM_FACE = 0.118
"""Distance of the palm's touching face from the wrist (m)."""
FINGER_LENGTH, FINGER_OPEN = 0.048, 0.058
"""Length of the fingers below the palm, and distance of each finger's inner face from the middle when open (m)."""
FINGER_THICKNESS, FINGER_WIDTH = 0.008, 0.036


@dataclass(frozen=True)
class TabletopConfig:
    """What the tabletop looks like and how finely it is simulated.

    Attributes:
        block_half_size: half the edge of a cube (m).
        workspace: block centres stay within |x|, |y| <= this (m).
        camera_position, camera_target: camera centre and the point it looks at, in work_plane (m).
        fovy_deg: vertical field of view of the camera (degrees).
        width, height: native size of the camera image (pixels).
        table_rgb, arm_rgb: colours in [0, 1].
        n_hues: number of well-separated block hues; no two blocks of a scene share one.
        shadows: render shadows (slow on a CPU).
        samples: multisampling of the renderer (0 is off).
        timestep: physics step (s).
    """

    block_half_size: float = 0.03
    workspace: float = 0.17
    camera_position: tuple[float, float, float] = (0.0, -0.88, 1.0)
    camera_target: tuple[float, float, float] = (0.0, 0.0, 0.045)
    fovy_deg: float = 23.0
    width: int = 640
    height: int = 480
    table_rgb: tuple[float, float, float] = (0.52, 0.52, 0.52)
    arm_rgb: tuple[float, float, float] = (0.20, 0.20, 0.23)
    n_hues: int = 8
    shadows: bool = False
    samples: int = 4
    timestep: float = 0.004

    def __post_init__(self) -> None:
        for name, low, high in (('block_half_size', 0.01, 0.05), ('workspace', 0.05, 0.25), ('fovy_deg', 1, 120),
                                ('timestep', 1e-4, 0.01), ('n_hues', MAX_BLOCKS, 24)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f'tabletop: {name}', f'{low} to {high}', value)

    def camera(self) -> PinholeCamera:
        """The calibrated camera at its native size."""
        return PinholeCamera.looking_at(self.camera_position, self.camera_target, self.fovy_deg, self.width,
                                        self.height)


def sample_colours(rng: np.random.Generator, n: int, n_hues: int = 8) -> NDArray[np.float64]:
    """Colours of `n` blocks, RGB [n, 3] in [0, 1]: different hues out of `n_hues`, each with a small jitter."""
    degrees = np.array([0, 30, 57, 115, 180, 222, 272, 318]) if n_hues == 8 else np.arange(n_hues) * 360 / n_hues
    hues = rng.permutation(degrees)[:n] + rng.uniform(-5, 5, n)
    saturation, value = rng.uniform(0.85, 1.0, n), rng.uniform(0.85, 1.0, n)
    return np.array([colorsys.hsv_to_rgb(h / 360 % 1, s, v) for h, s, v in zip(hues, saturation, value, strict=True)])


def build_model(config: TabletopConfig, n_blocks: int, arm: bool) -> mujoco.MjModel:
    """Compile the scene with `n_blocks` blocks; with the arm, or with table and blocks alone."""
    if not 1 <= n_blocks <= MAX_BLOCKS:
        raise InputError('number of blocks', f'1 to {MAX_BLOCKS}', n_blocks)
    return mujoco.MjModel.from_xml_string(_scene_xml(config, n_blocks, arm))


def build_arm_model(config: TabletopConfig) -> mujoco.MjModel:
    """Compile the arm without blocks, for kinematics."""
    return mujoco.MjModel.from_xml_string(_scene_xml(config, 0, True))


def _numbers(values: object) -> str:
    return ' '.join(f'{v:.9g}' for v in np.ravel(np.asarray(values, float)))


def _scene_xml(config: TabletopConfig, n_blocks: int, arm: bool) -> str:
    camera = config.camera()
    axes = _numbers([camera.rotation[:, 0], -camera.rotation[:, 1]])
    h = config.block_half_size
    blocks = ''.join(
        f'<body name="block{i}" pos="{i} 3 {h}"><freejoint name="block{i}"/>'
        f'<geom name="block{i}" type="box" size="{h} {h} {h}" density="500" contype="1" conaffinity="3" '
        f'friction="0.8 0.005 0.0001"/></body>' for i in range(n_blocks))
    welds = ''.join(f'<weld name="hold{i}" body1="hand" body2="block{i}" active="false" solref="0.01 1"/>'
                    for i in range(n_blocks)) if arm else ''
    couple = '<joint joint1="finger_left" joint2="finger_right" polycoef="0 1 0 0 0"/>' if arm else ''
    return f"""
<mujoco model="tabletop">
  <compiler angle="radian"/>
  <option timestep="{config.timestep}" integrator="implicitfast" cone="elliptic" impratio="5"/>
  <visual>
    <global offwidth="{config.width}" offheight="{config.height}"/>
    <quality offsamples="{config.samples}" shadowsize="1024"/>
    <headlight ambient="0.5 0.5 0.5" diffuse="0 0 0" specular="0 0 0"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <statistic extent="1" center="0 0 0"/>
  <default><geom solref="0.01 1"/></default>
  <worldbody>
    <light directional="true" dir="0.35 0.45 -1" diffuse="0.56 0.56 0.56" specular="0 0 0" ambient="0 0 0"
      castshadow="{str(config.shadows).lower()}"/>
    <camera name="camera" pos="{_numbers(config.camera_position)}" xyaxes="{axes}" fovy="{config.fovy_deg}"/>
    <geom name="table" type="plane" size="3 3 0.1" rgba="{_numbers(config.table_rgb)} 1" contype="1" conaffinity="3"
      friction="0.8 0.005 0.0001"/>
    {blocks}{_arm_xml(config) if arm else ''}
  </worldbody>
  <equality>{welds}{couple}</equality>
  {_actuators_xml() if arm else ''}
</mujoco>"""


def _arm_xml(config: TabletopConfig) -> str:
    """Six joints, base at the left of the table; at zero all links point straight up."""
    rgba = f'rgba="{_numbers(config.arm_rgb)} 1"'
    see = f'{rgba} contype="0" conaffinity="0" group="1" density="300"'
    touch = f'{rgba} contype="2" conaffinity="1" group="1" density="300"'
    joint = 'armature="0.1" damping="2"'
    tip, half = PALM_FACE + FINGER_LENGTH / 2, FINGER_LENGTH / 2
    fingers = ''.join(
        f'<body name="finger_{name}" pos="{sign * (FINGER_OPEN + FINGER_THICKNESS / 2)} 0 0" gravcomp="1">'
        f'<joint name="finger_{name}" type="slide" axis="{-sign} 0 0" range="0 {FINGER_OPEN - 0.001}" damping="10" '
        f'armature="0.05"/>'
        f'<geom name="finger_{name}" type="box" size="{FINGER_THICKNESS / 2} {FINGER_WIDTH / 2} {half}" '
        f'pos="0 0 {tip}" priority="1" friction="0.05 0.001 0.0001" {touch}/></body>'
        for name, sign in (('left', -1), ('right', 1)))
    return f"""
<body name="base" pos="{_numbers(BASE_XY)} 0" gravcomp="1">
  <geom type="cylinder" size="0.075 0.03" pos="0 0 0.03" {see}/>
  <body name="turret" gravcomp="1">
    <joint name="base_yaw" axis="0 0 1" range="-3.1 3.1" {joint}/>
    <geom type="cylinder" size="0.055 0.12" pos="0 0 0.18" {see}/>
    <body name="upper_arm" pos="0 0 {SHOULDER_HEIGHT}" gravcomp="1">
      <joint name="shoulder" axis="0 1 0" range="-1.6 1.9" {joint}/>
      <geom type="cylinder" size="0.06 0.06" euler="1.5708 0 0" {see}/>
      <geom type="capsule" size="0.04" fromto="0 0 0 0 0 {UPPER_ARM}" {see}/>
      <body name="forearm" pos="0 0 {UPPER_ARM}" gravcomp="1">
        <joint name="elbow" axis="0 1 0" range="0.1 2.7" {joint}/>
        <geom type="cylinder" size="0.05 0.055" euler="1.5708 0 0" {see}/>
        <body name="forearm_roll" gravcomp="1">
          <joint name="forearm_roll" axis="0 0 1" range="-2.9 2.9" {joint}/>
          <geom type="capsule" size="0.033" fromto="0 0 0 0 0 {FOREARM}" {see}/>
          <body name="wrist" pos="0 0 {FOREARM}" gravcomp="1">
            <joint name="wrist" axis="0 1 0" range="-2.2 2.4" {joint}/>
            <geom type="cylinder" size="0.036 0.04" euler="1.5708 0 0" {see}/>
            <body name="hand" gravcomp="1">
              <joint name="tool_yaw" axis="0 0 1" range="-6 6" {joint}/>
              <geom type="cylinder" size="0.028 0.04" pos="0 0 0.06" {see}/>
              <geom name="palm" type="box" size="{FINGER_OPEN + FINGER_THICKNESS} {FINGER_WIDTH / 2} 0.009"
                pos="0 0 {PALM_FACE - 0.009}" {touch}/>
              <site name="palm" pos="0 0 {PALM_FACE}" size="0.005" group="5"/>
              {fingers}
            </body>
          </body>
        </body>
      </body>
    </body>
  </body>
</body>"""


def _actuators_xml() -> str:
    arm = ''.join(f'<position name="{n}" joint="{n}" kp="{kp}" dampratio="1"/>'
                  for n, kp in zip(JOINT_NAMES[:6], (3000, 3000, 3000, 1000, 1000, 1000), strict=True))
    fingers = ''.join(f'<position name="{n}" joint="{n}" kp="400" forcerange="-15 15"/>' for n in JOINT_NAMES[6:])
    return f'<actuator>{arm}{fingers}</actuator>'


def top_down_joints(xy: object, palm_height: float, closing_yaw: float) -> NDArray[np.float64]:
    """Closed-form arm joints [6] (rad) with the palm over `xy` [2] at `palm_height` (m), looking straight down.

    Args:
        closing_yaw: direction along which the fingers close (rad from x).
    """
    x, y = np.asarray(xy, float) - BASE_XY
    rise, reach = palm_height + PALM_FACE - SHOULDER_HEIGHT, float(np.hypot(x, y))
    bend = (reach ** 2 + rise ** 2 - UPPER_ARM ** 2 - FOREARM ** 2) / (2 * UPPER_ARM * FOREARM)
    if abs(bend) >= 1:
        raise InputError('point for the hand', 'within reach of the arm', (xy, palm_height))
    yaw, elbow = np.arctan2(y, x), np.arccos(bend)
    shoulder = np.arctan2(reach, rise) - np.arctan2(FOREARM * np.sin(elbow), UPPER_ARM + FOREARM * np.cos(elbow))
    return np.array([yaw, shoulder, elbow, 0.0, np.pi - shoulder - elbow, yaw - closing_yaw])
