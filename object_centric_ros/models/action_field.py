"""Action fields: accelerations at pixels, and what they amount to for each slot (OBAI section 2.2, appendix D).

A field psi [B, 2, H, W] gives the acceleration (u right, v down; pixels per frame squared) applied at each pixel; zero
almost everywhere. A slot receives the sum over the pixels that are its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def object_actions(masks: Tensor, field: Tensor) -> Tensor:
    """a_k = sum_i m_ik psi_i (mean of eq. 7): [B, K, 2] from masks [B, K, H, W] (soft or one-hot) and field."""
    return (masks[:, :, None] * field[:, None]).sum((-2, -1))  # no matrix product: autocast would round it


def place_actions(actions: Tensor, masks: Tensor) -> Tensor:
    """A field [B, 2, H, W] that gives each slot its action [B, K, 2] at the pixel that is most surely its own.

    With certain masks [B, K, H, W] in which every slot has a pixel, `object_actions` undoes it.
    """
    pixel = masks.flatten(2).argmax(-1)
    field = actions.new_zeros(len(actions), actions.shape[-1], masks[0, 0].numel())
    field.scatter_add_(2, pixel[:, None].expand(-1, actions.shape[-1], -1), actions.transpose(1, 2))
    return field.unflatten(2, masks.shape[2:])


def sample_assignment(log_masks: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Gumbel-softmax sample of each pixel's slot (eq. 22; Jang et al. 2016): [B, K, H, W], one over slots.

    Args:
        log_masks: log-probabilities [B, K, H, W], up to a constant per pixel.
        temperature: tau > 0; towards 0 the samples become one-hot.
    """
    exponential = torch.empty_like(log_masks, dtype=torch.float32).exponential_(generator=generator)
    gumbel = -exponential.clamp(min=torch.finfo(torch.float32).tiny).log().to(log_masks.dtype)
    return ((log_masks + gumbel) / temperature).softmax(1)


def temperature_at(step: int, start: float, end: float, steps: int) -> float:
    """tau falls geometrically from start to end over that many optimisation steps and stays there.

    The paper reduces tau "gradually across training epochs" (appendix D) and gives neither values nor shape.
    """
    return start * (end / start) ** min(step / steps, 1.0)


def action_kl(mean: Tensor, log_std: Tensor, told: Tensor, sigma: float) -> Tensor:
    """KL(q(a) || N(told, sigma^2)) of each slot, nats: -H(q(a)) - E_q(a) log p(a | psi, m) (eq. 8, 21).

    Eq. 20-21 estimate the expectation with one sample of a and one of the assignment m. Only the one of m (in `told`)
    is needed: over a it is this closed form.

    Args:
        mean, log_std: [..., A] of the action belief.
        told: sum_i m_ik psi_i [..., A].
        sigma: sigma_psi of eq. 7.
    """
    squared = (mean - told) ** 2 + (2 * log_std).exp()
    return (0.5 * (squared / sigma ** 2 - 1) - log_std + math.log(sigma)).sum(-1)
