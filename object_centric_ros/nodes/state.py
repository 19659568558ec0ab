"""The state of perception in a file: safetensors with JSON in its header, written so that it is whole or not there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera

FORMAT = 'object_centric_ros/state/1'
LARGEST = 64 * 2**20
"""Bytes that a file of state may have."""


def save_state(path: Path, state: dict[str, Any], session: int, camera: PinholeCamera) -> None:
    """Write a tracker's `state_dict` with what is needed to use it again.

    Raises:
        InputError: the file cannot be written.
    """
    arrays = {k: np.ascontiguousarray(v) for k, v in state.items() if not isinstance(v, str)}
    words = {k: v for k, v in state.items() if isinstance(v, str)}
    header = {'format': FORMAT, 'words': json.dumps(words), 'session': str(session), 'saved': repr(time.time()),
              'camera': json.dumps(camera.to_dict())}
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, partial, header)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise InputError('state_file', 'a file that can be written', error) from error


def load_state(path: Path) -> tuple[dict[str, Any], int, PinholeCamera, float]:
    """What `save_state` wrote: state, session, camera, and how old it is, seconds.

    Raises:
        InputError: no such file, too large, or not one of these.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InputError('state_file', f'at most {LARGEST} bytes', path.stat().st_size)
        with safe_open(os.fspath(path), 'np') as file:
            header = file.metadata() or {}
            if header.get('format') != FORMAT:
                raise InputError('state_file', FORMAT, header.get('format', 'none'))
            state: dict[str, Any] = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        state |= {str(k): str(v) for k, v in json.loads(header['words']).items()}
        session, saved = int(header['session']), float(header['saved'])
        camera = PinholeCamera.from_dict(json.loads(header['camera']))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError('state_file', 'a file that this node has written', error) from error
    if not 0 < session < 2**63 or not np.isfinite(saved):
        raise InputError('state_file', 'a session and a time', f'{session} and {saved}')
    return state, session, camera, max(0.0, time.time() - saved)
