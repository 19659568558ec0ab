"""ROS 2 bags (sqlite3 or MCAP) -> episodes, without ROS: images, joint states and executed pick-and-places.

Times are those in the messages' headers, so that all topics have to be stamped by clocks that agree; a message without
a stamp has the time at which it was recorded. Images are gone through twice: first their stamps are read, then the
images that are wanted are decoded.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from object_centric_ros.datasets.bag_reader import (
    ACTION,
    COMPRESSED,
    IMAGE,
    INFO,
    JOINTS,
    camera_info,
    decode_image,
    find_topic,
    header_stamp,
    open_bag,
    read_message,
    readable,
)
from object_centric_ros.datasets.episodes import Arrays
from object_centric_ros.datasets.sources import Source, View, windows
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Lens, PinholeCamera, Preparation, named_rectified

GAP = 2.5
"""Intervals between images longer than this many usual ones are gaps."""


@dataclass(frozen=True)
class BagOptions:
    """How a bag becomes episodes.

    Attributes:
        images, joints, actions: topics; empty: the one that there is (of several images, the one named ``image``).
        steps: frames in an episode.
        rate: frames a second, without actions; None: one frame between each two executed actions.
        settle: after an action ends, images are taken from this time on (s).
        pause: longest time from the end of an action to the start of the next one in an episode (s).
    """

    images: str = ''
    joints: str = ''
    actions: str = ''
    steps: int = 5
    rate: float | None = None
    settle: float = 0.3
    pause: float = 60.0

    def __post_init__(self) -> None:
        if self.steps < 1 or (self.rate is None and self.steps < 2):
            raise InputError('bag: steps', 'at least 1, or 2 with actions', self.steps)
        if self.rate is not None and self.rate <= 0:
            raise InputError('bag: rate', 'more than 0 Hz', self.rate)


@dataclass
class Recording:
    """What a bag holds, but for the images; all times in nanoseconds, in order.

    Attributes:
        stamps: of the images [n].
        joint_stamps, joint_positions: [m], [m, J]; joint_names: J.
        actions: (started, finished, [4] pick x, y and place x, y, success).
        info: width, height and k of the camera, if the bag says it; k is that of the images without distortion.
        lens: distortion of the images as they were recorded; None for none.
    """

    stamps: NDArray[np.int64]
    joint_stamps: NDArray[np.int64]
    joint_positions: NDArray[np.float64]
    joint_names: list[str] = field(default_factory=list)
    actions: list[tuple[int, int, NDArray[np.float32], bool]] = field(default_factory=list)
    action_frame: str = ''
    info: dict[str, Any] | None = None
    lens: Lens | None = None


def bag(path: str | os.PathLike[str], options: BagOptions | None = None, view: View | None = None,
        pose: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None) -> Source:
    """Episodes of a bag.

    With actions: the frame before an action is the last one before the arm started, that after the last action of an
    episode the first one after it had ended and settled. With a rate: the frames nearest to times at that rate;
    recordings are cut at gaps.

    Args:
        path: the bag's folder, or its one file.
        options: which topics, and how they are cut.
        view: what is kept of the images.
        pose: rotation [3, 3] (optical frame to work_plane) and position [3] (m) of the camera, for the metadata.
    """
    folder, options, view = Path(path), options or BagOptions(), view or View()
    with open_bag(folder) as reader, readable(folder):
        topic = find_topic(reader, options.images, (IMAGE, COMPRESSED), folder, needed=True)
        assert topic is not None
        recording = _scan(reader, topic, options, folder)
    notes = _gaps(recording)
    by_actions = options.rate is None
    if by_actions and not recording.actions:
        raise InputError(f'{folder}', f'executed actions ({ACTION}), or a rate in Hz', 'neither')
    chains = (_between_actions(recording, options, notes) if by_actions else
              _at_rate(recording, options.rate or 0.0, notes))
    meta: dict[str, Any] = {'generator': 'bag', 'source': folder.name, 'image_topic': topic.topic,
                            'action_format': 'pick_place_xy' if by_actions else 'none',
                            'options': dataclasses.asdict(options)}
    if recording.joint_names:
        meta['joint_names'] = recording.joint_names
    if by_actions:
        meta['action_frame'] = recording.action_frame
    if recording.info is not None:
        meta['camera_info'] = recording.info
        if pose is not None:
            meta['camera'] = _camera(recording.info, pose, view).to_dict()
    elif pose is not None:
        raise InputError(f'{folder}', f'camera_info ({INFO}), to go with the pose', 'none')
    return Source(meta, _episodes(folder, topic.topic, recording, chains, options, view), notes)


def transitions(path: str | os.PathLike[str], options: BagOptions | None = None) -> list[bool]:
    """Success of each executed action of a bag that has an image before it and one after: what episodes are made of."""
    folder, options = Path(path), options or BagOptions()
    with open_bag(folder) as reader, readable(folder):
        topic = find_topic(reader, options.images, (IMAGE, COMPRESSED), folder, needed=True)
        assert topic is not None
        recording = _scan(reader, topic, options, folder)
    return [recording.actions[k][-1] for _, done in _between_actions(recording, options, []) for k in done]


# ---- reading --------------------------------------------------------------------------------------------------------

def _scan(reader: AnyReader, images: Connection, options: BagOptions, folder: Path) -> Recording:
    joints = find_topic(reader, options.joints, (JOINTS,), folder)
    actions = None if options.rate else find_topic(reader, options.actions, (ACTION,), folder)
    info = next((c for c in reader.connections if c.msgtype == INFO and
                 c.topic.rpartition('/')[0] == images.topic.rpartition('/')[0]), None)
    wanted = [c for c in (images, joints, actions, info) if c is not None]
    stamps: list[int] = []
    moved: list[tuple[int, list[str], NDArray]] = []
    found = Recording(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 0)))
    for connection, recorded, data in reader.messages(wanted):
        stamp = header_stamp(data, recorded)
        if connection is images:
            stamps.append(stamp)
            continue
        if connection is info and found.info is not None:
            continue
        message = read_message(reader, data, connection.msgtype)
        if connection is joints:
            moved.append((stamp, list(message.name), np.asarray(message.position, float)))
        elif connection is actions:
            xy = np.array([message.pick.x, message.pick.y, message.place.x, message.place.y], np.float32)
            times = [t.sec * 1_000_000_000 + t.nanosec for t in (message.started, message.finished)]
            found.actions.append((times[0], times[1], xy, bool(message.success)))
            found.action_frame = message.header.frame_id
        else:
            found.info, found.lens = camera_info(message, named_rectified(images.topic))
    if not stamps:
        raise InputError(f'{folder}: {images.topic}', 'images', 'none')
    found.stamps = np.unique(np.array(stamps, np.int64))
    found.actions.sort(key=lambda action: action[:2])
    if moved:
        found.joint_names = moved[0][1]
        same = sorted(((stamp, position) for stamp, names, position in moved
                       if names == found.joint_names and len(position) == len(names)), key=lambda row: row[0])
        found.joint_stamps = np.array([row[0] for row in same], np.int64)
        found.joint_positions = np.array([row[1] for row in same]).reshape(len(same), len(found.joint_names))
    return found


# ---- which frames ---------------------------------------------------------------------------------------------------

Chain = tuple[list[int], list[int]]
"""Indices of the images, and of the actions between them (none where frames are taken at a rate)."""


def _gaps(recording: Recording) -> list[str]:
    """Where images are missing."""
    stamps = recording.stamps
    if len(stamps) < 3:
        return [f'{len(stamps)} images']
    between = np.diff(stamps) / 1e9
    usual = float(np.median(between))
    notes = [f'{len(stamps)} images in {(stamps[-1] - stamps[0]) / 1e9:.1f} s, {1 / usual:.1f} Hz']
    notes += [f'gap of {between[i]:.2f} s at {(stamps[i] - stamps[0]) / 1e9:.2f} s'
              for i in np.flatnonzero(between > GAP * usual)]
    return notes


def _at_rate(recording: Recording, rate: float, notes: list[str]) -> list[Chain]:
    """Images nearest to a grid of times, for each stretch without gaps."""
    stamps = recording.stamps
    between = np.diff(stamps)
    usual = float(np.median(between)) if len(between) else 1e9
    if rate * usual > 1.5e9:
        notes.append(f'{rate} Hz is more than the {1e9 / usual:.1f} Hz of the camera: frames are repeated')
    chains: list[Chain] = []
    for part in np.split(np.arange(len(stamps)), np.flatnonzero(between > GAP * usual) + 1):
        times = np.arange(stamps[part[0]], stamps[part[-1]] + 1, 1e9 / rate)
        after = np.clip(np.searchsorted(stamps[part], times), 1, max(len(part) - 1, 1))
        after = np.minimum(after, len(part) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.where(times - stamps[part][before] <= stamps[part][after] - times, before, after)
        chains.append((part[nearer].tolist(), []))
    return chains


def _between_actions(recording: Recording, options: BagOptions, notes: list[str]) -> list[Chain]:
    """One image before each action and one after the last, for each stretch of actions."""
    stamps, settle = recording.stamps, int(options.settle * 1e9)
    chains: list[Chain] = []
    free = 0  # the first time at which the scene is at rest
    for k, (started, finished, _, _) in enumerate(recording.actions):
        image = int(np.searchsorted(stamps, started, 'right')) - 1
        seen = image >= 0 and stamps[image] >= free
        follows = bool(chains) and started - free <= options.pause * 1e9
        if not seen:
            notes.append(f'action {k}: no image between it and the one before')
        if not (seen and follows):
            _end(chains, recording, settle, notes)
            chains.append(([image] if seen else [], [k] if seen else []))
        else:
            chains[-1][0].append(image)
            chains[-1][1].append(k)
        free = finished + settle
    _end(chains, recording, settle, notes)
    return [chain for chain in chains if chain[1]]


def _end(chains: list[Chain], recording: Recording, settle: int, notes: list[str]) -> None:
    """Add the image after the last action of the last chain, or drop that action."""
    if not chains or not chains[-1][1]:
        return
    images, actions = chains[-1]
    last = actions[-1]
    image = int(np.searchsorted(recording.stamps, recording.actions[last][1] + settle))
    later = [started for started, *_ in recording.actions[last + 1:last + 2]]
    if image < len(recording.stamps) and (not later or recording.stamps[image] <= later[0]):
        images.append(image)
    else:
        actions.pop()
        notes.append(f'action {last}: no image after it')


def _episodes(folder: Path, topic: str, recording: Recording, chains: list[Chain], options: BagOptions, view: View
              ) -> Iterator[Arrays]:
    """Cut the chains into episodes, decode their images and add what belongs to them."""
    plans: list[Chain] = []
    for images, actions in chains:
        if actions:  # neighbours share the frame between them
            for start in range(0, len(images) - options.steps + 1, options.steps - 1):
                plans.append((images[start:start + options.steps], actions[start:start + options.steps - 1]))
        else:
            plans += [(images[part.start:part.stop], []) for part in windows(len(images), options.steps)]
    left = {int(recording.stamps[i]): i for images, _ in plans for i in images}
    uses = np.bincount([i for images, _ in plans for i in images], minlength=len(recording.stamps))
    pictures: dict[int, NDArray[np.uint8]] = {}
    straight = None if recording.lens is None else Preparation(
        _camera(recording.info or {}, (np.eye(3), np.zeros(3)), View()), recording.lens)
    with open_bag(folder) as reader, readable(folder):
        connection = next(c for c in reader.connections if c.topic == topic)
        ready = 0
        for _, recorded, data in reader.messages([connection]):
            index = left.pop(header_stamp(data, recorded), None)
            if index is None:
                continue
            try:
                picture = decode_image(read_message(reader, data, connection.msgtype))
                pictures[index] = view.image(picture if straight is None else straight(picture))
            except InputError as e:
                raise InputError(f'{folder}: {topic}: {e.what}', e.expected, e.got) from e
            while ready < len(plans) and all(i in pictures for i in plans[ready][0]):
                yield _episode(*plans[ready], pictures, recording)
                for i in plans[ready][0]:
                    uses[i] -= 1
                    if not uses[i]:
                        del pictures[i]
                ready += 1
            if not left:
                return


def _episode(images: list[int], actions: list[int], pictures: dict[int, NDArray[np.uint8]], recording: Recording
             ) -> Arrays:
    stamps = recording.stamps[images]
    episode: Arrays = {'frames': np.stack([pictures[i] for i in images]), 'stamps': stamps / 1e9}
    if actions:
        done = [recording.actions[k] for k in actions]
        episode['actions'] = np.stack([xy for _, _, xy, _ in done])
        episode['success'] = np.array([success for *_, success in done], bool)
    if recording.joint_names:
        episode['joints'] = joints_at(recording, stamps)
    return episode


def joints_at(recording: Recording, stamps: NDArray[np.int64]) -> NDArray[np.float32]:
    """Joint positions [T, J] at these times (ns), between the nearest two messages; NaN in gaps and outside."""
    times, values = recording.joint_stamps, recording.joint_positions
    out = np.full((len(stamps), len(recording.joint_names)), np.nan, np.float32)
    if len(times) < 2:
        return out
    usual = max(float(np.median(np.diff(times))), 1.0)
    after = np.clip(np.searchsorted(times, stamps), 1, len(times) - 1)
    near = (stamps >= times[0]) & (stamps <= times[-1]) & (times[after] - times[after - 1] <= GAP * usual)
    then, known = (stamps[near] - times[0]).astype(float), (times - times[0]).astype(float)
    for j in range(values.shape[1]):
        out[near, j] = np.interp(then, known, values[:, j])
    return out


def _camera(info: dict[str, Any], pose: tuple[NDArray[np.float64], NDArray[np.float64]], view: View) -> PinholeCamera:
    """The camera of the (cropped) images."""
    k = info['k']
    # camera_info has pixel centres at integers, PinholeCamera at integer + 0.5
    camera = PinholeCamera(info['width'], info['height'], k[0], k[4], k[2] + 0.5, k[5] + 0.5, *pose)
    if view.crop is None:
        return camera
    left, top, width, height = view.crop
    return dataclasses.replace(camera, width=width, height=height, cx=camera.cx - left, cy=camera.cy - top)


