"""A trained model at a fraction of its resolution: its own weights, on every second or fourth pixel.

Features of a convolutional decoder change little from pixel to pixel. If they are taken to be linear between the pixels
of a coarser grid, then a 5 x 5 kernel on the fine grid is a 3 x 3 kernel on the coarse one: each tap is shared among
the coarse pixels that it lies between. Nothing is trained. A picture of stride 2 costs about a tenth of a full one, one
of stride 4 about a fortieth; what is decoded are the same pixels, so that costs at all resolutions can be compared.
"""

from __future__ import annotations

from dataclasses import replace
from math import floor
from typing import cast

import torch
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder
from object_centric_ros.models.op3 import OP3


def coarsened(model: OP3, stride: int) -> OP3:
    """The model on the pixels 0, stride, 2 stride, ... of its images, in eval mode and without gradients.

    Refinement works too: losses are sums over pixels, so the weight of the KL term falls with their number. Inference
    is that of a single image (`batch_mean_gradients` off), whatever the batch.

    Args:
        model: with one decoder and one refinement for all slots, kernels of 5, and zero padding.
        stride: 1 (the model itself, shared weights), 2 or 4.

    Raises:
        InputError: another stride, or a model that this does not fit.
    """
    c = model.config
    if stride not in (1, 2, 4) or c.image_size % stride:
        raise InputError('coarse stride', f'1, 2 or 4, a divisor of the image size {c.image_size}', stride)
    if not c.share_weights or c.refinement_stride != 1:
        raise InputError('coarse model', 'shared weights and convolutions of stride 1', c.name)
    kernel, decoder_kernel = len(taps(c.refinement_kernel, stride)), len(taps(c.decoder_kernel, stride))
    coarse = type(model)(replace(c, image_size=c.image_size // stride, decoder_kernel=decoder_kernel,
                                 refinement_kernel=kernel, beta=c.beta / stride ** 2, batch_mean_gradients=False))
    weights = {name: _resampled(name, value, stride) for name, value in model.state_dict().items()}
    coarse.load_state_dict(weights)
    _same_pixels(coarse, model, stride)
    return coarse.eval().requires_grad_(False).to(model.initial_mean.device)


def subsampled(images: Tensor, stride: int) -> Tensor:
    """The pixels [..., H / stride, W / stride] that a coarse model sees and draws."""
    return images[..., ::stride, ::stride]


def taps(kernel: int, stride: int) -> list[list[float]]:
    """What each tap of a fine kernel gives to the taps of the coarse one: [coarse][fine], columns sum to one."""
    half = kernel // 2
    reach = -(-half // stride)
    shares = [[0.0] * kernel for _ in range(2 * reach + 1)]
    for offset in range(-half, half + 1):
        below = floor(offset / stride)
        part = offset / stride - below
        shares[below + reach][offset + half] += 1 - part
        if part:
            shares[below + 1 + reach][offset + half] += part
    return shares


def _resampled(name: str, value: Tensor, stride: int) -> Tensor:
    if value.dim() != 4 or stride == 1:
        return value
    share = torch.tensor(taps(value.shape[-1], stride), dtype=value.dtype, device=value.device)
    return torch.einsum('ay,oiyx,bx->oiab', share, value, share)


def _same_pixels(coarse: OP3, model: OP3, stride: int) -> None:
    """The coordinates of those pixels; at the border the coarse picture ends a little earlier than the fine one."""
    coarse.feedback.grid = subsampled(model.feedback.grid, stride).clone()
    decoder, fine = cast(SpatialBroadcastDecoder, coarse.decoder), cast(SpatialBroadcastDecoder, model.decoder)
    decoder.grid = subsampled(fine.grid, stride).clone()
