"""Work area and keep-out zones."""

from __future__ import annotations

import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.nodes.zones import ArmSettings, Zones

L_SHAPE = (0.0, 0.0, 0.2, 0.0, 0.2, 0.1, 0.1, 0.1, 0.1, 0.2, 0.0, 0.2)


def test_a_polygon_may_be_concave():
    zones = Zones(ArmSettings(work_polygon=L_SHAPE))
    assert not any(zones.problem('pick', x, y) for x, y in ((0.05, 0.05), (0.15, 0.05), (0.05, 0.15), (0.0, 0.0)))
    assert zones.problem('place', 0.15, 0.15) == 'place at (0.150, 0.150) is outside of work_polygon'
    assert zones.problem('pick', -0.01, 0.05)


def test_every_rectangle_is_kept_out_of():
    zones = Zones(ArmSettings(keep_out=(0.1, 0.1, 0.2, 0.2, -0.2, -0.2, -0.1, -0.1)))
    assert zones.problem('pick', 0.15, 0.1) == 'pick at (0.150, 0.100) is in the keep-out zone 0.1, 0.1, 0.2, 0.2'
    assert zones.problem('pick', -0.15, -0.15) and not zones.problem('pick', 0.0, 0.0)


def test_without_zones_everything_is_allowed_but_what_is_no_place():
    zones = Zones(ArmSettings())
    assert not zones.problem('pick', 0.5, 0.5) and 'no place' in zones.problem('pick', float('nan'), 0.0)


@pytest.mark.parametrize('values, words', [
    ({'work_area': (0.1, 0.0, -0.1, 0.1)}, 'x_min < x_max'), ({'work_polygon': (0.0, 0.0, 1.0, 1.0)}, 'three corners'),
    ({'work_polygon': (0.0,) * 6}, 'with an inside'), ({'work_polygon': (0.1,) * 7}, 'of three corners'),
    ({'keep_out': (0.0, 0.0, 1.0)}, 'four numbers'), ({'keep_out': (1.0, 0.0, 0.0, 1.0)}, 'x_min < x_max')])
def test_numbers_that_make_no_zone_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        Zones(ArmSettings(**values))
