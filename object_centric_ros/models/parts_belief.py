"""What PARTS carries from step to step: its beliefs, and what a look at the image says of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from object_centric_ros.models.belief import Belief, Scene


@dataclass(frozen=True)
class PartsBelief(Belief):
    """A belief whose inference carries more than the posterior.

    Attributes:
        prior: mean and log_std that the predictor gave [B, K, 2D]; [B, K, 0] where the prior is fixed.
        state: of the refinement network's LSTM [B, K, S]; S = 0 for slot attention. Predictions keep it: with one
            refinement a frame, it would be no memory otherwise (OP3, which refines more often, clears it).
    """

    prior: Tensor
    state: Tensor


@dataclass(frozen=True)
class Evaluation:
    """A guess decoded and held against the image.

    Attributes:
        loss: [B], nats; log_likelihood: [B, H, W]; kl: [B, K].
        scene: the decoded sample.
        gradient: dL/d(mean, log_std) [B, K, 2D], normalised and cut from the graph; None where nobody asked for it.
    """

    loss: Tensor
    log_likelihood: Tensor
    kl: Tensor
    scene: Scene
    gradient: Tensor | None
