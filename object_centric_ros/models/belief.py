"""What every model of the house passes around: beliefs, scenes and the diagonal Gaussian.

Notation: B batch, K slots, D latent size, M size of the predictor's memory, H x W image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

B = TypeVar('B', bound='Belief')


@dataclass(frozen=True)
class Belief:
    """Posterior parameters lambda of all slots at one time.

    A model whose inference carries more (a scale parameter that is not the log, a recurrent state, the prior) adds
    fields in a subclass: every field is a tensor [B, K, ...], so what follows treats them alike.

    Attributes:
        mean: [B, K, D].
        log_std: [B, K, D], logarithm of the standard deviation; -inf where the state is deterministic.
        memory: [B, K, M], recurrent or deterministic state that the dynamics write (M = 0 for models without one).
    """

    mean: Tensor
    log_std: Tensor
    memory: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation [B, K, D]."""
        return self.log_std.exp()

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """z = mean + std * noise [B, K, D] (reparametrised); without noise the mean itself."""
        return self.mean if noise is None else self.mean + self.std * noise

    def tensors(self) -> dict[str, Tensor]:
        """All fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def map(self: B, f: Callable[[Tensor], Tensor]) -> B:
        """f of every field."""
        return replace(self, **{k: f(v) for k, v in self.tensors().items()})

    def detach(self: B) -> B:
        """The same numbers, cut from the graph (truncated backpropagation, streaming)."""
        return self.map(Tensor.detach)

    def select(self: B, slots: Tensor) -> B:
        """The slots [B, K'] (int64) in that order."""
        def pick(x: Tensor) -> Tensor:
            index = slots.reshape(*slots.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
            return x.gather(1, index)
        return self.map(pick)

    def repeat(self: B, n: int) -> B:
        """Each batch row n times in a row: [B * n, K, ...]."""
        return self.map(lambda x: x.repeat_interleave(n, 0))

    def where(self: B, choose: Tensor, other: B) -> B:
        """These slots where `choose` [K] or [B, K] (bool) is true, the other's elsewhere."""
        choose = choose.expand(self.mean.shape[:2])
        theirs = other.tensors()
        return replace(self, **{k: torch.where(choose.reshape(*choose.shape, *[1] * (v.dim() - 2)), v, theirs[k])
                                for k, v in self.tensors().items()})


@dataclass(frozen=True)
class Scene:
    """A decoded sample of a belief.

    Attributes:
        colours: [B, K, C, H, W], mean image of each slot.
        mask_logits: [B, K, H, W], before the softmax over slots.
        empty: pixels where no slot draws anything [B, H, W] (bool), of models whose slots draw things alone; their
            masks mean nothing there. None: every pixel is some slot's.
    """

    colours: Tensor
    mask_logits: Tensor
    empty: Tensor | None = None

    @property
    def log_masks(self) -> Tensor:
        """log of the mixing weights [B, K, H, W]; their exponentials sum to one over slots."""
        return self.mask_logits.log_softmax(1)

    @property
    def masks(self) -> Tensor:
        """Mixing weights [B, K, H, W]."""
        return self.mask_logits.softmax(1)

    @property
    def image(self) -> Tensor:
        """The composed image sum_k m_k C_k [B, C, H, W]."""
        return (self.masks[:, :, None] * self.colours).sum(1)


def gaussian_kl(belief: Belief) -> Tensor:
    """KL(q || N(0, I)) of each slot [B, K], nats (PARTS section 3.1: prior independent of time, slot and feature)."""
    return 0.5 * (belief.mean ** 2 + (2 * belief.log_std).exp() - 1 - 2 * belief.log_std).sum(-1)


def gaussian_kl_between(q: Belief, p: Belief) -> Tensor:
    """KL(q || p) of each slot [B, K], nats; p is the predicted prior of an autoregressive model (OP3 eq. 3)."""
    ratio = (2 * (q.log_std - p.log_std)).exp()
    return 0.5 * (ratio + (q.mean - p.mean) ** 2 / (2 * p.log_std).exp() - 1 - ratio.log()).sum(-1)


def log_normal(x: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """log N(x | mean, sigma^2), elementwise."""
    return -0.5 * ((x - mean) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)
