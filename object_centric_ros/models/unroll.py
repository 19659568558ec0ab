"""What a belief comes to on an image that does not change (PARTS section 5.1; any model of the cycle)."""

from __future__ import annotations

import torch
from torch import Tensor

from object_centric_ros.models.belief import Belief
from object_centric_ros.models.cycle import CycleModel


@torch.no_grad()
def unroll_static(model: CycleModel, image: Tensor, steps: int, generator: torch.Generator
                  ) -> tuple[Belief, Tensor, Tensor]:
    """Filter one image [B, C, H, W] again and again, predicted without an action in between.

    Returns:
        the last belief, and the KL (nats) and the mean squared error after each step [steps, B].
    """
    belief, kls, errors = model.infer(image, generator=generator), [], []
    for t in range(steps):
        if t:
            belief = model.infer(image, model.predict(belief), generator=generator)
        scene = model.scene(belief)
        kls.append(model.loss(belief, scene, image)[2].sum(1))
        errors.append((scene.image - image).square().mean((1, 2, 3)))
    return belief, torch.stack(kls), torch.stack(errors)
