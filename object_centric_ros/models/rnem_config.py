"""Sizes and choices of R-NEM, of what it grew out of and of its baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from object_centric_ros.models.cycle import ModelConfig
from object_centric_ros.models.em import PIXELS
from object_centric_ros.models.errors import InputError

CHOICES = {'m_step': ('sigmoid', 'lstm', 'gradient'), 'interaction': ('attention', 'sum', 'none'),
           'likelihood': tuple(PIXELS), 'observed': ('bright', 'unlike')}


@dataclass(frozen=True)
class RNEMConfig(ModelConfig):
    """Sizes and choices; the defaults are R-NEM on bouncing balls (appendix A.1).

    Attributes:
        m_step: 'sigmoid' (eq. 4), 'lstm' (its baseline) or 'gradient' (N-EM).
        interaction: Upsilon: 'attention' (R-NEM), 'sum' (without attention) or 'none' (RNN-EM).
        likelihood: 'bernoulli', of binary images of one channel, or 'gaussian' of colour images with `sigma`.
        observed: which pixels of a camera image are on: 'bright', whose brightest channel is above `threshold`, or
            'unlike', a channel of which differs by more from its median over the image (things on a plain ground).
        noise: part of the input's pixels that are flipped (Gaussian: replaced) in training.
        noisy_inference: noise of seen frames outside of training too, as in the released code (which also has it in
            roll-outs).
        rollout: part of the training batches whose last frames are imagined. The paper's is 0; a network that has
            always had noise in its input then fades within some frames of a roll-out without.
        on: what psi must exceed to count as drawn: max_k psi in roll-outs (appendix A.1: 0.1), that of the most
            responsible slot for the tracker.
        step_size: of N-EM's gradient step.
        latent: size of theta; also of the interaction's layers, of which attention_size are in the attention.
        hidden: size of the fully connected layers of encoder and decoder.
        encoder_channels, decoder_channels: of their convolutions, each of which halves or doubles the image.
        action_embedding: size of the action's embedding, which is concatenated to theta.
        first_iterations: EM steps on a first frame; later ones have a prediction to go by. A single frame given as an
            episode is trained with so many steps.
    """

    name: ClassVar[str] = 'rnem'
    slots: int = 5
    first_iterations: int = 1
    m_step: str = 'sigmoid'
    interaction: str = 'attention'
    likelihood: str = 'bernoulli'
    sigma: float = 0.25
    observed: str = 'bright'
    threshold: float = 0.5
    noise: float = 0.2
    noisy_inference: bool = False
    rollout: float = 0.0
    on: float = 0.1
    step_size: float = 1.0
    latent: int = 250
    attention_size: int = 100
    hidden: int = 512
    encoder_channels: tuple[int, ...] = (16, 32, 64)
    decoder_channels: tuple[int, ...] = (64, 32, 16)
    action_embedding: int = 10

    def __post_init__(self) -> None:
        for field, values in CHOICES.items():
            if getattr(self, field) not in values:
                raise InputError(f'model.{field}', f'one of {list(values)}', getattr(self, field))
        if self.m_step != 'sigmoid' and (self.interaction != 'none' or self.action_size):
            raise InputError('model.interaction, action_size', f'none and 0 for m_step: {self.m_step}',
                             f'{self.interaction}, {self.action_size}')
        if self.background_slot:
            raise InputError('model.background_slot', 'false: what no slot draws is background', True)
        if not 0 <= self.rollout <= 1:
            raise InputError('model.rollout', '0 to 1', self.rollout)
        if not 0 <= self.noise < 1 or min(self.slots, self.first_iterations, self.latent) < 1 or self.sigma <= 0:
            raise InputError('model.noise, slots, first_iterations, latent, sigma', '0 <= noise < 1, the others > 0',
                             f'{self.noise}, {self.slots}, {self.first_iterations}, {self.latent}, {self.sigma}')
        if not self.encoder_channels or len(self.encoder_channels) != len(self.decoder_channels):
            raise InputError('model.encoder_channels, decoder_channels', 'equally many, at least one',
                             f'{self.encoder_channels}, {self.decoder_channels}')

    @property
    def channels(self) -> int:
        """C of the images that the model takes."""
        return 1 if self.likelihood == 'bernoulli' else 3
