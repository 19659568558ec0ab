"""Configuration of OBAI (see `obai`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from object_centric_ros.models.cycle import ModelConfig
from object_centric_ros.models.errors import InputError


@dataclass(frozen=True)
class OBAIConfig(ModelConfig):
    """Sizes and constants, the paper's by default (appendices B and C.2).

    Attributes:
        latent: L, features of s and of s'.
        action_size: 2 = action fields of (u, v) accelerations in pixels; 0 = things move by themselves only.
        first_iterations, iterations: refinements of a first frame and of each later one.
        joint: whether `episode_loss` infers all frames of an episode together; False: one after the other, as tracking
            does.
        decoder_reads: 'state': a sample of s; 'belief': its scale too (the table of appendix B.1).
        beta: weight of the reconstruction (eq. 15).
        sigma_image, sigma_state, sigma_action: sigma_o, sigma_s, sigma_psi.
        temperature_start, temperature_end, temperature_steps: of the Gumbel-softmax, over the optimisation steps.
        decoder_channels: hidden convolutions of the decoder.
        refine_channels, refine_hidden, refine_size: convolutions, linear layer and LSTM of the refinement network.
        action_hidden: LSTM of the action refinement network.
        anchored: not in the paper: s begins with a position (see `obai_anchored`), and the first slot is the
            background's. Learns in minutes what else takes days.
        decoder_grid: side of the broadcast grid; the picture is `image_size` wide all the same (anchored).
        glimpse, glimpse_size: half of the side of the window that a thing's refinement network sees (image width = 2),
            and its pixels (anchored).
        seed_reach: how far a thing of one colour extends (image width = 2), where first slots are placed (anchored).
    """

    name: ClassVar[str] = 'obai'
    slots: int = 4
    action_size: int = 2
    iterations: int = 4
    latent: int = 16
    joint: bool = True
    decoder_reads: str = 'state'
    beta: float = 5.0
    sigma_image: float = 0.3
    sigma_state: float = 0.1
    sigma_action: float = 0.3
    temperature_start: float = 1.0
    temperature_end: float = 0.1
    temperature_steps: int = 100_000
    decoder_channels: tuple[int, ...] = (32, 32, 32, 32)
    refine_channels: tuple[int, ...] = (32, 32, 32)
    refine_hidden: int = 128
    refine_size: int = 128
    action_hidden: int = 32
    anchored: bool = False
    decoder_grid: int = 8
    glimpse: float = 0.6
    glimpse_size: int = 20
    seed_reach: float = 2.0

    def __post_init__(self) -> None:
        if self.action_size not in (0, 2):
            raise InputError('model.action_size', '2 (action fields) or 0', self.action_size)
        if self.decoder_reads not in ('state', 'belief'):
            raise InputError('model.decoder_reads', 'state or belief', self.decoder_reads)
        if self.anchored != self.background_slot:
            raise InputError('model.anchored', 'true with, and only with, background_slot', self.anchored)
        if self.anchored and (self.decoder_grid < 1 or self.image_size % self.decoder_grid
                              or len(set(self.decoder_channels)) != 1 or self.latent < 3 or self.slots < 2):
            raise InputError('model (anchored)', 'decoder_grid a divisor of image_size, decoder_channels all alike, '
                             'latent of 3 and slots of 2 or more', self)
        for name in ('beta', 'sigma_image', 'sigma_state', 'sigma_action', 'temperature_start', 'temperature_end',
                     'temperature_steps', 'latent', 'slots', 'first_iterations', 'iterations', 'glimpse',
                     'glimpse_size', 'seed_reach'):
            if getattr(self, name) <= 0:
                raise InputError(f'model.{name}', 'more than 0', getattr(self, name))
