"""OBAI: iterations over an episode, their composite loss, and that it learns."""

from __future__ import annotations

import pytest
import torch
from obai_squares import SMALL, moving_squares, seeded, small

from object_centric_ros.models.obai import OBAI
from object_centric_ros.models.obai_config import OBAIConfig


@pytest.mark.parametrize('joint', [True, False])
def test_frames_join_every_four_iterations(joint: bool) -> None:
    model = small(joint=joint)
    images, fields = moving_squares(2, 3)
    with torch.no_grad():
        rows = [len(look.scene.colours) for _, look in model.iterations(images, fields, seeded(), 1.0)]
    assert rows == [2] * 4 + [4] * 4 + [6] * 4 if joint else rows == [2] * 12


def test_composite_loss_weighs_later_iterations_more() -> None:
    """Eq. 16, and the temperature that goes with the step."""
    model = small(temperature_start=1.0, temperature_end=0.25, temperature_steps=100)
    images, fields = moving_squares(2, 2)
    loss, terms = model.episode_loss(images, fields, 50, seeded())
    assert terms['temperature'] == pytest.approx(0.5)
    losses = [look.loss.mean().item() for _, look in model.iterations(images, fields, seeded(), 0.5)]
    assert loss.item() == pytest.approx(sum(n / 8 * value for n, value in enumerate(losses, 1)), rel=1e-5)


@pytest.mark.parametrize('value', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('joint', [True, False])
def test_loss_is_finite_on_flat_images(value: float, joint: bool) -> None:
    model = small(joint=joint)
    _, fields = moving_squares(1, 3)
    loss, _ = model.episode_loss(torch.full((1, 3, 3, 32, 32), value), fields, 0, seeded())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_episodes_repeat_with_the_seed_and_need_no_actions() -> None:
    model = small(action_size=0)
    assert (model.action_format, model.plans, model.action_refiner) == ('none', False, None)
    images, _ = moving_squares(2, 2)
    losses = [model.episode_loss(images, None, 0, seeded(s))[0].item() for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_bfloat16() -> None:
    model = small().to(torch.bfloat16)
    images, fields = (x.to(torch.bfloat16) for x in moving_squares(1, 2))
    loss, _ = model.episode_loss(images, fields, 0, seeded())
    loss.backward()
    assert torch.isfinite(loss)


def test_learns_from_moving_squares() -> None:
    """A few dozen steps explain held-out episodes better, and each of the terms takes part in it."""
    torch.manual_seed(0)
    model = OBAI(OBAIConfig(**{**SMALL, 'first_iterations': 2, 'iterations': 2}))
    images, fields = moving_squares(64, 2)
    held_out = moving_squares(4, 2, seed=1)

    def judged() -> tuple[float, float]:
        with torch.no_grad():
            loss, terms = model.episode_loss(*held_out, 0, seeded())
        return loss.item(), terms['nll']
    before = judged()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(24):
        rows = torch.randint(0, 64, (2,), generator=seeded(step))
        loss, _ = model.episode_loss(images[rows], fields[rows], step, seeded(step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
    after = judged()
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.5 * before[1]
