"""Configuration of EfficientMORL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from object_centric_ros.models.cycle import ModelConfig
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.likelihood import LIKELIHOODS

PRIORS = ('bottom-up', 'bottom-up++', 'reversed', 'reversed++')


@dataclass(frozen=True)
class EfficientMORLConfig(ModelConfig):
    """Sizes and choices; the defaults are the paper's for CLEVR6 but for the image size.

    Attributes:
        image_size: H = W of the images, pixels; the paper: 96, 64 and 35.
        slots: K while training; free at run time.
        first_iterations, iterations: I at test time, of a first frame and of each later one.
        latent: D. features: width of the encoder; encoder_stride: of its first convolution.
        layers: L, stochastic layers, which share their weights.
        prior: 'bottom-up' (eq. 2) or 'reversed' (section 3.3), either with '++': then refined posteriors are compared
            with the last conditional prior of the chain (as line 26 does with eq. 2's), else with N(0, I).
        likelihood: 'channel_mixture' (the code's mixture), 'composed' (the paper's "Gaussian") or 'mixture'
            (one component for all channels of a pixel); sigma: its standard deviation.
        kl_weight: of all KL terms.
        decoder: 'iodine', 'small', 'big' or 'shuffle' (see `deconvolution.slot_decoder`); decoder_channels: its width;
            decoder_grid: side of the grid that 'shuffle' tiles the latents over, a divisor of image_size.
        recompute: the decoder's activations are computed again in the backward pass, image by image, instead of kept.
        weights: of the losses L^0 .. L^I: 'paper' (eq. 8) or 'released' (the code's: (I + 2 - i + 1) / (I + 1)).
        curriculum_iterations: I while training, one for each phase; curriculum_steps: where the later phases begin.
        geco: 'off', 'target' (GECO with geco_target) or 'auto' (with the target that geco_error means).
        geco_target: negative log-likelihood to reach, per pixel and channel, nats, without the 0.5 log(2 pi), as the
            paper's constants are.
        geco_error: root mean square residual (colours in [0, 1]) to reach; its Gaussian's NLL is the target.
        geco_step, geco_acceleration: of the multiplier; see `geco.Geco`.
        geco_warmup: optimisation steps before the multiplier moves.
    """

    name: ClassVar[str] = 'efficientmorl'
    first_iterations: int = 0
    iterations: int = 0
    latent: int = 64
    features: int = 64
    encoder_stride: int = 1
    layers: int = 3
    prior: str = 'reversed++'
    likelihood: str = 'channel_mixture'
    sigma: float = 0.1
    kl_weight: float = 1.0
    decoder: str = 'iodine'
    decoder_channels: int = 64
    decoder_grid: int = 0
    recompute: bool = False
    weights: str = 'released'
    curriculum_iterations: tuple[int, ...] = (3, 1)
    curriculum_steps: tuple[int, ...] = (100_000,)
    geco: str = 'target'
    geco_target: float = -2.206
    geco_error: float = 0.044
    geco_step: float = 1e-6
    geco_acceleration: float = 1.0
    geco_warmup: int = 1000

    def __post_init__(self) -> None:
        for key, value, choices in (('prior', self.prior, PRIORS), ('likelihood', self.likelihood, sorted(LIKELIHOODS)),
                                    ('weights', self.weights, ('paper', 'released')),
                                    ('geco', self.geco, ('off', 'target', 'auto'))):
            if value not in choices:
                raise InputError(f'model.{key}', f'one of {list(choices)}', value)
        if min(self.layers, self.encoder_stride) < 1:
            raise InputError('model.layers, model.encoder_stride', 'at least 1', (self.layers, self.encoder_stride))
        if len(self.curriculum_iterations) != len(self.curriculum_steps) + 1 or min(self.curriculum_iterations) < 0:
            raise InputError('model.curriculum_iterations', 'I >= 0 for a first phase and for each of curriculum_steps',
                             self.curriculum_iterations)

    def training_iterations(self, step: int) -> int:
        """I at an optimisation step."""
        return self.curriculum_iterations[sum(step >= s for s in self.curriculum_steps)]

    def loss_weights(self, iterations: int) -> list[float]:
        """Weights of L^0 .. L^I."""
        count = iterations + 1
        if self.weights == 'released':
            return [(iterations + 3 - i) / count for i in range(count)]
        return [1.0] + [(iterations - (i - 1)) / count for i in range(1, count)]
