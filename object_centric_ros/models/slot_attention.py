"""Slot Attention (Locatello et al. 2020), the baseline of EfficientMORL: deterministic slots, an autoencoder's loss.

    start   slots ~ N(mu, sigma)                                                      line 1 of Algorithm 1
    refine  slots = GRU(attention(slots, x), slots),  slots += MLP(LN(slots))         lines 4 to 9
    decode  y_k, pi_k = D(slot_k), softmax over slots                                 section 3.1 (object discovery)
    loss    squared error of sum_k pi_k y_k

On video, the slots of the frame before are where the next frame starts (as in SAVi, Kipf et al. 2022, without its
predictor).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.cycle import CycleModel, ModelConfig, Terms, gaussian_noise
from object_centric_ros.models.deconvolution import slot_decoder
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.hierarchy import residual_mlp
from object_centric_ros.models.scale import softplus_log_std
from object_centric_ros.models.slots import PixelEncoder, SlotReader


@dataclass(frozen=True)
class SlotAttentionConfig(ModelConfig):
    """Sizes; the defaults are those of the baseline in EfficientMORL's code.

    Attributes:
        first_iterations: rounds of attention on a first frame, and of all frames while training; iterations: on each
            later one.
        latent: D, size of a slot.
        features: width of the encoder; encoder_stride: of its first convolution.
        decoder: 'iodine', 'small', 'big' or 'shuffle' (see `deconvolution.slot_decoder`); decoder_channels: its width;
            decoder_grid: side of the grid that 'shuffle' tiles the slots over, a divisor of image_size.
    """

    name: ClassVar[str] = 'slot_attention'
    first_iterations: int = 3
    iterations: int = 1
    latent: int = 64
    features: int = 64
    encoder_stride: int = 1
    decoder: str = 'small'
    decoder_channels: int = 32
    decoder_grid: int = 0

    def __post_init__(self) -> None:
        if self.encoder_stride < 1:
            raise InputError('model.encoder_stride', 'at least 1', self.encoder_stride)


class SlotAttention(CycleModel):
    """The model; its methods are the cycle. Images are float32 [B, 3, H, W] in [0, 1]."""

    paper = 'Locatello et al. 2020'
    config: SlotAttentionConfig

    def __init__(self, config: SlotAttentionConfig) -> None:
        super().__init__()
        c = self.config = config
        self.initial_mean = nn.Parameter(torch.zeros(c.latent))
        self.initial_scale = nn.Parameter(torch.ones(c.latent))
        self.encoder = PixelEncoder(c.image_size, c.features, stride=c.encoder_stride)
        self.reader = SlotReader(c.latent, c.features)
        self.gru = nn.GRUCell(c.latent, c.latent)
        self.mlp = residual_mlp(c.latent)
        self.decoder = slot_decoder(c.decoder, c.latent, c.image_size, c.decoder_channels, c.decoder_grid)

    def belief(self, slots: Tensor) -> Belief:
        """Slots [B, K, D] as a belief without uncertainty."""
        return Belief(slots, torch.full_like(slots, -torch.inf), slots[..., :0])

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> Belief:
        """Samples of one learned Gaussian, whose variance is the softplus of its scale parameter."""
        shape = (batch, slots or self.config.slots, self.config.latent)
        noise = gaussian_noise(shape, generator, self.initial_mean)
        return self.belief(self.initial_mean + softplus_log_std(self.initial_scale).exp() * noise)

    def encode(self, image: Tensor) -> Tensor:
        """Features [B, N, F] of an image."""
        return self.encoder(2 * image - 1)

    def decode(self, z: Tensor) -> Scene:
        """Slots [B, K, D] -> colours in [0, 1] and mask logits."""
        return self.decoder(z)

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squared error of each image [B], minus that of each pixel [B, H, W], and no KL: zeros [B, K]."""
        fit = -(scene.image - image).square().sum(1)
        return -fit.sum((1, 2)), fit, torch.zeros_like(belief.mean[..., 0])

    def attend(self, slots: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """One round: slots [B, K, D] and the attention [B, K, N], which sums to one over slots."""
        read, attention = self.reader(slots, features)
        slots = self.gru(read.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        return slots + self.mlp(slots), attention

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None
               ) -> Belief:
        """One round of attention to the image."""
        return self.belief(self.attend(belief.mean, self.encode(image))[0])

    def infer(self, image: Tensor, belief: Belief | None = None, iterations: int | None = None,
              action: Tensor | None = None, generator: torch.Generator | None = None) -> Belief:
        """Belief of a first frame (belief None) from random slots, or of a later one from the slots before it."""
        c = self.config
        if iterations is None:
            iterations = c.first_iterations if belief is None else c.iterations
        slots = (self.start(len(image), None, generator) if belief is None else belief).mean
        features = self.encode(image)
        for _ in range(iterations):
            slots, _ = self.attend(slots, features)
        return self.belief(slots)

    def episode_loss(self, images: Tensor, actions: Tensor | None, step: int, generator: torch.Generator
                     ) -> tuple[Tensor, Terms]:
        """Squared error, summed over each image and averaged over images; T > 1 carries the slots through time."""
        total, belief = images.new_zeros(()), None
        for image in images.unbind(1):
            belief = self.infer(image, belief, generator=generator)
            scene = self.scene(belief)
            total = total + self.loss(belief, scene, image)[0].mean() / images.shape[1]
        return total, {'mse': (scene.image - image).square().mean().item()}
