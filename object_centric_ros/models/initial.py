"""The belief before the first frame, and where its slots go once the background is explained."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief
from object_centric_ros.models.cycle import gaussian_noise

PARKED = 3.0  # a coordinate outside of the image: an anchored slot there attends to nothing and draws nothing


class InitialBelief(nn.Module):
    """Random slots around learned means.

    Symmetry between object slots is broken by noise alone, so any number of them can be drawn at run time. With
    `background` the first slot has a mean of its own and no noise: it learns to explain what no object explains.

    Args:
        latent: D.
        memory: M of the dynamics.
        background: whether slot 0 is the background's.
        anchored: whether the latent starts with a position; object slots are then parked until they are placed.
    """

    def __init__(self, latent: int, memory: int, background: bool, anchored: bool) -> None:
        super().__init__()
        self.latent, self.memory, self.background, self.anchored = latent, memory, background, anchored
        self.mean = nn.Parameter(0.1 * torch.randn(2, latent))
        self.spread = nn.Parameter(torch.full((latent,), -1.0))
        self.log_std = nn.Parameter(torch.full((2, latent), -2.0))

    def forward(self, batch: int, slots: int, generator: torch.Generator | None = None) -> Belief:
        """A belief of [batch, slots, D]; the generator must live on the parameters' device."""
        device = self.mean.device
        kind = torch.ones(slots, dtype=torch.long, device=device)
        if self.background:
            kind[0] = 0
        noise = gaussian_noise((batch, slots, self.latent), generator, self.mean)
        mean = self.mean[kind] + kind[None, :, None] * noise * self.spread.exp()
        log_std = self.log_std[kind].expand(batch, -1, -1)
        if self.anchored:
            where = PARKED * kind[None, :, None].expand(batch, -1, 2)
            mean = torch.cat([where, mean[..., 2:]], -1)
        return Belief(mean, log_std, mean.new_zeros(batch, slots, self.memory))


class ZeroBelief(nn.Module):
    """All parameters and states zero, so q = N(0, I): PARTS section 4. Slots then differ by the noise of their samples.

    Args:
        latent: D.
        memory: M of the dynamics.
    """

    def __init__(self, latent: int, memory: int) -> None:
        super().__init__()
        self.register_buffer('zero', torch.zeros(latent + memory), persistent=False)
        self.zero: Tensor
        self.sizes = (latent, latent, memory)

    def forward(self, batch: int, slots: int, generator: torch.Generator | None = None) -> Belief:
        """A belief of [batch, slots, D]; the generator is not used."""
        return Belief(*(self.zero.new_zeros(batch, slots, size) for size in self.sizes))


def seed_positions(image: Tensor, explained: Tensor, seeds: int, threshold: float = 0.1, reach: float = 0.35,
                   colour_reach: float = 0.2, core: float = 0.15) -> Tensor:
    """Places that an explanation of the image leaves unexplained, most salient first.

    The squared error, averaged over about the size of a small object, is searched for its maximum; around it, what
    is near in place and colour is taken as explained, and the search goes on. No labels and no learned detector.

    Args:
        image: [B, 3, H, W] in [0, 1].
        explained: [B, 3, H, W], the picture that is explained so far.
        seeds: n, how many places to look for.
        threshold: smoothed squared error below which nothing is left to explain.
        reach: standard deviation in image coordinates (image width = 2) of what a seed takes with it.
        colour_reach: the same in chromaticity (r, g, b) / (r + g + b).
        core: the same for what is taken whatever its colour.

    Returns:
        positions [B, n, 2] in [-1, 1] (u, v); PARKED where nothing was left.
    """
    h, w = image.shape[-2:]
    scale = 2
    error = (image - explained).square().sum(1, keepdim=True)
    size = 2 * (h // 32) + 1
    error = nn.functional.avg_pool2d(error, size, scale, size // 2, count_include_pad=False)[:, 0].flatten(1)
    small = nn.functional.avg_pool2d(image, 3, scale, 1, count_include_pad=False).flatten(2)
    small = small / (small.sum(1, keepdim=True) + 0.1)  # chromaticity: the same for the lit and the shaded side
    # -(-n // scale): odd sides are pooled to half of the next even number.
    v = (torch.arange(-(-h // scale), device=image.device) + 0.5) * (2 * scale / h) - 1
    u = (torch.arange(-(-w // scale), device=image.device) + 0.5) * (2 * scale / w) - 1
    coordinates = torch.stack(torch.meshgrid(v, u, indexing='ij')[::-1], -1).flatten(0, 1)
    positions = []
    for _ in range(seeds):
        peak, index = error.max(1)
        where = coordinates[index]
        colour = small.gather(2, index[:, None, None].expand(-1, 3, 1))
        near = (coordinates[None] - where[:, None]).square().sum(-1) / (2 * reach ** 2)
        alike = (small - colour).square().sum(1) / (2 * colour_reach ** 2)
        error = error * (1 - torch.exp(-near - alike)).clamp(min=0)
        # What lies right at the seed is taken whatever its colour is (shaded faces, anti-aliased edges).
        error = error * (1 - torch.exp(-(near * (reach / core) ** 2) ** 2)).clamp(min=0)
        positions.append(torch.where(peak[:, None] > threshold, where, torch.full_like(where, PARKED)))
    return torch.stack(positions, 1)


def parked(belief: Belief) -> Tensor:
    """Which slots wait outside of the image [B, K] (anchored beliefs)."""
    return belief.mean[..., 0] > PARKED - 0.5


def place_parked(belief: Belief, where: Tensor) -> Belief:
    """The belief with its parked slots put on the places [B, n, 2], in order, as far as either reaches."""
    waiting = parked(belief)
    rank = waiting.cumsum(1) - 1
    use = waiting & (rank < where.shape[1])
    target = where.gather(1, rank.clamp(0, where.shape[1] - 1)[..., None].expand(-1, -1, 2)).to(belief.mean.dtype)
    mean = torch.cat([torch.where(use[..., None], target, belief.mean[..., :2]), belief.mean[..., 2:]], -1)
    return replace(belief, mean=mean)
