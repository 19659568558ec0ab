"""Refinement by a network that sees how well the belief explains the image (IODINE, Greff et al. 2019).

`ImageFeedback` puts together what the network sees at each pixel, `StandardNorm` brings gradients to one scale, and
`RefinementNetwork` turns both into new posterior parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.convolution import convolve, one_at_a_time
from object_centric_ros.models.errors import InputError


class StandardNorm(nn.Module):
    """gain (x - mean) / (std + eps) + bias over the last axes, std with n - 1; each sample and slot on its own.

    Args:
        features: F, length of gain and bias.
        pixels: normalise [..., F, H, W] over all three, with gain and bias a channel; False: [..., F] over the last.
        eps: added to the standard deviation, so that small gradients stay small.
    """

    def __init__(self, features: int, pixels: bool, eps: float) -> None:
        super().__init__()
        self.axes, self.eps = ((-3, -2, -1) if pixels else (-1,)), eps
        self.gain = nn.Parameter(torch.rand(features) if pixels else torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """[..., F] or [..., F, H, W] -> the same shape."""
        std, mean = torch.std_mean(x, self.axes, keepdim=True)
        shape = (-1, *[1] * (len(self.axes) - 1))
        return (x - mean) / (std + self.eps) * self.gain.view(shape) + self.bias.view(shape)


class ImageFeedback(nn.Module):
    """The image-sized inputs of the refinement (OP3 appendix 6.4, IODINE appendix B), in this order:

    image C, colours C, mask 1, mask logit 1, mask posterior p_k / sum_j p_j 1, gradient of the mask 1, likelihood
    sum_j m_j p_j 1, leave-one-out likelihood (without slot k) 1, gradient of the colours C, (u, v) 2. Gradients and
    likelihoods are normalised and cut from the graph.

    Args:
        image_size: H = W.
        image_channels: C.
        leave_one_out: whether the leave-one-out likelihood is among them.
    """

    def __init__(self, image_size: int, image_channels: int = 3, leave_one_out: bool = True) -> None:
        super().__init__()
        self.channels = 3 * image_channels + 7 + leave_one_out
        self.mask_norm = StandardNorm(1, True, 1e-5)
        self.likelihood_norm = StandardNorm(1, True, 1e-5)
        self.leave_one_out_norm = StandardNorm(1, True, 1e-5) if leave_one_out else None
        self.colour_norm = StandardNorm(image_channels, True, 1e-5)
        line = torch.linspace(-1, 1, image_size)
        self.register_buffer('grid', torch.stack(torch.meshgrid(line, line, indexing='xy')), persistent=False)
        self.grid: Tensor

    def forward(self, image: Tensor, scene: Scene, components: Tensor, colour_gradient: Tensor, mask_gradient: Tensor,
                posterior: Tensor | None = None) -> Tensor:
        """Everything that a slot's network sees of the image.

        Args:
            image: [B, C, H, W].
            scene: of K slots.
            components: log p_k of each pixel [B, K, H, W], as if it were slot k's.
            colour_gradient, mask_gradient: of the loss, by the colours [B, K, C, H, W] and masks [B, K, H, W].
            posterior: of the masks [B, K, H, W], where the likelihood has a form of its own.

        Returns:
            [B, K, channels, H, W].
        """
        b, k = scene.mask_logits.shape[:2]
        masks = scene.masks
        posterior = components.softmax(1) if posterior is None else posterior
        with torch.no_grad():
            explained = masks * components.exp()
            likelihood = explained.sum(1, keepdim=True)
        inputs = [image[:, None].expand(-1, k, -1, -1, -1), scene.colours, masks[:, :, None],
                  scene.mask_logits[:, :, None], posterior[:, :, None],
                  self.mask_norm(mask_gradient.detach()[:, :, None]),
                  self.likelihood_norm(likelihood[:, :, None]).expand(-1, k, -1, -1, -1)]
        if self.leave_one_out_norm is not None:
            inputs.append(self.leave_one_out_norm((likelihood - explained)[:, :, None]))
        inputs += [self.colour_norm(colour_gradient.detach()), self.grid.to(masks.dtype).expand(b, k, -1, -1, -1)]
        return torch.cat(inputs, 2)


class RefinementNetwork(nn.Module):
    """(image-sized inputs, vectors) of a slot -> its new posterior parameters; the same network for every slot.

    Convolutions, pooling, a layer, then an LSTM on that and the vectors, and a linear head for each parameter.

    Args:
        images: channels of the image-sized inputs; 0 = none, and no convolutions.
        vectors: V, size of the vector inputs.
        parameters: sizes of the posterior parameters, e.g. (64, 64) of mean and scale; P is their sum.
        channels, kernel, stride: of the convolutions.
        padding: 'same' (kernel // 2) or 'valid'.
        image_size: H = W; what `pool='flatten'` leaves depends on it.
        pool: 'average' over the pixels, or 'flatten'.
        hidden: width of the layer behind the pooling.
        memory: size of the LSTM.
        additive: whether the output is added to the parameters (IODINE) or replaces them (OP3).
    """

    def __init__(self, images: int, vectors: int, parameters: Sequence[int], channels: Sequence[int] = (32, 32, 64),
                 kernel: int = 5, stride: int = 1, padding: str = 'same', image_size: int = 64, pool: str = 'average',
                 hidden: int = 128, memory: int = 128, additive: bool = False) -> None:
        super().__init__()
        if pool not in ('average', 'flatten') or padding not in ('same', 'valid'):
            raise InputError('refinement', "pool 'average' or 'flatten', padding 'same' or 'valid'", (pool, padding))
        if bool(images) != bool(channels):
            raise InputError('refinement channels', 'convolutions if, and only if, there are image inputs', channels)
        self.pool, self.additive, self.memory = pool, additive, memory
        self.convolutions = nn.ModuleList()
        previous, size = images, image_size
        for width in channels:
            margin = kernel // 2 if padding == 'same' else 0
            self.convolutions.append(nn.Conv2d(previous, width, kernel, stride, margin))
            previous, size = width, (size + 2 * margin - kernel) // stride + 1
        if channels and size < 1:
            raise InputError('refinement image_size', 'pixels left after the convolutions', image_size)
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster, above all on CPUs
        self.layer = nn.Linear(previous * (size ** 2 if pool == 'flatten' else 1), hidden) if channels else None
        self.recurrence = nn.LSTMCell(vectors + (hidden if channels else 0), memory)
        self.heads = nn.ModuleList(nn.Linear(memory, p) for p in parameters)
        for convolution in self.convolutions:
            nn.init.xavier_uniform_(convolution.weight)  # type: ignore[arg-type]
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        if self.layer is not None:  # so that the first updates follow the vectors
            nn.init.uniform_(self.layer.weight, -1e-4, 1e-4)
            nn.init.uniform_(self.layer.bias, -1e-4, 1e-4)

    def forward(self, images: Tensor | None, vectors: Tensor, parameters: Tensor, hidden: Tensor, cell: Tensor
                ) -> tuple[Tensor, Tensor, Tensor]:
        """One update.

        Args:
            images: [B, K, images, H, W], or None where there are none.
            vectors: [B, K, V].
            parameters: [B, K, P], one behind the other.
            hidden, cell: state of the LSTM [B, K, memory].

        Returns:
            the new parameters, hidden and cell.
        """
        if images is not None:
            vectors = torch.cat([self.look(images).to(vectors.dtype), vectors], -1)
        with torch.autocast(vectors.device.type, enabled=False):  # costs nothing, and parameters keep their digits
            h, c = self.recurrence(vectors.flatten(0, 1), (hidden.flatten(0, 1), cell.flatten(0, 1)))
            out = torch.cat([head(h) for head in self.heads], -1).unflatten(0, hidden.shape[:2])
        new = parameters + out if self.additive else out
        return new, h.unflatten(0, hidden.shape[:2]), c.unflatten(0, hidden.shape[:2])

    def look(self, images: Tensor) -> Tensor:
        """Image-sized inputs [B, K, images, H, W] -> [B, K, hidden]."""
        assert self.layer is not None
        x = images.flatten(0, 1)
        layers = cast(list[nn.Conv2d], list(self.convolutions))
        if layers[0].stride == (1, 1) and one_at_a_time(x, layers[0].weight):
            x = convolve(x, layers, 'elu', behind=True)
        else:
            for layer in layers:
                x = nn.functional.elu(layer(x), inplace=True)
        x = x.mean((2, 3)) if self.pool == 'average' else x.flatten(1)
        return nn.functional.elu(self.layer(x)).unflatten(0, images.shape[:2])
