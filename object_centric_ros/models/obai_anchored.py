"""What an anchored OBAI has that the paper's has not: states that begin with a position.

The linear dynamics of eq. 5-6 hold exactly for a position and its rate. With `anchored` the first two features of s are
a position in the image, the decoder draws a slot around it, the refinement network looks at a window around it, and
the slots of a first frame are put where the background leaves the image unexplained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.decoder import BroadcastDecoder
from object_centric_ros.models.encoder import grid_coordinates

UNIT = 0.25
"""Image coordinates (image width = 2) of one unit of the state, so that the prior N(0, 1) and sigma_s suit places."""
ALIKE, NEAR, CORE, EDGES = 0.3, 0.4, 0.2, 0.02
"""Of seeds: what is alike (standard deviation in RGB), what may be the same thing, what lies right there (image
coordinates), and the weight of edges."""


def places(z: Tensor) -> Tensor:
    """Positions [..., 2] (u, v) in image coordinates of latents [..., Z] of things."""
    return UNIT * z[..., :2]


def compact(slots: int, like: Tensor) -> Tensor:
    """[K]: 0 for the background's slot, the first, and 1 for the others."""
    local = like.new_ones(slots)
    local[0] = 0
    return local


class AnchoredDecoder(nn.Module):
    """Latents -> scene by a coarse broadcast grid in coordinates relative to the slot's position (PARTS' decoder).

    Args:
        latent: Z, size of what is decoded.
        image_size: H = W; a multiple of `grid`.
        channels: widths of the convolutions, all alike.
        grid: side of the broadcast grid.
    """

    def __init__(self, latent: int, image_size: int, channels: tuple[int, ...], grid: int) -> None:
        super().__init__()
        self.drawer = BroadcastDecoder(latent, image_size, channels[0], len(channels), grid, True)

    def forward(self, z: Tensor, things: bool = False) -> Scene:
        """Latents [B, K, Z] -> scene; `things`: none of the slots is the background's."""
        local = z.new_ones(z.shape[1]) if things else compact(z.shape[1], z)
        return self.drawer(torch.cat([places(z) * local[:, None], z[..., 2:]], -1), local)


class Glimpse(nn.Module):
    """The part of image-sized inputs that a slot's network looks at, sampled from around the slot.

    Args:
        reach: half of a window's side in image coordinates (image width = 2).
        size: side of what it is sampled to, pixels.
    """

    def __init__(self, reach: float, size: int) -> None:
        super().__init__()
        self.reach = reach
        self.register_buffer('window', grid_coordinates(size, size), persistent=False)
        self.window: Tensor

    def forward(self, seen: Tensor, state: Tensor) -> Tensor:
        """Inputs [B, K, C, H, W] and states [B, K, L] -> [B, K, C, size, size]; zeros lie outside of the image, and the
        background's window is all of it."""
        local = compact(state.shape[1], state)[:, None]
        centre, reach = places(state.detach()) * local, 1 + (self.reach - 1) * local[:, :, None, None]
        grid = (reach * self.window + centre[:, :, None, None]).flatten(0, 1)
        with torch.autocast(seen.device.type, enabled=False):
            out = functional.grid_sample(seen.flatten(0, 1), grid.to(seen.dtype), align_corners=False)
        return out.unflatten(0, seen.shape[:2])


def seeds(image: Tensor, background: Tensor, count: int, reach: float) -> Tensor:
    """First two features [B, count, 2] of things where the background leaves the image [B, 3, H, W] unexplained, most
    salient first.

    The squared error is searched for its maximum, and the seed is put in the middle of what is alike around it. What is
    alike in colour and near in place, or right there, is taken as explained, and the search goes on. The error counts
    where the neighbours have it too, so that edges, whose colours are mixed, are not taken for things of their own. No
    labels and no learned detector.

    Args:
        reach: standard deviation in image coordinates (image width = 2) of what a seed takes with it.
    """
    height, width = image.shape[-2:]
    places = grid_coordinates(height, width, image.device).flatten(0, 1)
    error, colours = (image - background).square().sum(1, keepdim=True), image.flatten(2)
    inside, around = -functional.max_pool2d(-error, 3, 1, 1), functional.avg_pool2d(error, 3, 1, 1)
    left, found = (inside + EDGES * around).flatten(1), []
    for _ in range(count):
        index = left.argmax(1)
        away = (places - places[index][:, None]).square().sum(-1)
        colour = colours.gather(2, index[:, None, None].expand(-1, 3, 1))
        unlike = (colours - colour).square().sum(1) / (2 * ALIKE ** 2)
        its = left * torch.exp(-9 * unlike - away / (2 * NEAR ** 2))
        found.append((its[..., None] * places).sum(1) / its.sum(1, keepdim=True).clamp(min=1e-9))
        left = left * (1 - torch.exp(-away / (2 * reach ** 2) - unlike))
        left = left * (1 - torch.exp(-(away / (2 * CORE ** 2)) ** 2))
    return torch.stack(found, 1) / UNIT
