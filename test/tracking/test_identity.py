"""Identity through occlusion, loss, return and duplicates, on made-up slot measurements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from object_centric_ros.tracking.identity import Identities
from object_centric_ros.tracking.observation import SlotViews, view_slots
from object_centric_ros.tracking.settings import TrackerConfig

RED, GREEN, BLUE, DARK = (0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9), (0.1, 0.1, 0.1)


def views(*slots: tuple[float, tuple[float, float], tuple[float, float, float]]) -> SlotViews:
    """Slot 0 is the background; each further slot is (area, centroid, colour)."""
    area = np.array([3000.0, *(s[0] for s in slots)])
    centroid = np.array([(32.0, 32.0), *(s[1] for s in slots)], float)
    colour = np.array([(0.5, 0.5, 0.5), *(s[2] for s in slots)], float)
    k = len(area)
    return SlotViews(np.zeros((64, 64), int), area, centroid, np.zeros((k, 4)), np.zeros((k, 2)), np.zeros(k),
                     colour, np.full(k, 0.9), np.full(k, 0.9), np.full(k, 0.5), np.tile(0.01 * np.eye(2), (k, 1, 1)))


def feed(ledger: Identities, seen: SlotViews, stamp: float, frozen: bool = False, moved: bool = False) -> list[int]:
    good = ledger.judge(seen, moved)
    free = ledger.update(seen, good, stamp, frozen, 0, 64)
    return free + ([] if frozen else ledger.duplicates(seen, 0))


def visible(ledger: Identities) -> dict[int, int | None]:
    return {r.id: r.slot for r in ledger.records.values() if r.visible}


@pytest.fixture
def two() -> Identities:
    """Two entities: 1 in slot 1 (red), 2 in slot 2 (green)."""
    ledger = Identities(TrackerConfig(retire_after=5.0))
    for i in range(2):
        feed(ledger, views((60, (20, 20), RED), (60, (40, 40), GREEN)), 0.1 * i)
    return ledger


def test_born_after_holding_still(two: Identities) -> None:
    assert visible(two) == {1: 1, 2: 2}
    restless = Identities(TrackerConfig())
    for i in range(4):
        feed(restless, views((60, (20 + 5 * i, 20), RED)), 0.1 * i)
    assert not restless.records


def test_nothing_is_born_while_the_robot_moves() -> None:
    ledger = Identities(TrackerConfig())
    for i in range(5):
        feed(ledger, views((60, (20, 20), RED)), 0.1 * i, frozen=True)
    assert not ledger.records


def test_covered_by_the_arm_and_back(two: Identities) -> None:
    for i in range(30):
        feed(two, views((50, (20, 20), DARK), (60, (40, 40), GREEN)), 0.2 + 0.1 * i, frozen=True)
        assert visible(two) == {2: 2}
    feed(two, views((60, (20, 20), RED), (60, (40, 40), GREEN)), 3.3)
    assert visible(two) == {1: 1, 2: 2}


def test_jump_without_action_is_not_believed_but_with_one_is(two: Identities) -> None:
    jumped = views((60, (50, 12), RED), (60, (40, 40), GREEN))
    assert not two.judge(jumped, moved=False)[1]
    assert two.judge(jumped, moved=True)[1]


def test_lost_thing_found_in_another_slot_keeps_its_id(two: Identities) -> None:
    gone = views((0, (np.nan, np.nan), RED), (60, (40, 40), GREEN), (0, (np.nan, np.nan), BLUE))
    freed: list[int] = []
    for i in range(3):
        freed += feed(two, gone, 0.2 + 0.1 * i)
    assert 1 in freed
    for i in range(2):
        feed(two, views((0, (np.nan, np.nan), RED), (60, (40, 40), GREEN), (55, (10, 50), RED)), 0.6 + 0.1 * i)
    assert visible(two) == {1: 3, 2: 2}


def test_other_colour_is_another_thing(two: Identities) -> None:
    gone = views((0, (np.nan, np.nan), RED), (60, (40, 40), GREEN), (55, (10, 50), BLUE))
    for i in range(4):
        feed(two, gone, 0.2 + 0.1 * i)
    assert visible(two) == {2: 2, 3: 3}
    assert not two.records[1].visible


def test_retired_after_its_time_and_never_reused(two: Identities) -> None:
    gone = views((0, (np.nan, np.nan), RED), (60, (40, 40), GREEN))
    for i in range(60):
        feed(two, gone, 0.2 + 0.1 * i)
    assert set(two.records) == {2}
    for i in range(2):
        feed(two, views((60, (20, 20), RED), (60, (40, 40), GREEN)), 7 + 0.1 * i)
    assert set(two.records) == {2, 3}


def test_one_thing_in_two_slots_keeps_the_older_id(two: Identities) -> None:
    shared = views((40, (20, 20), RED), (60, (40, 40), GREEN), (30, (22, 23), RED))
    freed = [f for i in range(3) for f in feed(two, shared, 0.2 + 0.1 * i)]
    assert 3 in freed and visible(two) == {1: 1, 2: 2}


def told_anew(ledger: Identities, seen: SlotViews, expected: dict[int, tuple[float, float]] | None = None,
              ordered: bool = False) -> dict[int, int | None]:
    places = {i: np.array(uv) for i, uv in (expected or {}).items()}
    ledger.reassign(seen, places, ordered, 1.0, 0, 64)
    return visible(ledger)


def test_slots_in_another_order_are_told_by_colour(two: Identities) -> None:
    other = views((60, (40, 40), GREEN), (0, (np.nan, np.nan), BLUE), (60, (20, 20), RED))
    assert told_anew(two, other) == {1: 3, 2: 1}


def test_a_thing_that_moved_is_told_by_its_colour_and_what_is_gone_is_unseen(two: Identities) -> None:
    assert told_anew(two, views((60, (50, 12), RED), (60, (20, 20), BLUE))) == {1: 1}
    assert two.records[2].slot is None and 2 in two.records


def two_red(a: tuple[float, float], b: tuple[float, float]) -> Identities:
    ledger = Identities(TrackerConfig())
    for i in range(2):
        feed(ledger, views((60, a, RED), (60, b, RED)), 0.1 * i)
    return ledger


def test_like_colours_are_told_by_place_and_by_where_the_action_put_them() -> None:
    swapped = views((60, (40, 40), RED), (60, (20, 20), RED))
    assert told_anew(two_red((20, 20), (40, 40)), swapped) == {1: 2, 2: 1}
    moved = views((60, (40, 40), RED), (60, (50, 12), RED))
    assert told_anew(two_red((20, 20), (40, 40)), moved, {1: (50.0, 12.0)}) == {1: 2, 2: 1}
    assert told_anew(two_red((20, 20), (40, 40)), moved, {2: (50.0, 12.0)}) == {1: 1, 2: 2}


def test_of_equal_evidence_the_own_slot_is_kept_only_where_slots_are_ordered() -> None:
    crossed = views((60, (24, 20), RED), (60, (23, 20), RED))
    assert told_anew(two_red((20, 20), (27, 20)), crossed, ordered=True) == {1: 1, 2: 2}
    assert told_anew(two_red((20, 20), (27, 20)), crossed, ordered=False) == {1: 2, 2: 1}


def test_what_looks_like_the_background_is_not_born() -> None:
    ledger = Identities(TrackerConfig())
    ghost = replace(views((60, (20, 20), RED), (60, (40, 40), GREEN)), contrast=np.array([0.0, 0.5, 0.05]))
    for i in range(3):
        feed(ledger, ghost, 0.1 * i)
    assert visible(ledger) == {1: 1}


def test_survives_a_snapshot(two: Identities) -> None:
    other = Identities(two.config)
    other.from_dict(two.to_dict())
    assert other.records == two.records and other.next_id == two.next_id


def test_measurements_of_a_drawn_scene() -> None:
    image = np.full((3, 16, 16), 0.5, np.float32)
    image[:, 4:8, 2:10] = np.array(RED, np.float32)[:, None, None]
    masks = np.zeros((2, 16, 16), np.float32)
    masks[1, 4:8, 2:10] = 1
    masks[0] = 1 - masks[1]
    red = np.broadcast_to(np.array(RED, np.float32)[:, None, None], (3, 16, 16))
    colours = np.stack([np.full((3, 16, 16), 0.5, np.float32), red])
    seen = view_slots(masks, colours, image, background=0)
    assert seen.area.tolist() == [224, 32]
    assert seen.centroid[1] == pytest.approx((6.0, 6.0))
    assert seen.box[1].tolist() == [2, 4, 10, 8]
    assert seen.rows[1] == pytest.approx((4.0, 8.0), abs=0.01)
    assert seen.colour[1] == pytest.approx(RED)
    assert seen.contrast == pytest.approx([0, np.linalg.norm(np.array(RED) - 0.5)], abs=1e-6)
    assert seen.fit[1] == pytest.approx(1.0) and seen.sharpness[1] == pytest.approx(1.0)
