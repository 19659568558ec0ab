"""Going on from a snapshot after a restart, if the scene is still the one that was saved."""

from __future__ import annotations

from typing import Any

import numpy as np

from object_centric_ros.errors import InputError
from object_centric_ros.tracking.tracker import EntityTracker


class Resumption:
    """A tracker with a snapshot in it, until it is known whether the scene is the one that was saved.

    The frames that follow are taken as those after an action, so that what was moved meanwhile is found again by its
    colour. When they are over, the scene is the same if at least half of the things that were visible are, and at least
    half of those are where they were.

    Args:
        tracker: takes the snapshot.
        state: from `EntityTracker.state_dict`.
        stamp: of the next image, seconds: the time in between does not count as unseen.

    Raises:
        InputError: the snapshot is of another model, damaged, or empty; the tracker has then been reset.
    """

    def __init__(self, tracker: EntityTracker, state: dict[str, Any], stamp: float) -> None:
        self._tracker = tracker
        try:
            tracker.load_state_dict(state)
            records = list(tracker.identities.records.values())
            if not records:
                raise InputError('tracker state', 'at least one entity', 'none')
        except InputError:
            tracker.reset()
            raise
        tracker.shift_clock(stamp - max(r.seen for r in records))
        tracker.reconsider()
        self._were = {r.id: list(r.centroid) for r in records if r.visible} or {r.id: list(r.centroid) for r in records}

    def verdict(self) -> bool | None:
        """Whether the scene is the one that was saved; None as long as that is not settled."""
        if self._tracker.unsettled:
            return None
        records = self._tracker.identities.records
        found = [i for i in self._were if i in records and records[i].visible]
        near = [i for i in found if np.linalg.norm(np.subtract(records[i].centroid, self._were[i]))
                <= 2 * self._tracker.config.jump_gate]
        return 2 * len(found) >= len(self._were) and 2 * len(near) >= len(found)
