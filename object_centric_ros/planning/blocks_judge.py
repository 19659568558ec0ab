"""Which goal entities are in place: one rule, whatever cost a search minimises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.planning.assignment import PAIRINGS
from object_centric_ros.planning.blocks_inference import Explained
from object_centric_ros.planning.blocks_places import Places
from object_centric_ros.planning.blocks_rollout import looks, pictures
from object_centric_ros.planning.blocks_settings import PickPlaceConfig
from object_centric_ros.planning.cem import Floats, Ints
from object_centric_ros.planning.costs import COSTS, JUDGE, JUDGE_PAIRING, Pictures, unhidden


@dataclass(frozen=True)
class Verdict:
    """A scene against a goal.

    Attributes:
        each: cost of each goal entity [G], in [0, 1]; 1 where it has no partner.
        partner: index of the thing that stands for it [G], each once; -1: none.
        held: whether it is in place [G].
    """

    each: Floats
    partner: Ints
    held: NDArray[np.bool_]


class Judge:
    """Compares what was inferred of two pictures, with a colour-aware IoU and where rays meet the table.

    Args:
        places: for the rays.
        config: `holds`, `near` and `alike`.
    """

    def __init__(self, places: Places, config: PickPlaceConfig) -> None:
        self.places, self.config = places, config

    def verdict(self, now: Explained, goal: Explained) -> Verdict:
        """The scene as it is, at full resolution; neither is without things."""
        wanted, there = pictures(goal), pictures(now)
        distances = COSTS[JUDGE](wanted, there).cpu().numpy()
        partner = PAIRINGS[JUDGE_PAIRING](distances, 1.0)[1][0]
        each = np.array([1.0 if e < 0 else float(distances[0, g, e]) for g, e in enumerate(partner)])
        # Of a thing only what would be seen of it in the goal counts: others may be meant to stand before or on it.
        seen = Pictures(there.masks[:, partner] * unhidden(wanted), there.colours[:, partner])
        (centres, shades), (centres2, shades2), c = looks(wanted), looks(seen), self.config
        close = self.places.close(centres, centres2, c.near)
        close &= np.linalg.norm(shades - shades2, axis=1) <= c.alike
        return Verdict(each, partner, (partner >= 0) & ((each <= c.holds) | close))
