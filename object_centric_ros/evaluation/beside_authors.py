"""Ours and the authors' code side by side: the same weights, images and noise, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from object_centric_ros.evaluation.authors import AuthorsEfficientMORL, AuthorsOP3
from object_centric_ros.evaluation.reference import load_authors
from object_centric_ros.evaluation.timing import Work
from object_centric_ros.models.convert_emorl import efficientmorl_tensors
from object_centric_ros.models.efficientmorl import EfficientMORL, EfficientMORLConfig
from object_centric_ros.models.iodine import IodineBelief
from object_centric_ros.tracking.compiled import precise

TRAINING_BATCH = 4
"""B of training steps."""


class Pair(NamedTuple):
    """One thing that both do.

    Attributes:
        what: in words. slots, batch: K and B.
        ours, theirs: do it, and give the composed image [B, 3, H, W] of a frame, or the norm of the gradient of all
            parameters of a training step.
    """

    what: str
    slots: int
    batch: int
    ours: Work
    theirs: Work


def op3_pairs(checkout: Path, data: Path, seed: int, precision: str) -> Iterator[Pair]:
    """OP3 with the weights for pick and place, on the authors' episodes."""
    file, cpu = data / 'op3' / 'pick_place_curriculum.safetensors', torch.device('cpu')
    model = load_authors('op3_released_pick_place', file, cpu)
    slots = model.config.slots
    theirs = AuthorsOP3(checkout, load_file(file), slots, model.config.action_size)
    with np.load(data / 'op3' / 'pick_place_two_blocks.npz') as episodes:
        images = torch.from_numpy(episodes['frames'][:TRAINING_BATCH]).permute(0, 1, 4, 2, 3).contiguous() / 255
        actions = torch.from_numpy(episodes['actions'][:TRAINING_BATCH][..., [0, 1, 3, 4]]).float()
    noise = torch.randn(12, 1, slots, model.config.latent, generator=torch.Generator().manual_seed(seed))
    x, action = images[:1], actions[:1]
    with torch.no_grad():
        start: IodineBelief = model.start(1)
        for n in noise[:4]:
            start = model.refine(start, x[:, 0], None, n)
    state = theirs.run(x, action, None, [0] * 4, noise)[-1]

    def our_frame(refinements: int) -> Tensor:
        with torch.no_grad(), precise(precision, cpu):
            belief: IodineBelief = model.predict(start, action[:, 0], noise[4])
            for n in noise[5:5 + refinements]:
                belief = model.refine(belief, x[:, 1], None, n)
            return model.scene(belief, noise[5 + refinements]).image

    def our_first() -> Tensor:
        with torch.no_grad(), precise(precision, cpu):
            belief: IodineBelief = model.start(1)
            for n in noise[:4]:
                belief = model.refine(belief, x[:, 0], None, n)
            return model.scene(belief, noise[4]).image
    def run(state: object, schedule: list[int], noise: Tensor) -> Tensor:
        image: Tensor = theirs.run(x, action, state, schedule, noise)[2]
        return image
    for n in (1, 4):
        yield Pair(f'streaming frame, {n} refinements', slots, 1, partial(our_frame, n),
                   partial(run, state, [1] + [0] * n, noise[5:]))
    yield Pair('first frame, 4 refinements', slots, 1, our_first, partial(run, None, [0] * 4, noise))
    schedule, model = [0, 0, 0, 0, 1, 0], model.train().requires_grad_(True)
    drawn = torch.randn(7, TRAINING_BATCH, *noise.shape[2:], generator=torch.Generator().manual_seed(seed))
    told = torch.cat([torch.zeros_like(actions[:, :1]), actions], 1)

    def our_loss() -> Tensor:
        with precise(precision, cpu):
            return model.schedule_loss(images[:, :2], told, schedule, list(drawn))[0]

    def their_loss() -> Tensor:
        loss: Tensor = theirs.run(images[:, :2], actions, None, schedule, drawn, losses=True)[3]
        return loss
    yield Pair('training step, schedule 000010', slots, TRAINING_BATCH, step_of(model, our_loss),
               step_of(theirs.model, their_loss))


def efficientmorl_pairs(checkout: Path, data: Path, seed: int, precision: str) -> Iterator[Pair]:
    """EfficientMORL with the decoder of its CLEVR6 model at 64 pixels, K = 7, and the golden data's weights."""
    slots, cpu = 7, torch.device('cpu')
    tensors = load_file(data / 'golden' / 'emorl_weights.safetensors')
    with np.load(data / 'op3' / 'pick_place_two_blocks.npz') as episodes:
        images = torch.from_numpy(episodes['frames'][:TRAINING_BATCH, 0]).permute(0, 3, 1, 2).contiguous() / 255

    def build(iterations: int, batch: int) -> tuple[EfficientMORL, AuthorsEfficientMORL, list[Tensor]]:
        config = EfficientMORLConfig(slots=slots, curriculum_iterations=(iterations,), curriculum_steps=(), geco='off')
        model = EfficientMORL(config)
        model.load_state_dict(efficientmorl_tensors(tensors, model))
        noise = torch.randn(6 + iterations, batch, slots, config.latent, generator=torch.Generator().manual_seed(seed))
        return model, AuthorsEfficientMORL(checkout, tensors, slots, batch, iterations), list(noise)

    def frames(iterations: int) -> tuple[Work, Work]:
        model, theirs, noise = build(iterations, 1)
        model.eval().requires_grad_(False)
        theirs.model.eval()

        def our_frame() -> Tensor:  # the noise of the same seed
            with torch.no_grad(), precise(precision, cpu):
                belief = model.infer(images[:1], None, iterations, None, torch.Generator().manual_seed(seed))
                return model.scene(belief, noise[-1] if iterations else noise[3]).image

        def their_frame() -> Tensor:
            with torch.set_grad_enabled(iterations > 0):
                return theirs.run(images[:1], noise)[0].detach()
        return our_frame, their_frame
    for iterations in (0, 1):
        yield Pair(f'first frame, {iterations} refinements', slots, 1, *frames(iterations))
    model, theirs, noise = build(1, TRAINING_BATCH)

    def our_loss() -> Tensor:
        with precise(precision, cpu):
            return model.episode_loss(images[:, None], None, 0, torch.Generator().manual_seed(seed))[0]
    yield Pair('training step, 1 refinement', slots, TRAINING_BATCH, step_of(model.train(), our_loss),
               step_of(theirs.model.train(), lambda: theirs.run(images, noise)[1]))


def step_of(model: torch.nn.Module, loss: Work) -> Work:
    """A training step at a learning rate of zero, so that every step does the same; gives the gradient's norm."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.0)

    def work() -> Tensor:
        optimiser.zero_grad()
        loss().backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        return norm.detach()
    return work


PAIRS: dict[str, Callable[[Path, Path, int, str], Iterator[Pair]]] = {
    'op3': op3_pairs, 'efficientmorl': efficientmorl_pairs}
"""(checkout, reference data, seed, precision) -> what is compared, of each model whose code was published."""
