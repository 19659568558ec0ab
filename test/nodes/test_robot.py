"""Joint states and executed actions against images, by stamps; hand-over between threads."""

from __future__ import annotations

import threading

import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.nodes.robot import RobotWatch
from object_centric_ros.nodes.waiting import Newest
from object_centric_ros.tracking.entities import PickPlace

NAN = float('nan')
ACTION = PickPlace((0.0, 0.1), (0.1, 0.0))


def test_moving_by_velocity_until_settled():
    robot = RobotWatch(0.02, 0.5)
    assert robot.joints(['a', 'b'], [], [0.0, -0.3], 10.0) == 0
    assert robot.at_image(10.4) == ([], True)
    assert robot.at_image(10.6) == ([], False)


def test_moving_by_positions_where_velocities_are_nan():
    robot = RobotWatch(0.02, 0.5)
    for i in range(10):
        assert robot.joints(['a'], [0.001 * i], [NAN], 10 + 0.1 * i) == 1
    assert robot.at_image(10.9) == ([], False)
    assert robot.joints(['a'], [0.5], [NAN], 11.0) == 1
    assert robot.at_image(11.0) == ([], True)


def test_numbers_that_are_not_finite_are_counted_and_ignored():
    robot = RobotWatch(0.02, 0.5)
    assert robot.joints(['a', 'b'], [NAN, float('inf')], [NAN, 0.0], 1.0) == 3
    assert robot.at_image(1.0) == ([], False)
    with pytest.raises(InputError, match='velocity'):
        robot.joints(['a', 'b'], [], [0.0], 1.0)


def test_an_action_goes_with_the_first_image_after_its_end():
    robot = RobotWatch(0.02, 0.5)
    robot.joints(['a'], [], [1.0], 4.9)
    assert not robot.executed(ACTION, 5.0)
    assert robot.at_image(4.95) == ([], True)
    assert robot.at_image(5.01) == ([ACTION], False)  # its end is known: nothing moves any more
    assert robot.at_image(5.05) == ([], False)


def test_a_late_action_goes_with_the_next_image_and_a_failed_one_with_none():
    robot = RobotWatch(0.02, 0.5)
    robot.at_image(6.0)
    assert robot.executed(ACTION, 5.0)
    assert robot.at_image(6.1) == ([ACTION], False)
    assert not robot.executed(None, 6.2)
    assert robot.at_image(6.3) == ([], False)


def test_newest_replaces_and_wakes():
    box: Newest[int] = Newest()
    assert box.take(0.01) is None
    assert not box.put(1)
    assert box.put(2)
    assert box.peek() == 2 and box.take(1.0) == 2 and box.peek() is None
    timer = threading.Timer(0.05, box.put, (7,))
    timer.start()
    assert box.wait_for(lambda x: x == 7, 5.0) == 7
    assert box.wait_for(lambda x: x == 8, 0.05) is None
    assert box.wait_for(lambda x: x == 8, 5.0, stopped=lambda: True) is None
    threading.Timer(0.05, box.close).start()
    assert box.wait_for(lambda x: x == 8, 30.0) is None and box.closed and box.take(30.0) is None
