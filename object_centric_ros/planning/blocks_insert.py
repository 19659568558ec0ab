"""One more entity in a scene that is known: only its slot is inferred and predicted, for many pictures at once.

The published planner explains each candidate's picture anew, all slots of it. What was there before has not changed:
its slots keep their beliefs and pictures, and one fresh slot is refined until it explains what is new.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.interaction import InteractionDynamics
from object_centric_ros.models.iodine import IodineBelief
from object_centric_ros.models.op3 import OP3, OP3Belief
from object_centric_ros.models.scale import softplus_log_std


@torch.no_grad()
def inserted(model: OP3, present: Scene, images: Tensor, iterations: int, generator: torch.Generator) -> OP3Belief:
    """Beliefs of one fresh slot for each picture [N, 1, ...] that shows the present scene and one thing more.

    Args:
        model: at the resolution of the pictures.
        present: the scene without it [1, K, ...].
        images: [N, 3, H, W].
        iterations: refinements, each from a sample.
    """
    belief = model.start(len(images), 1)
    for _ in range(iterations):
        belief = _refine(model, present, belief, images, model.noise(belief, generator))
    return belief


def _refine(model: OP3, present: Scene, belief: OP3Belief, images: Tensor, noise: Tensor) -> OP3Belief:
    """`Iodine.refine` for the last slot; gradients of the others are not taken."""
    n = len(images)
    with torch.enable_grad():
        leaf = replace(belief, mean=belief.mean.detach().requires_grad_(), raw=belief.raw.detach().requires_grad_())
        new = model.decode(model.latents(replace(leaf, log_std=softplus_log_std(leaf.raw)), noise))
        divergence = model.divergence(leaf).sum()
    scene = Scene(torch.cat([present.colours.expand(n, -1, -1, -1, -1), new.colours.detach()], 1),
                  torch.cat([present.mask_logits.expand(n, -1, -1, -1), new.mask_logits.detach()], 1))
    colours, logits, masks = (-g[:, -1:] for g in model.likelihood.gradients(images, scene))
    by_mean, by_raw = torch.autograd.grad(
        (new.colours, new.mask_logits, divergence), (leaf.mean, leaf.raw),
        (colours, logits, torch.full_like(divergence, model.config.beta)))
    seen = _feedback(model, images, scene, colours, masks)
    vectors = torch.cat([model.mean_norm(by_mean), model.raw_norm(by_raw), belief.mean, belief.raw,
                         belief.sample(noise)], -1)
    parameters, hidden, cell = model.refinement(seen, vectors, torch.cat([belief.mean, belief.raw], -1), belief.hidden,
                                                belief.cell)
    mean, raw = parameters.chunk(2, -1)
    return replace(belief, mean=mean, log_std=softplus_log_std(raw), raw=raw, hidden=hidden, cell=cell)


def _feedback(model: OP3, images: Tensor, scene: Scene, colours: Tensor, masks: Tensor) -> Tensor:
    """What the refinement of the last slot sees [N, 1, 17, H, W]; see `ImageFeedback`, which computes all slots'."""
    f = model.feedback
    components = model.likelihood.components(images, scene)
    explained = scene.masks * components.exp()
    likelihood = explained.sum(1, keepdim=True)
    assert f.leave_one_out_norm is not None
    posterior = model.likelihood.posterior(components)[:, -1:]
    n = len(images)
    return torch.cat([
        images[:, None], scene.colours[:, -1:], scene.masks[:, -1:, None], scene.mask_logits[:, -1:, None],
        posterior[:, :, None], f.mask_norm(masks[:, :, None]), f.likelihood_norm(likelihood[:, :, None]),
        f.leave_one_out_norm((likelihood - explained[:, -1:])[:, :, None]), f.colour_norm(colours),
        f.grid.expand(n, 1, -1, -1, -1)], 2)


@torch.no_grad()
def settled(model: OP3, present: Tensor, new: IodineBelief) -> Tensor:
    """Latents of all slots [N, K + 1, Z] when what was let go has settled, the new one last.

    Args:
        present: latents of the scene without it [1, K, Z].
        new: beliefs of the new slot [N, 1, ...].
    """
    state = torch.cat([present.expand(len(new.mean), -1, -1), model.latents(new)], 1)
    dynamics = cast(InteractionDynamics, model.dynamics)
    merged = dynamics.interact(state).merged
    return torch.cat([head(merged) for head in list(dynamics.heads)[:2]], -1)
