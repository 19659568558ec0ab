"""Losses of the stages that only PARTS has, beside the papers' own; means per pixel, so that their sizes compare."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from object_centric_ros.models.belief import Belief
from object_centric_ros.models.cycle import Terms, gaussian_noise
from object_centric_ros.models.initial import PARKED
from object_centric_ros.models.parts import Parts


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
            belief = model.refine(model.complete(belief, images), images, None, None, features, feedback=False)
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
