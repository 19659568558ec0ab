"""Identity: which slot is which entity, through occlusion, moves and loss. NumPy only; knows nothing of the model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from object_centric_ros.tracking.observation import SlotViews, chromaticity
from object_centric_ros.tracking.settings import TrackerConfig


@dataclass
class Record:
    """What is remembered of an entity; lengths in model pixels."""

    id: int
    slot: int | None
    colour: list[float]
    area: float
    centroid: list[float]
    rows: list[float]
    overlapped: float
    seen: float
    spread: list[list[float]] = field(default_factory=lambda: [[math.nan] * 2] * 2)  # covariance of the centroid
    misses: int = 0
    visible: bool = True


@dataclass
class Identities:
    """The ledger of entities.

    `judge` says which slots still show what they showed; `update` then books births, finds, losses and retirements.
    """

    config: TrackerConfig
    records: dict[int, Record] = field(default_factory=dict)
    next_id: int = 1
    candidates: dict[int, tuple[int, list[float]]] = field(default_factory=dict)

    def of_slot(self, slot: int) -> Record | None:
        """The entity that a slot holds."""
        return next((r for r in self.records.values() if r.slot == slot), None)

    def judge(self, views: SlotViews, moved: bool) -> NDArray[np.bool_]:
        """Which slots still look like the entity they hold [K]; True for slots that hold none.

        Args:
            views: of the refined belief.
            moved: whether an action was executed since the last frame, so that jumps are expected.
        """
        good = np.ones(len(views.area), bool)
        for record in self.records.values():
            if record.slot is not None:
                good[record.slot] = self._same(record, views, record.slot, moved)
        return good

    def _same(self, record: Record, views: SlotViews, slot: int, moved: bool) -> bool:
        c = self.config
        if views.area[slot] < max(c.min_area / 2, c.area_gate * record.area):
            return False
        if np.linalg.norm(views.colour[slot] - record.colour) > c.colour_gate:
            return False
        return moved or bool(np.linalg.norm(views.centroid[slot] - record.centroid) <= c.jump_gate)

    def update(self, views: SlotViews, good: NDArray[np.bool_], stamp: float, frozen: bool, background: int | None,
               size: int, births: bool = True) -> list[int]:
        """Book one frame.

        Args:
            views, good: of this frame.
            stamp: seconds.
            frozen: the robot is in the way: nothing is born, found or given up.
            background: the slot that is never an entity.
            size: S, side of the model image.
            births: whether steady new slots become entities.

        Returns:
            slots that hold nothing any more and may be parked.
        """
        c = self.config
        free: list[int] = []
        for record in self.records.values():
            if record.slot is not None and good[record.slot]:
                self._saw(record, views, record.slot, stamp, learn=not frozen)
            else:
                record.visible = False
                record.misses += not frozen
                if record.slot is not None and not frozen and record.misses >= 3:
                    free.append(record.slot)
                    record.slot = None
        held = {r.slot for r in self.records.values()} | set(free)
        for slot in range(len(views.area)):
            if slot == background or slot in held:
                continue
            if frozen or not births or not self._steady(views, slot, size):
                self.candidates.pop(slot, None)
                if not frozen and 0 < views.area[slot] < c.min_area:
                    free.append(slot)
                continue
            count, last = self.candidates.get(slot, (0, views.centroid[slot].tolist()))
            still = np.linalg.norm(views.centroid[slot] - last) <= c.birth_motion
            self.candidates[slot] = (count + 1 if still else 1, views.centroid[slot].tolist())
            if self.candidates[slot][0] >= c.birth_frames:
                del self.candidates[slot]
                free += self._take(views, slot, stamp)
        if not frozen:
            self._reclaim()
        for record in list(self.records.values()):
            if stamp - record.seen > c.retire_after and not frozen:
                if record.slot is not None:
                    free.append(record.slot)
                del self.records[record.id]
        return free

    def reassign(self, views: SlotViews, expected: dict[int, NDArray[np.float64]], ordered: bool, stamp: float,
                 background: int | None, size: int) -> None:
        """Tell anew which slot is which entity, by colour and place, after an action or a reading from nothing.

        Args:
            views: of the slots.
            expected: entities that an action moved, and the places it may have now: id -> (u, v) [N, 2]. All
                others stay where they were.
            ordered: the slots come from those before, so that an entity's own slot is preferred.
            stamp, background, size: as for `update`.
        """
        c = self.config
        slots = [s for s in range(len(views.area)) if s != background and self._steady(views, s, size)]
        self.candidates = {}
        records = list(self.records.values())
        other = np.array([[not ordered or r.slot != s for s in slots] for r in records], float)
        lost = np.array([r.slot is None for r in records], float)[:, None]
        for record in records:
            record.slot, record.visible = None, False
        if not slots or not records:
            return
        colour = self._unlike(np.array([r.colour for r in records])[:, None], views.colour[slots])
        place = np.array([np.linalg.norm(np.reshape(expected.get(r.id, r.centroid), (-1, 1, 2)) - views.centroid[slots],
                                         axis=-1).min(0) for r in records])
        # Beyond a few pixels a place says nothing more: what stood on a thing that was taken away has fallen.
        cost = colour + np.minimum(place / (4 * c.jump_gate), 1) + 0.2 * other + 0.3 * lost
        for i, j in zip(*linear_sum_assignment(np.where(colour < 1, cost, 10.0)), strict=True):
            if colour[i, j] < 1:
                records[i].slot, records[i].area = slots[j], float(views.area[slots[j]])
                self._saw(records[i], views, slots[j], stamp)

    def _reclaim(self) -> None:
        """An unseen entity whose like turns up right where it was takes it back from a younger id."""
        for lost in [r for r in self.records.values() if not r.visible]:
            for other in list(self.records.values()):
                near = np.linalg.norm(np.subtract(other.centroid, lost.centroid)) < self.config.merge_distance
                if other.visible and other.id > lost.id and near and self._alike(other.colour, lost.colour):
                    lost.slot, lost.area, lost.colour = other.slot, other.area, other.colour
                    lost.centroid, lost.rows, lost.seen = other.centroid, other.rows, other.seen
                    lost.overlapped, lost.spread = other.overlapped, other.spread
                    lost.misses, lost.visible = 0, True
                    del self.records[other.id]
                    break

    def _unlike(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
        """How far apart two colours [..., 3] are; 1 is as far as one thing's may be, in RGB or but for the shade."""
        a, b, c = np.asarray(a), np.asarray(b), self.config
        return np.asarray(np.minimum(np.linalg.norm(a - b, axis=-1) / c.match_colour,
                                     np.linalg.norm(chromaticity(a) - chromaticity(b), axis=-1) / c.match_chromaticity))

    def _alike(self, a: ArrayLike, b: ArrayLike) -> bool:
        """Whether two colours differ in shade alone."""
        apart = chromaticity(np.asarray(a)) - chromaticity(np.asarray(b))
        return bool(np.linalg.norm(apart) < self.config.merge_colour)

    def duplicates(self, views: SlotViews, background: int | None) -> list[int]:
        """Slots that share their thing with another slot, the lesser of each pair; of two ids the younger goes."""
        c, lesser = self.config, []
        slots = [s for s in range(len(views.area)) if s != background and views.area[s] > 0]
        for i, a in enumerate(slots):
            for b in slots[i + 1:]:
                near = np.linalg.norm(views.centroid[a] - views.centroid[b]) < c.merge_distance
                if near and self._alike(views.colour[a], views.colour[b]):
                    rank = [(self._shown_by(s) is not None, views.area[s]) for s in (a, b)]
                    less, more = (a, b) if rank[0] < rank[1] else (b, a)
                    lesser.append(less)
                    self._settle(less, more)
        return lesser

    def _shown_by(self, slot: int) -> Record | None:
        """The entity that a slot holds and shows."""
        record = self.of_slot(slot)
        return record if record is not None and record.visible else None

    def _settle(self, less: int, more: int) -> None:
        """One thing, one id: of two that are shown the older stays; one that is not shown is lost for now."""
        shown = [self._shown_by(less), self._shown_by(more)]
        if shown[0] is not None and shown[1] is not None and self._alike(shown[0].colour, shown[1].colour):
            older, younger = sorted((shown[0], shown[1]), key=lambda r: r.id)
            older.slot = more
            del self.records[younger.id]
            return
        hidden = self.of_slot(less)
        if hidden is not None:
            hidden.slot, hidden.visible = None, False

    def _steady(self, views: SlotViews, slot: int, size: int) -> bool:
        """Whether a slot shows something that could be a thing."""
        c = self.config
        sure = views.sharpness[slot] > 0.5 and views.sharpness[slot] * views.fit[slot] >= c.birth_confidence
        sure = sure and views.contrast[slot] >= c.birth_contrast
        return bool(c.min_area <= views.area[slot] <= c.background_area * size ** 2 and sure)

    def _take(self, views: SlotViews, slot: int, stamp: float) -> list[int]:
        """A steady new slot: an unseen entity found again, or a new one. Returns the slot it had before, if any."""
        lost = [(float(self._unlike(views.colour[slot], r.colour)), r.id)
                for r in self.records.values() if not r.visible]
        lost = [x for x in lost if x[0] < 1]
        if lost:
            record = self.records[min(lost)[1]]
            before = [] if record.slot is None else [record.slot]
            record.slot = slot
            record.area = float(views.area[slot])
            self._saw(record, views, slot, stamp)
            return before
        self.records[self.next_id] = Record(self.next_id, slot, views.colour[slot].tolist(), float(views.area[slot]),
                                            views.centroid[slot].tolist(), views.rows[slot].tolist(),
                                            float(views.overlapped[slot]), stamp,
                                            views.spread[slot].tolist())
        self.next_id += 1
        return []

    def _saw(self, record: Record, views: SlotViews, slot: int, stamp: float, learn: bool = True) -> None:
        """Book what a slot shows; what an entity is known by is learnt without the robot in the picture alone."""
        if learn:
            c, rate = self.config.colour_rate, 0.1
            record.colour = ((1 - c) * np.asarray(record.colour) + c * views.colour[slot]).tolist()
            record.area = (1 - rate) * record.area + rate * float(views.area[slot])
        record.centroid, record.rows = views.centroid[slot].tolist(), views.rows[slot].tolist()
        record.overlapped, record.spread = float(views.overlapped[slot]), views.spread[slot].tolist()
        record.seen, record.misses, record.visible = stamp, 0, True

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for snapshots."""
        return {'next_id': self.next_id, 'records': [asdict(r) for r in self.records.values()]}

    def from_dict(self, state: dict[str, Any]) -> None:
        """Restore what `to_dict` gave."""
        self.next_id = int(state['next_id'])
        self.records = {int(r['id']): Record(**r) for r in state['records']}
        self.candidates = {}
