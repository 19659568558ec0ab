"""What every model of the house passes around: beliefs, scenes and the diagonal Gaussian.

Notation: B batch, K slots, D latent size, M size of the predictor's memory, H x W image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Belief:
    """Posterior parameters lambda = (mean, log_std) of all slots at one time.

    Attributes:
        mean: [B, K, D].
        log_std: [B, K, D], logarithm of the standard deviation.
        memory: [B, K, M], recurrent state of the dynamics (M = 0 for models without one).
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

    def detach(self) -> Belief:
        """The same numbers, cut from the graph (truncated backpropagation, streaming)."""
        return Belief(self.mean.detach(), self.log_std.detach(), self.memory.detach())

    def select(self, slots: Tensor) -> Belief:
        """The slots [B, K'] (int64) in that order."""
        def pick(x: Tensor) -> Tensor:
            return x.gather(1, slots[..., None].expand(-1, -1, x.shape[-1]))
        return Belief(pick(self.mean), pick(self.log_std), pick(self.memory))

    def repeat(self, n: int) -> Belief:
        """Each batch row n times in a row: [B * n, K, ...]."""
        return Belief(*(x.repeat_interleave(n, 0) for x in (self.mean, self.log_std, self.memory)))


@dataclass(frozen=True)
class Scene:
    """A decoded sample of a belief.

    Attributes:
        colours: [B, K, C, H, W], mean image of each slot.
        mask_logits: [B, K, H, W], before the softmax over slots.
    """

    colours: Tensor
    mask_logits: Tensor

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
