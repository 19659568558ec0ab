"""The order of images, however their stamps and their clocks behave."""

from __future__ import annotations

import pytest

from object_centric_ros.nodes.stamps import Stamps

S = 1_000_000_000


@pytest.mark.parametrize('images, refused, shifts', [
    # (stamp, arrival), seconds
    ([(10, 0), (10, 0.1), (9.5, 0.2), (10.1, 0.3)], ['', 'images_repeated', 'images_out_of_order', ''], [0, 0, 0, 0]),
    ([(10, 0), (9.0, 0.1), (9.1, 0.2)], ['', '', ''], [0, -1, 0]),  # set back by a second: not late any more
    ([(10, 0), (9.01, 0.1)], ['', 'images_out_of_order'], [0, 0]),
    ([(10, 0), (3610, 0.1), (3610.1, 0.2)], ['', '', ''], [0, 3600, 0]),
    ([(10, 0), (3610, 3600)], ['', ''], [0, 0]),  # nobody looked for an hour
    ([(10, 0), (20, 0.1)], ['', ''], [0, 0]),  # a slow start is no jump
    ([(0, 0), (0, 0.1), (10, 0.2), (0, 0.3), (11, 0.4)], [''] * 5, [0] * 5),  # without stamps nothing is known
])
def test_what_is_used_and_by_how_much_the_clock_was_set(images, refused, shifts):
    stamps = Stamps()
    orders = [stamps.order(round(stamp * S), arrived) for stamp, arrived in images]
    assert [o.refused for o in orders] == refused
    assert [o.shift for o in orders] == pytest.approx(shifts)


def test_what_is_refused_does_not_count():
    stamps = Stamps()
    for stamp in (10.0, 9.5, 9.8):
        order = stamps.order(round(stamp * S), 0.0)
    assert order.refused == 'images_out_of_order'
    assert stamps.order(round(9.0 * S), 0.0).shift == pytest.approx(-1.0)
