"""A streaming filter decodes each belief twice: to show it, and a frame later to refine it. Here once is enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from object_centric_ros.models.belief import Belief, Scene


class DecodedBeliefs:
    """Decoded means with the graph that leads to them, for as long as somebody holds the belief."""

    def __init__(self) -> None:
        self._kept = WeakTensorKeyDictionary()  # belief.mean -> (the belief with leaves for it, its attached scene)

    def decode(self, belief: Belief, decode: Callable[[Tensor], Scene]) -> Scene:
        """The scene of the belief's mean [B, K, D], detached; its graph is kept."""
        with torch.enable_grad():
            leaf = with_leaves(belief)
            scene = decode(leaf.mean)
        self._kept[belief.mean] = leaf, scene
        return Scene(scene.colours.detach(), scene.mask_logits.detach(), scene.empty)

    def find(self, belief: Belief) -> tuple[Belief, Scene] | None:
        """The belief with leaves and the scene attached to them; None where it was not decoded or is another's."""
        found = cast('tuple[Belief, Scene] | None', self._kept.get(belief.mean))
        if found is None:
            return None
        leaf, scene = found
        return replace(belief, mean=leaf.mean, log_std=belief.log_std.detach().requires_grad_()), scene

    def __deepcopy__(self, memo: object) -> DecodedBeliefs:
        return DecodedBeliefs()


def with_leaves(belief: Belief, attached: bool = False) -> Belief:
    """The belief with a mean and a log_std to differentiate by: cut from the graph, or, `attached`, those in one."""
    mean, log_std = (x if attached and x.requires_grad else x.detach().requires_grad_()
                     for x in (belief.mean, belief.log_std))
    return replace(belief, mean=mean, log_std=log_std)
