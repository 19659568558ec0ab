"""Several readings of one frame, of which the likeliest is taken.

A filter that follows a single guess stays wrong once the guess was wrong: a prediction that moves two slots of a tower,
a slot that slides onto its neighbour. So the frame after an executed action is read from several guesses, and from none
at all. The negative ELBO decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.cycle import CycleModel


@dataclass(frozen=True)
class Reading:
    """A frame as one guess explains it.

    Attributes:
        prior: the guess, that slots may fall back on; None for a reading from nothing, whose slots are in any order,
            and where it was told anew which slot is which entity.
        belief, scene: after refinement; batch 1.
        loss: negative ELBO of the frame, nats.
    """

    prior: Belief | None
    belief: Belief
    scene: Scene
    loss: float


@torch.no_grad()
def guesses(model: CycleModel, belief: Belief, action: Tensor | None, slot: int | None) -> list[Belief]:
    """What an executed action makes of the belief: as the model predicts it, and so for the picked slot alone."""
    predicted = model.predict(belief, action)
    if slot is None:
        return [predicted]
    alone = torch.arange(predicted.mean.shape[1], device=predicted.mean.device) == slot
    return [predicted, predicted.where(alone, belief)]


@torch.no_grad()
def read(model: CycleModel, image: Tensor, prior: Belief | None, iterations: int, action: Tensor | None,
         generator: torch.Generator) -> Reading:
    """Refine a guess (None: start from nothing) on the image [1, C, H, W]."""
    belief = model.infer(image, prior, None if prior is None else iterations, action, generator)
    scene = model.scene(belief)
    return Reading(prior, belief, scene, float(model.loss(belief, scene, image)[0]))


def likeliest(readings: list[Reading], margin: float) -> Reading:
    """The reading of the lowest loss; one from nothing must be `margin` nats better, as its identities are guessed."""
    return min(readings, key=lambda r: r.loss + (margin if r.prior is None else 0.0))
