"""What a stage minimises: the papers' own objectives, and stages that only PARTS has."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from object_centric_ros.datasets.held_out import as_colour
from object_centric_ros.datasets.sequences import Item
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.cycle import CycleModel, ModelConfig, Terms, gaussian_noise
from object_centric_ros.models.initial import PARKED, parked
from object_centric_ros.models.likelihood import LIKELIHOODS
from object_centric_ros.models.parts import Parts, PartsConfig
from object_centric_ros.training.data import film, single_images
from object_centric_ros.training.settings import Stage

Pairs = tuple[Belief, Belief, Tensor]


@dataclass
class Draw:
    """One batch and the random numbers of its loss.

    Attributes:
        item: of the loader; empty for the objective 'dynamics'.
        step: optimisation steps so far.
        rng: choices that all batches of an optimisation step share.
        generator: noise of this batch alone.
        shard, shards: which of the batches of this step it is, over all processes.
    """

    item: Item
    step: int
    rng: np.random.Generator
    generator: torch.Generator
    shard: int = 0
    shards: int = 1


def override(model: CycleModel, config: ModelConfig, stage: Stage | None) -> None:
    """A stage's number of slots, and likelihood and KL weight for PARTS; None puts back the configuration's."""
    model.config = replace(model.config, slots=stage.slots if stage and stage.slots else config.slots)
    if isinstance(model, Parts) and isinstance(config, PartsConfig):
        likelihood, beta = (stage.likelihood, stage.beta) if stage else ('', -1.0)
        model.likelihood = LIKELIHOODS[likelihood or config.likelihood](config.sigma)
        model.config = replace(model.config, beta=beta if beta >= 0 else config.beta)


def stage_loss(model: CycleModel, stage: Stage, draw: Draw, autocast: torch.autocast, pairs: Pairs | None = None
               ) -> tuple[Tensor, Terms]:
    """The loss of a batch by the objective of a stage: a scalar, and numbers to log.

    Args:
        pairs: inferred beliefs, for the objective 'dynamics' (see `inferred`).
    """
    device = next(model.parameters()).device
    if stage.objective == 'dynamics':
        assert isinstance(model, Parts) and pairs is not None
        before, after, told = pairs
        chosen = draw.rng.integers(0, len(told), draw.shards * stage.batch)[draw.shard * stage.batch:][:stage.batch]
        rows = torch.from_numpy(chosen).to(device)
        return dynamics_loss(model, before.map(lambda x: x[rows]), after.map(lambda x: x[rows]), told[rows])
    if stage.objective == 'frames':
        assert isinstance(model, Parts)
        images = as_colour(single_images(draw.item, stage.arm_fraction).to(device))
        images = images.contiguous(memory_format=torch.channels_last)
        return frames_loss(model, images, draw.generator, autocast, stage.rounds)
    frames, actions = film(draw.item, draw.rng, stage.arm_fraction, stage.still_fraction)
    rgb = as_colour(frames.to(device))
    actions = None if actions is None else actions.to(device)
    if stage.objective == 'paper':
        images = model.observe(rgb.flatten(0, 1)).unflatten(0, rgb.shape[:2])
        with autocast:
            return model.episode_loss(images, actions, draw.step, draw.generator)
    assert isinstance(model, Parts)
    observed = rgb.shape[1]
    if draw.rng.random() < stage.unobserved:
        observed = int(draw.rng.integers(1, observed))
    with autocast:
        loss, terms = model.sequence_loss(rgb, actions, draw.generator, observed)
    return loss / rgb[0, 0, 0].numel(), terms


def frames_loss(model: Parts, images: Tensor, generator: torch.Generator, autocast: torch.autocast,
                rounds: int = 1) -> tuple[Tensor, Terms]:
    """Single images [B, 3, H, W]: first guess, refinements without gradient feedback, ELBO of the last belief.

    With two rounds, slots are also put on what the first round leaves unexplained, and refined once more.
    """
    with autocast:
        features = model.encode(images)
        belief = model.first(images, None, generator, features)
        for _ in range(model.config.first_iterations):
            belief = model.refine(belief, images, None, None, features, feedback=False)
        if rounds > 1:
            if parked(belief).any():  # else there is nothing to place, and a decoding to save
                belief = model.complete(belief, images)
            belief = model.refine(belief, images, None, None, features, feedback=False)
        noise = gaussian_noise(belief.mean.shape, generator, belief.mean)
        found = model.evaluate(belief, images, noise, gradient=False)
    with torch.no_grad():
        terms = {'nll': -found.log_likelihood.mean().item(), 'kl': found.kl.sum(1).mean().item(),
                 'mse': (found.scene.image - images).square().mean().item()}
    return found.loss.mean() / images[0, 0].numel(), terms


def dynamics_loss(model: Parts, before: Belief, after: Belief, action: Tensor) -> tuple[Tensor, Terms]:
    """Error of the predicted belief against the inferred one, slots paired by optimal assignment.

    Args:
        before, after: inferred beliefs [B, K, D], each on its own, so that slots need not correspond.
        action: [B, A] between them.
    """
    predicted = model.predict(before, action)
    weight = after.mean.new_ones(after.mean.shape[-1])
    if model.config.anchored:
        weight[:2] = 25.0  # positions live on a smaller scale than appearance
    distance = ((predicted.mean[:, :, None] - after.mean[:, None]).square() * weight).sum(-1)
    seen = (before.mean[:, :, 0].abs() < PARKED - 0.5)[:, :, None] & (after.mean[:, :, 0].abs() < PARKED - 0.5)[:, None]
    cost = torch.where(seen, distance.detach(), torch.full_like(distance, 1e4))
    pairs = torch.stack([torch.as_tensor(linear_sum_assignment(c)[1]) for c in cost.cpu().numpy()]).to(distance.device)
    matched = distance.gather(2, pairs[..., None]).squeeze(-1)
    valid = seen.gather(2, pairs[..., None]).squeeze(-1).float()
    # Robust: a slot that found another thing must not drag the dynamics.
    error = (matched * valid / (1 + matched.detach() / 20)).sum() / valid.sum().clamp(min=1)
    scale = (predicted.log_std - after.log_std.gather(1, pairs[..., None].expand_as(after.log_std))).square().mean(-1)
    found = after.mean.gather(1, pairs[..., None].expand_as(after.mean))[..., :2]
    position = (predicted.mean[..., :2] - found).square().sum(-1)
    terms = {'latent': error.item(), 'position': ((position * valid).sum() / valid.sum().clamp(min=1)).sqrt().item()}
    return error + 0.1 * (scale * valid).sum() / valid.sum().clamp(min=1), terms
