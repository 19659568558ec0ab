"""Goals by pictures: what BuildGoal and `object-centric goal` make of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from object_centric_ros.action import BuildGoal
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, Preparation
from object_centric_ros.msg import EntityPlace
from object_centric_ros.nodes.goal_pictures import MAX_EXAMPLES, example_pictures, goal_of_pictures, kind_of_goal
from object_centric_ros.nodes.images import from_array, to_rgb
from object_centric_ros.nodes.send_goal import add_arguments, goal_of
from object_centric_ros.planning.goals import Goal, GoalEntity

CAMERA = Preparation(PinholeCamera.looking_at((0.0, -0.6, 0.7), (0.0, 0.0, 0.0), 40.0, 32, 24))


def picture(width: int = 32, value: int = 0, encoding: str = 'rgb8') -> Image:
    return from_array(np.full((24, width, 3), value, np.uint8), Header(), encoding)


def test_a_goal_is_of_one_kind() -> None:
    assert kind_of_goal(BuildGoal.Goal(image=picture())) == 'image'
    assert kind_of_goal(BuildGoal.Goal(examples=[picture()])) == 'examples'
    assert kind_of_goal(BuildGoal.Goal(places=[EntityPlace()])) == 'places'
    with pytest.raises(InputError, match='exactly one of them, got nothing'):
        kind_of_goal(BuildGoal.Goal())
    with pytest.raises(InputError, match='got an image and examples and places'):
        kind_of_goal(BuildGoal.Goal(image=picture(), examples=[picture()], places=[EntityPlace()]))


def test_examples_are_decoded_as_an_image_is() -> None:
    red = np.zeros((24, 32, 3), np.uint8)
    red[..., 0] = 200
    goal = BuildGoal.Goal(examples=[from_array(red, Header(), 'rgb8'),
                                    from_array(red[..., ::-1].copy(), Header(), 'bgr8')])
    for found in example_pictures(goal, CAMERA):
        np.testing.assert_array_equal(found, red)
    assert len(example_pictures(BuildGoal.Goal(examples=[picture()] * MAX_EXAMPLES), CAMERA)) == MAX_EXAMPLES


@pytest.mark.parametrize('examples, words', [
    ([picture()], 'goal: examples: expected 2 to 16 pictures, got 1'),
    ([picture()] * (MAX_EXAMPLES + 1), 'expected 2 to 16 pictures, got 17'),
    ([picture(), picture(16)], 'example 2: goal image size: expected 32x24 as of the camera, got 16x24'),
    ([picture(), Image()], 'example 2: image encoding'),
    ([picture(encoding='16UC1'), picture()], 'example 1: image encoding: expected a colour or gray image'),
    ([picture(), picture(), Image(width=2**31, height=24, encoding='rgb8')], 'example 3: image size')])
def test_examples_that_cannot_be_used_are_refused(examples: list[Image], words: str) -> None:
    with pytest.raises(InputError) as caught:
        example_pictures(BuildGoal.Goal(examples=examples), CAMERA)
    assert words in str(caught.value)


def shown(image: np.ndarray) -> Goal:
    """A red thing at a fixed place, and a blue one where the picture's brightness says; nothing in a black picture."""
    if not image.any():
        raise InputError('goal image', 'at least one entity on the table', 'none that the model finds')
    things = (((1.0, 0.0, 0.0), 0.05), ((0.0, 0.0, 1.0), image.mean() / 1000))
    return Goal(tuple(GoalEntity((x, 0.0, 0.03), colour, np.zeros((3, 2, 2), np.float32)) for colour, x in things))


def test_only_what_the_examples_agree_on_is_wanted() -> None:
    asked: list[None] = []
    pictures = [np.full((4, 4, 3), value, np.uint8) for value in (50, 150, 250)]
    goal = goal_of_pictures(shown, pictures, lambda: asked.append(None))
    (red,) = goal.entities
    assert red.colour == (1.0, 0.0, 0.0) and red.position == pytest.approx((0.05, 0.0, 0.03))
    assert len(asked) == 3
    assert len(goal_of_pictures(shown, pictures[:1] * 2, lambda: None).entities) == 2


def test_an_example_that_shows_nothing_is_named_and_a_stop_is_heeded() -> None:
    pictures = [np.full((4, 4, 3), value, np.uint8) for value in (50, 0)]
    with pytest.raises(InputError, match='example 2: goal image: expected at least one entity'):
        goal_of_pictures(shown, pictures, lambda: None)

    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        goal_of_pictures(shown, pictures, stop)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_the_command_sends_examples(tmp_path: Path) -> None:
    names = [str(tmp_path / f'{i}.png') for i in range(2)]
    for i, name in enumerate(names):
        cv2.imwrite(name, np.full((24, 32, 3), (10, 20, 30 + i), np.uint8))
    goal = goal_of(options('--example', names[0], '--example', names[1]))
    assert kind_of_goal(goal) == 'examples'
    assert [to_rgb(m)[0, 0].tolist() for m in goal.examples] == [[30, 20, 10], [31, 20, 10]]
    for words, expected in ((('--example', names[0]), '--example: expected 2 pictures or more'),
                            (('--example', names[0], '--example', 'none.png'), '--example: expected a picture file'),
                            (('--example', names[0], '--example', names[1], '--image', names[0]),
                             'got --image and --example')):
        with pytest.raises(InputError) as caught:
            goal_of(options(*words))
        assert expected in str(caught.value)
