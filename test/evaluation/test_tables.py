"""Numbers and tables of the evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from object_centric_ros.evaluation.charts import Bar, Series, line_chart, ticks, timeline
from object_centric_ros.evaluation.tables import Spread, cell, text_table


def test_spread_of_known_values_leaves_nan_out() -> None:
    spread = Spread.of([1.0, 2.0, 3.0, np.nan])
    assert spread.count == 3
    assert spread.mean == pytest.approx(2.0)
    assert spread.std == pytest.approx(1.0)
    assert spread.error == pytest.approx(1 / np.sqrt(3))


def test_spread_of_nothing_is_nan() -> None:
    assert Spread.of([]).count == 0
    assert np.isnan(Spread.of([np.nan]).mean)


@pytest.mark.parametrize(('value', 'text'), [
    (True, 'yes'), (np.bool_(False), 'no'), (None, '-'), (float('nan'), '-'), (0.123456, '0.123'), (12345.6, '12346'),
    (0.00001, '1.0e-05'), ('a', 'a')])
def test_cell(value: object, text: str) -> None:
    assert cell(value) == text


def test_table_aligns_numbers_right_and_words_left() -> None:
    lines = text_table(('name', 'n'), [('a', 1), ('long name', 100)]).splitlines()
    assert lines[0] == 'name         n'
    assert lines[2] == 'a            1'
    assert lines[3] == 'long name  100'


def test_ticks_cover_the_range_with_round_steps() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(0, 0.05)[1] == pytest.approx(0.01)


def test_charts_are_closed_svg_and_say_when_there_is_nothing() -> None:
    x = np.linspace(0, 10, 100)
    chart = line_chart([Series('a<b', x, x ** 2, '#123456', band=True)], 'title', 's', 'ms')
    assert chart.startswith('<svg') and chart.endswith('</svg>')
    assert 'a&lt;b' in chart and 'polygon' in chart
    assert 'nothing was recorded' in line_chart([], 'title', 's', 'ms')
    bars = timeline([Bar('act', 0, 2, 'red', 'act: 2 s')], 'time', [('act', 'red')])
    assert bars.count('<rect') == 2
