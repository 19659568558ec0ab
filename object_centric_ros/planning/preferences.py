"""Actions that bring things to states that examples show (OBAI, van Bergen and Lanillos 2022, section 2.4).

A goal is a distribution over latent states that is learned from example pictures (eq. 9-12); a plan is a sequence of
accelerations for each slot, in closed form (eq. 14, and its extension to horizons) or by CEM on the same objective (eq.
13). What is told to the world is an action field: accelerations at pixels that a slot is sure are its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.models.action_field import place_actions
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.obai import OBAI
from object_centric_ros.models.preferences import Preference, expected_free_energy, learn_preference, plan_actions
from object_centric_ros.planning.cem import SearchConfig, Space, optimise
from object_centric_ros.planning.goals import Goal
from object_centric_ros.tracking.observation import chromaticity

PLANNERS = ('closed', 'cem')


@dataclass(frozen=True)
class PushConfig:
    """How accelerations are chosen.

    Attributes:
        planner: 'closed' or 'cem'.
        horizon: steps that a plan reaches ahead.
        limit: largest acceleration along an axis, pixels per frame squared.
        certain: a slot is pushed where its mask is at least this; nowhere else.
        search: of CEM, for each slot.
    """

    planner: str = 'closed'
    horizon: int = 1
    limit: float = 64.0
    certain: float = 0.5
    search: SearchConfig = field(default_factory=lambda: SearchConfig(population=200, elites=20, iterations=8))

    def __post_init__(self) -> None:
        if self.planner not in PLANNERS:
            raise InputError('planner', f'one of {PLANNERS}', self.planner)
        if self.horizon < 1 or self.limit <= 0 or not 0 <= self.certain <= 1:
            raise InputError('planner', 'horizon >= 1, limit > 0, certain in [0, 1]', self)


@dataclass(frozen=True)
class Pushes:
    """What is to be done.

    Attributes:
        actions: acceleration of each slot at each step [T, K, 2], pixels per frame squared; none for the background.
        energy: their expected free energy (eq. 13), nats, over the slots of things.
        candidates: how many plans were scored; 1 in closed form.
        seconds: planning time.
    """

    actions: Tensor
    energy: float
    candidates: int
    seconds: float


def goal_of_examples(examples: Sequence[Goal], weight: Sequence[float] | None = None, agreed: float = 0.03,
                     colour_tolerance: float = 0.16) -> Goal:
    """The goal that several goal pictures have in common: eq. 12 for the places of things.

    Things are told apart by their colours. Where the weighted examples agree on a thing's place, it is to be at their
    mean; where they do not, or where most of them lack it, the thing may be anywhere and is no part of the goal.

    Args:
        examples: goals of pictures.
        weight: how much each is wanted (u of eq. 10), at least 0; None: all alike.
        agreed: largest standard deviation of a place along an axis, metres.
        colour_tolerance: largest distance in chromaticity of what is taken for the same thing.

    Raises:
        InputError: no examples, others than goals of pictures, weights that cannot be, or nothing they agree on.
    """
    if not examples or not all(e.entities for e in examples):
        raise InputError('examples of a goal', 'at least one, each a goal of a picture', len(examples))
    u = np.ones(len(examples)) if weight is None else np.asarray(weight, float)
    if u.shape != (len(examples),):
        raise InputError('weights of examples', f'{len(examples)}, one for each', u.shape)
    wanted = []
    shades = [chromaticity(np.array([e.colour for e in example.entities])) for example in examples]
    first = int(u.argmax())
    for entity, shade in zip(examples[first].entities, shades[first], strict=True):
        distance = [np.linalg.norm(s - shade, axis=-1) for s in shades]
        there = np.array([d.min() <= colour_tolerance for d in distance])
        if u[there].sum() <= u.sum() / 2:
            continue
        found = [e.entities[d.argmin()] for e, d, t in zip(examples, distance, there, strict=True) if t]
        places = torch.tensor([e.position for e in found], dtype=torch.float64)
        preference = learn_preference(places, torch.zeros_like(places), torch.from_numpy(u[there]))
        if float(preference.std[:2].max()) <= agreed:
            x, y, z = preference.mean.tolist()
            nearest = int((places - preference.mean).norm(dim=1).argmin())
            wanted.append(replace(entity, position=(x, y, z), picture=found[nearest].picture))
    if not wanted:
        raise InputError('examples of a goal', f'a thing whose place they agree on to {agreed} m', 'none')
    return Goal(tuple(wanted), image=examples[0].image if len(examples) == 1 else None)


def things_of(model: OBAI, belief: Belief) -> Tensor:
    """Which slots are things [B, K] (bool): all but the background's, which covers most of the image."""
    covered = model.scene(belief).masks.sum((2, 3))
    return torch.arange(covered.shape[1], device=covered.device) != covered.argmax(1, keepdim=True)


