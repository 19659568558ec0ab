"""Files that ship with the package, and the process environment that its nodes need."""

from __future__ import annotations

import os
from pathlib import Path

from object_centric_ros.errors import InputError

PACKAGE = Path(__file__).resolve().parent


def share_file(relative: str) -> Path:
    """A file of config/ or launch/, e.g. ``config/fastdds.xml``, from the checkout or from where it was installed."""
    places = [PACKAGE.parent, *(parent / 'share' / 'object_centric_ros' for parent in PACKAGE.parents)]
    for place in places:
        if (place / relative).exists():
            return place / relative
    raise InputError('package file', f'{relative} under one of {places[0]}, {places[1].parent.parent}', 'none')


def node_environment() -> dict[str, str]:
    """Variables for every process that exchanges images, less those that the user has set.

    Fast DDS drops best-effort images that are larger than its default shared-memory segment (512 KiB): the profile
    makes it 32 MiB. Threads that wait actively starve the other processes on few cores: they are told not to.
    """
    profile = str(share_file('config/fastdds.xml'))
    wanted = {
        'FASTRTPS_DEFAULT_PROFILES_FILE': profile,  # Fast DDS 2: Jazzy
        'FASTDDS_DEFAULT_PROFILES_FILE': profile,  # Fast DDS 3: Kilted and later
        'OMP_WAIT_POLICY': 'PASSIVE',
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}
