"""Goals that pictures show: one of what shall be, or several examples of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from object_centric_ros.action import BuildGoal
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Preparation
from object_centric_ros.nodes.images import to_rgb

MAX_EXAMPLES = 16
"""Example pictures of one goal: each takes the model a few looks, and a client waits for all of them."""


def kind_of_goal(request: BuildGoal.Goal) -> str:
    """Which of 'image', 'examples', 'places' and 'relations' a goal is by.

    Raises:
        InputError: none of them, or more than one.
    """
    has_image = bool(request.image.width or request.image.height or len(request.image.data))
    kinds = {'an image': has_image, 'examples': request.examples, 'places': request.places,
             'relations': request.relations}
    given = [name for name, there in kinds.items() if there]
    if len(given) != 1:
        raise InputError('goal', 'an image, examples, places or relations, exactly one of them',
                         ' and '.join(given) or 'nothing')
    return given[0].removeprefix('an ')


def picture_of(message: Image, preparation: Preparation) -> NDArray[np.uint8]:
    """The picture [H, W, 3] of a message, as perception prepares those of the camera.

    Raises:
        InputError: an image that cannot be used, or of another size than the camera's.
    """
    image, source = to_rgb(message), preparation.source
    if image.shape[:2] != (source.height, source.width):
        raise InputError('goal image size', f'{source.width}x{source.height} as of the camera',
                         f'{message.width}x{message.height}')
    return preparation(image)


def example_pictures(request: BuildGoal.Goal, preparation: Preparation) -> list[NDArray[np.uint8]]:
    """The pictures [H, W, 3] of a goal by examples, all of them checked before the first is worked on.

    Raises:
        InputError: too few or too many, or one that `picture_of` refuses.
    """
    if not 2 <= len(request.examples) <= MAX_EXAMPLES:
        raise InputError('goal: examples', f'2 to {MAX_EXAMPLES} pictures', len(request.examples))
    pictures = []
    for number, message in enumerate(request.examples, 1):
        with _example(number):
            pictures.append(picture_of(message, preparation))
    return pictures


def goal_of_pictures(goal_from_image: Callable[[NDArray[np.uint8]], Any], pictures: list[NDArray[np.uint8]],
                     go_on: Callable[[], None]) -> Any:
    """The goal that example pictures have in common, see `preferences.goal_of_examples`.

    Args:
        goal_from_image: of the planner.
        pictures: [H, W, 3] each.
        go_on: called before each picture; what it raises ends the work.

    Raises:
        InputError: a picture that shows nothing, or no thing on whose place they agree.
    """
    from object_centric_ros.planning.preferences import goal_of_examples
    goals = []
    for number, picture in enumerate(pictures, 1):
        go_on()
        with _example(number):
            goals.append(goal_from_image(picture))
    return goal_of_examples(goals)


@contextmanager
def _example(number: int) -> Iterator[None]:
    """Errors say which example they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f'example {number}: {error.what}', error.expected, error.got) from error