@torch.no_grad()
def preference_of_examples(model: OBAI, images: Tensor, generator: torch.Generator, weight: Tensor | None = None
                           ) -> Preference:
    """The states that pictures of a single thing show as wanted (eq. 9-12).

    Args:
        images: [N, 3, H, W] in [0, 1], each of one thing on its background, so that no label has to say which slot is
            meant.
        weight: how much the state in each picture is wanted [N] (u of eq. 10); None: all were drawn from what is.
    """
    first = model.first(images, generator, slots=2)
    belief = model.infer(images, first, model.config.first_iterations, generator=generator)
    thing = belief.select(things_of(model, belief).to(torch.uint8).argmax(1, keepdim=True))
    latent = model.config.latent
    return learn_preference(thing.mean[:, 0, :latent], thing.std[:, 0, :latent], weight)


@torch.no_grad()
def plan_pushes(model: OBAI, belief: Belief, preference: Preference, config: PushConfig, rng: np.random.Generator
                ) -> Pushes:
    """The accelerations that bring all things of one scene, a belief [1, K, 2L], closest to a preference."""
    began = time.perf_counter()
    moves, scored = things_of(model, belief), 1
    if config.planner == 'closed':
        actions = plan_actions(model.dynamics.effect, belief.mean, preference, config.horizon)
        actions = actions.clamp(-config.limit, config.limit)
    else:
        actions = belief.mean.new_zeros(1, config.horizon, belief.mean.shape[1], 2)
        for k in torch.nonzero(moves[0])[:, 0].tolist():
            found, count = _searched(model, belief.mean[:, k:k + 1], belief.std[:, k:k + 1], preference, config, rng)
            actions[0, :, k], scored = actions.new_tensor(found), scored + count
    actions = actions * moves[:, None, :, None]
    chosen = moves[0]
    energy = expected_free_energy(model.dynamics, belief.mean[:, chosen], belief.std[:, chosen], actions[:, :, chosen],
                                  preference)
    return Pushes(actions[0], float(energy), scored, time.perf_counter() - began)


def _searched(model: OBAI, mean: Tensor, std: Tensor, preference: Preference, config: PushConfig,
              rng: np.random.Generator) -> tuple[NDArray[np.float64], int]:
    """Actions [T, 2] of one slot [1, 1, 2L] by CEM, and how many were scored."""
    def score(_: NDArray[np.intp], points: NDArray[np.float64]) -> NDArray[np.float64]:
        n = len(points)
        actions = mean.new_tensor(points)[:, :, None]
        belief = mean.expand(n, -1, -1), std.expand(n, -1, -1)
        energy = expected_free_energy(model.dynamics, *belief, actions, preference)
        return energy.double().numpy(force=True)
    bound = np.full(2, config.limit)
    found = optimise(Space(-bound, bound, horizon=config.horizon), score, config.search, rng)
    return found.points, found.scored


@torch.no_grad()
def action_field(model: OBAI, belief: Belief, actions: Tensor, certain: float) -> Tensor:
    """The field [1, 2, H, W] that gives the slots of a belief [1, K, 2L] their actions [K, 2].

    Each action is put at one pixel, that which the slot is surest of; a slot that is sure of none (hidden, or gone)
    gets none, since it would push something else.
    """
    masks = model.scene(belief).masks
    seen = masks.flatten(2).amax(2) >= certain
    return place_actions(torch.where(seen[..., None], actions[None], 0.0), masks)
