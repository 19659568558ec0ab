"""Parameters of entity_perception, and the tracker that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.nodes import transport
from object_centric_ros.nodes.managed import ManagedSettings
from object_centric_ros.nodes.parameters import parameter
from object_centric_ros.tracking.entities import PickPlace, TrackedFrame


class Tracker(Protocol):
    """What the node needs of an EntityTracker."""

    camera: PinholeCamera
    model_id: str

    def step(self, image: NDArray[np.uint8], action: PickPlace | None = None, stamp: float = 0.0,
             robot_moving: bool = False) -> TrackedFrame:
        """Take one frame."""

    def predicted(self, action: PickPlace | None = None) -> NDArray[np.uint8] | None:
        """What the next image should show."""

    def reconsider(self) -> None:
        """The scene may have changed unseen."""

    def shift_clock(self, seconds: float) -> None:
        """The clock was set."""

    def state_dict(self) -> dict[str, Any]:
        """A snapshot, empty if there is nothing to keep."""

    def reset(self) -> None:
        """Forget everything."""


@dataclass(frozen=True)
class PerceptionSettings(ManagedSettings):
    """Parameters of the node."""

    checkpoint: str = parameter('', 'model file (.safetensors); empty: the weights that the package ships')
    device: str = parameter('auto', 'where the model runs: auto, cpu, cuda or cuda:N')
    threads: int = parameter(0, 'CPU threads of the model; 0: OMP_NUM_THREADS, else a third of the cores', 0, 256)
    precision: str = parameter('float32', 'of the model; bfloat16 is faster where the processor multiplies it',
                               choices=('float32', 'bfloat16'))
    seed: int = parameter(0, 'seed of the first guess', 0, 2**31 - 1)
    work_frame: str = parameter('work_plane', 'frame of positions: origin on the table, x right, y away, z up')
    camera_position: tuple[float, ...] = parameter(
        (), 'camera centre x, y, z in work_frame, metres; empty: as the model was trained', -100, 100, lengths=(0, 3))
    camera_orientation: tuple[float, ...] = parameter(
        (), 'optical frame to work_frame, quaternion x, y, z, w or matrix by rows; empty: as the model was trained',
        -1, 1, lengths=(0, 4, 9))
    camera_pose: str = parameter(
        'parameters', 'where the pose of the camera comes from: the two parameters above, or tf, from the frame_id of '
        'the images to work_frame, as it is at the first image', choices=('parameters', 'tf'))
    image_transport: str = parameter('raw', 'raw: topic image; compressed: topic image/compressed, JPEG or PNG',
                                     choices=('raw', 'compressed'))
    rectified: str = parameter('auto', 'whether images are free of distortion already; otherwise it is taken out as '
                               'camera_info says; auto: yes if the topic is named image_rect or the like',
                               choices=('auto', 'yes', 'no'))
    crop: tuple[int, ...] = parameter(
        (), 'left, top, width, height (pixels) of the part of the image, free of distortion, that counts; empty: all',
        0, 8192, lengths=(0, 4))
    letterbox: bool = parameter(
        False, 'show all of what counts to the model, with black bars, not only its middle square')
    camera_info_wait: float = parameter(
        2.0, 'seconds to wait for camera_info after the first image before the camera of the model is assumed', 0, 3600,
        change='live')
    retire_after: float = parameter(
        10.0, 'seconds that an entity may stay unseen before its id is given up', 0.1, 86400)
    object_height: float = parameter(
        0.03, 'height of an object centre above what it stands on, metres; objects are taken to be twice that wide',
        0.001, 1)
    max_rate: float = parameter(0.0, 'most images a second to be processed; 0: as many as come', 0, 1000, change='live')
    motion_threshold: float = parameter(0.02, 'a joint faster than this moves, rad/s or m/s', 0, 10)
    motion_settle_time: float = parameter(0.5, 'seconds that the robot counts as moving after its last motion', 0, 60)
    label_image_size: str = parameter('model', 'size of label_image', choices=('model', 'input'), change='live')
    publish_detections: bool = parameter(
        False, 'publish visible entities as vision_msgs/Detection2DArray on detections too, where vision_msgs is '
        'installed')
    publish_overlay: bool = parameter(
        True, 'draw and publish overlay and markers while someone subscribes', change='live')
    overlay_rate: float = parameter(5.0, 'most overlays and markers a second', 0.1, 100, change='live')
    overlay_width: int = parameter(320, 'width of overlay, pixels', 32, 8192, change='live')
    max_image_age: float = parameter(
        2.0, 'an image older than this, seconds, is dropped; 0: none; stamps that are off by more than a minute are '
        'taken to be of another clock', 0, 60, change='live')
    latency_warn: float = parameter(
        0.2, 'latency from stamp to entities, seconds, above which diagnostics warn', 0.001, 60, change='live')
    latency_error: float = parameter(1.0, 'and above which they show an error', 0.001, 60, change='live')
    drop_warn: float = parameter(
        0.7, 'share of images replaced by newer ones above which diagnostics warn', 0, 1, change='live')
    drop_error: float = parameter(0.95, 'and above which they show an error', 0, 1, change='live')
    state_file: str = parameter(
        '', 'file (.safetensors) in which beliefs and ids outlive the process; empty: they outlive deactivation only')
    state_interval: float = parameter(2.0, 'seconds between two writings of state_file', 0.1, 3600, change='live')
    state_max_age: float = parameter(
        600.0, 'state that is older, seconds, is not used', 0, 1e6, change='live')
    image_timeout: float = parameter(
        2.0, 'seconds without an image after which diagnostics complain', 0.1, 3600, change='live')


TrackerFactory = Callable[[PerceptionSettings, PinholeCamera | None], Tracker]


def make_tracker(settings: PerceptionSettings, camera: PinholeCamera | None) -> Tracker:
    """The learned tracker of the package; imports torch."""
    from object_centric_ros.tracking.settings import TrackerConfig
    from object_centric_ros.tracking.tracker import EntityTracker
    config = TrackerConfig(retire_after=settings.retire_after, object_height=settings.object_height)
    return EntityTracker.load(settings.checkpoint or None, camera=camera, config=config, device=settings.device,
                              threads=transport.threads_for(settings.threads), seed=settings.seed,
                              precision=settings.precision)
