"""What OBAI infers: beliefs over states and actions, and what a look at the images says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from object_centric_ros.models.belief import Belief, Scene


@dataclass(frozen=True)
class OBAIBelief(Belief):
    """Beliefs over states and actions at one frame, and the prior that the frame before gives them.

    mean and log_std [B, K, 2L] are of (s, s'), memory of the refinement network.

    Attributes:
        scale: what log_std is a function of [B, K, 2L]; its softplus is the variance.
        prior_mean, prior_variance: of the `Transition` to this frame, without the action [B, K, 2L].
        prior_spread: variance of prior_mean that is not integrated out but averaged over (eq. 8) [B, K, 2L].
        coupling: [B, K, 1], 0 for a first frame, 1 for later ones.
        action_mean, action_scale: likewise of the slot's acceleration before this frame, pixels [B, K, A].
        told: sum_i m_ik psi_i, what the action field says it is [B, K, A].
        acted: [B, K, 1], 1 where there was an action field, else 0.
        action_memory: of the action refinement network.
    """

    scale: Tensor
    prior_mean: Tensor
    prior_variance: Tensor
    prior_spread: Tensor
    coupling: Tensor
    action_mean: Tensor
    action_scale: Tensor
    told: Tensor
    acted: Tensor
    action_memory: Tensor


@dataclass(frozen=True)
class Look:
    """What the images of a window of frames say of the beliefs about them.

    Attributes:
        loss: [B], of the whole window.
        scene, log_likelihood, kl: of each frame [B * F, ...].
        expected: sum_i m_ik psi_i [B * F, K, A].
        seen: what the state refinement network sees of each frame [B * F, K, 16, H, W]; None: no update follows.
        gradients: of the loss by mean, scale, action_mean and action_scale, likewise.
    """

    loss: Tensor
    scene: Scene
    log_likelihood: Tensor
    kl: Tensor
    expected: Tensor
    seen: Tensor | None = None
    gradients: tuple[Tensor, ...] = ()


def join(window: OBAIBelief, newest: OBAIBelief, batch: int) -> OBAIBelief:
    """Windows [B * F, ...] and a frame more for each [B, ...] -> [B * (F + 1), ...]."""
    theirs = newest.tensors()
    return replace(window, **{k: torch.cat([v.unflatten(0, (batch, -1)), theirs[k][:, None]], 1).flatten(0, 1)
                              for k, v in window.tensors().items()})
