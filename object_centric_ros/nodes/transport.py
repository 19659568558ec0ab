"""The process around a node: DDS transport for images, threads beside busy neighbours.

Call `prepare` before rclpy, torch or mujoco are imported for the first time: their libraries read the environment once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path

from object_centric_ros.config import find_config

PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')  # Fast DDS 2 (Jazzy), 3
FAST_DDS = ('', 'rmw_fastrtps_cpp', 'rmw_fastrtps_dynamic_cpp')


def transport_is_chosen() -> bool:
    """Whether the user has chosen a transport, a profile or another DDS: then it is left alone."""
    return (any(os.environ.get(name) for name in (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS'))
            or os.environ.get('RMW_IMPLEMENTATION', '') not in FAST_DDS
            or Path('DEFAULT_FASTRTPS_PROFILES.xml').exists())


def remove_dead_segments(folder: Path = Path('/dev/shm'), older_than: float = 60.0) -> int:
    """Remove Fast DDS's shared memory of processes that were killed; returns how many segments that were.

    The owner of a segment holds a lock on a file beside it for as long as it lives.
    """
    removed = 0
    for lock in folder.glob('fastrtps_*_el'):
        if 'port' in lock.name:
            continue
        with contextlib.suppress(OSError), lock.open() as held:
            if time.time() - lock.stat().st_mtime > older_than and os.access(lock, os.W_OK):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.with_name(lock.name.removesuffix('_el')).unlink()
                lock.unlink()
                removed += 1
    return removed


def prepare() -> None:
    """Environment of a process that runs a node or talks to nodes; what the user has set stays as it is.

    Images of 640x480 do not fit into Fast DDS's default shared memory (512 KiB), and nearly every one that is sent best
    effort is lost: the packaged profile makes it 32 MiB. Profiled and default participants do reach each other; images
    from a best-effort publisher that runs without the profile may still get lost on its side.
    """
    profile = find_config('fastdds.xml')
    if profile and not transport_is_chosen():
        for name in PROFILE_VARIABLES:
            os.environ[name] = str(profile)
        remove_dead_segments()
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # spinning threads of several processes starve each other
    os.environ.setdefault('MUJOCO_GL', 'egl')
    if not os.environ.get('HOME') and not os.environ.get('ROS_LOG_DIR'):  # rclpy does not start with neither set
        os.environ['ROS_LOG_DIR'] = tempfile.mkdtemp(prefix='object_centric_ros_log_')


def threads_for(requested: int) -> int:
    """Number of compute threads: `requested`, or for 0 what OMP_NUM_THREADS says, or a third of the cores, 1 to 4.

    A third, because simulator or driver, perception and planner are busy at the same time.
    """
    if requested > 0:
        return requested
    wanted = os.environ.get('OMP_NUM_THREADS', '')
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return max(1, min(4, len(os.sched_getaffinity(0)) // 3))
