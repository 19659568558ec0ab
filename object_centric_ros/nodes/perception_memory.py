"""What outlives a tracker: its last snapshot, in the process and in a file, and the next one that goes on from it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.nodes.cameras import same_camera
from object_centric_ros.nodes.diagnostics import Diagnostics
from object_centric_ros.nodes.perception_settings import PerceptionSettings, Tracker
from object_centric_ros.nodes.state import load_state, save_state

if TYPE_CHECKING:
    from object_centric_ros.tracking.resume import Resumption


@dataclass(frozen=True)
class Kept:
    """A snapshot, the session of its ids, its camera, and when it was taken (monotonic, s)."""

    state: dict[str, Any]
    session: int
    camera: PinholeCamera
    taken: float


class Memory:
    """Keeps snapshots and tries them on new trackers; used by the tracker's thread, or while there is none.

    Args:
        diagnostics: told what becomes of them.
    """

    def __init__(self, diagnostics: Diagnostics) -> None:
        self._diagnostics = diagnostics
        self._kept: Kept | None = None
        self._attempt: Resumption | None = None

    def keep(self, tracker: Tracker, session: int, file: str) -> None:
        """Take a snapshot, and write it to the file if there is one; not while one is being tried."""
        state = {} if self._attempt is not None else tracker.state_dict()
        if not state:
            return
        self._kept = Kept(state, session, tracker.camera, time.monotonic())
        if file:
            try:
                save_state(Path(file), state, session, tracker.camera)
            except InputError as error:
                self._diagnostics.reject('state_not_saved', error)
            else:
                self._diagnostics.count('state_saved')

    def resume(self, tracker: Tracker, stamp: float, settings: PerceptionSettings) -> int | None:
        """Give a new tracker the last snapshot, if it may still be true at `stamp` (s); the session of its ids."""
        file, kept = settings.state_file, self._kept
        if kept is None and not (file and Path(file).exists()):
            return None
        try:
            if kept is not None:
                state, session, camera, age = kept.state, kept.session, kept.camera, time.monotonic() - kept.taken
            else:
                state, session, camera, age = load_state(Path(file))
            if age > settings.state_max_age:
                raise InputError('age of the saved state', f'at most {settings.state_max_age:g} s', f'{age:.0f} s')
            if not same_camera(camera, tracker.camera):
                raise InputError('camera of the saved state', 'the one there is now', 'another one')
            from object_centric_ros.tracking.resume import Resumption
            self._attempt = Resumption(tracker, state, stamp)  # type: ignore[arg-type]
        except InputError as error:
            self._diagnostics.reject('state_not_restored', f'ids start anew: {error}')
            return None
        return session

    def recognised(self, tracker: Tracker) -> bool | None:
        """Whether the scene is the one of the snapshot, True if none is tried; None: not settled, False: begun anew."""
        if self._attempt is None:
            return True
        verdict = self._attempt.verdict()
        if verdict is None:
            self._diagnostics.count('images_before_restored')
            return None
        self._attempt = None
        if verdict:
            self._diagnostics.count('state_restored')
        else:
            tracker.reset()
            self._diagnostics.reject('state_not_restored', 'ids start anew: the scene is not the one that was saved')
        return verdict

    def drop_attempt(self) -> None:
        """Nothing is tried any more."""
        self._attempt = None
