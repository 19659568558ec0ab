"""Distances of pairs of entities."""

from __future__ import annotations

import pytest
import torch

from object_centric_ros.planning.costs import (
    COSTS,
    Pictures,
    composite_mse,
    latent_distance,
    latent_unit,
    picture_unit,
    subimage_l2,
)


def square(u: int, v: int, rgb: tuple[float, float, float]) -> Pictures:
    """One entity: a square of 6 pixels."""
    masks = torch.zeros(1, 1, 24, 24)
    masks[..., v:v + 6, u:u + 6] = 1
    return Pictures(masks, torch.tensor(rgb).reshape(1, 1, 3, 1, 1).expand(1, 1, 3, 24, 24).clone())


RED, BLUE = (0.9, 0.2, 0.2), (0.2, 0.2, 0.9)


@pytest.mark.parametrize('name', sorted(COSTS))
def test_same_is_free_near_is_cheaper_than_far(name: str) -> None:
    cost, goal = COSTS[name], square(4, 4, RED)
    same, near, far = (float(cost(goal, square(u, 4, RED))[0, 0, 0]) for u in (4, 6, 14))
    assert same == pytest.approx(0 if name != 'released_iou' else 0.5, abs=1e-6)  # its union counts twice
    assert same < near < far


@pytest.mark.parametrize('name', ['paper_iou', 'released_iou', 'soft_iou'])
def test_another_colour_at_the_same_place_does_not_fit(name: str) -> None:
    goal = square(4, 4, RED)
    assert float(COSTS[name](goal, square(4, 4, BLUE))[0, 0, 0]) > float(COSTS[name](goal, square(6, 4, RED))[0, 0, 0])


def test_all_pairs_of_many_scenes() -> None:
    goals = Pictures(torch.rand(1, 2, 8, 8), torch.rand(1, 2, 3, 8, 8))
    things = Pictures(torch.rand(5, 3, 8, 8), torch.rand(5, 3, 3, 8, 8))
    for name, cost in COSTS.items():
        every = cost(goals, things)
        assert every.shape == (5, 2, 3)
        if name == 'soft_iou':  # other goal entities hide things
            continue
        one = cost(Pictures(goals.masks[:, 1:], goals.colours[:, 1:]), Pictures(things.masks[3:4, 2:],
                                                                              things.colours[3:4, 2:]))
        assert torch.allclose(every[3, 1, 2], one[0, 0, 0], atol=1e-6)


def test_what_the_goal_hides_is_not_held_against_a_thing() -> None:
    whole, upper = square(4, 4, RED), square(4, 2, BLUE)
    lower = whole.masks * (1 - upper.masks)
    goal = Pictures(torch.cat([lower, upper.masks], 1), torch.cat([whole.colours, upper.colours], 1))
    assert float(COSTS['soft_iou'](goal, whole)[0, 0, 0]) < 1e-6
    assert float(COSTS['paper_iou'](goal, whole)[0, 0, 0]) > 0.3
    assert float(COSTS['soft_iou'](goal, whole)[0, 1, 0]) > 0.9


def test_latents_and_whole_pictures() -> None:
    goal, things = torch.rand(2, 7), torch.rand(4, 3, 7)
    assert torch.allclose(latent_distance(goal, things)[1, 0, 2], (goal[0] - things[1, 2]).square().mean())
    image, images = torch.rand(3, 5, 5), torch.rand(4, 3, 5, 5)
    assert torch.allclose(composite_mse(image, images)[2], (image - images[2]).square().mean())


def test_units_are_those_of_an_entity_that_is_elsewhere() -> None:
    goal, far = square(4, 4, RED), square(14, 4, RED)
    assert float(subimage_l2(goal, far)[0, 0, 0] / picture_unit(goal)) == pytest.approx(1, rel=1e-5)
    images = [(p.masks[:, :, None] * p.colours)[:, 0] for p in (goal, far)]
    assert float(composite_mse(images[0][0], images[1])[0] / picture_unit(goal)) == pytest.approx(1, rel=1e-5)
    slots = torch.eye(3)
    assert float(latent_distance(slots[:1], slots[None, 1:2])[0, 0, 0] / latent_unit(slots)) == pytest.approx(1)
