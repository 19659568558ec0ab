"""Sizes and choices of PARTS and of its ablations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from object_centric_ros.models.cycle import ModelConfig
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.likelihood import LIKELIHOODS

CHOICES = {'refiner': ('windowed', 'attention', 'iodine'), 'prior': ('fixed', 'predicted'),
           'predictor': ('transformer_lstm', 'interaction', 'none'), 'decoder': ('shuffle', 'broadcast'),
           'initial': ('learned', 'zero'), 'scored': ('predicted', 'both'), 'update': ('gated', 'additive'),
           'likelihood': tuple(sorted(LIKELIHOODS))}


@dataclass(frozen=True)
class PartsConfig(ModelConfig):
    """Sizes and choices of a PARTS model.

    Attributes:
        image_size: H = W of the images, pixels.
        slots: K while training; free at run time.
        latent: D; with `anchored` its first two features are the slot's position in [-1, 1] (u, v).
        action_size: A; 0 = no actions, 5 = (flag, pick u, v, place u, v), 4 = (pick x, y, place x, y).
        anchored: positions of slots are explicit (invariant slot attention); False is the paper's model.
        background_slot: slot 0 starts from a mean of its own.
        refiner: 'attention' (the paper, eq. 4 to 6), 'windowed' (slots also look around a place) or 'iodine' (the
            refinement network of IODINE and OP3: Table 2's rows without slot attention).
        prior: 'fixed' N(0, I) (the paper) or 'predicted', by the predictor at every step (OP3, section 5.1).
        predictor: 'transformer_lstm' (the paper), 'interaction' (OP3's) or 'none' (S-IODINE).
        weighed_action: the action's effect is weighed by an attention of each slot to it; False is the paper's.
        decoder: 'broadcast' (the paper: size-preserving convolutions) or 'shuffle' (a coarser grid, pixel shuffle).
        initial: belief before the first frame, 'zero' (the paper) or 'learned'.
        seed_threshold, seed_reach: of `initial.seed_positions`, which puts slots on what is unexplained (anchored
            models with a background slot): the squared error of a spot that is left alone, and how far a thing of one
            colour extends (image width = 2).
        sampled: refinement decodes a sample of the guess (the paper), not its mean.
        gradient_feedback: the loss gradient and the log-likelihood map reach the refinement (eq. 3).
        top_down: action and gradient shape the queries too (section 5.2).
        update: 'gated' or 'additive' (the paper) of the windowed refiner.
        first_iterations: refinements that a first frame takes before those of every frame.
        iterations: refinements of every frame (the paper: N = 1).
        likelihood: 'composed' or 'mixture' (the paper); sigma: its standard deviation.
        beta: weight of the KL term (the paper: 0.5).
        still: things move by actions alone, so without one the last belief is the guess; False predicts every frame.
        scored: what the training loss decodes: 'predicted' is every belief that a refinement starts from (the paper:
            what only past frames have shaped), 'both' the refined one too.
        burn_in, rollout: training observes `burn_in` frames and predicts `rollout` more (section 4.2: 4 and 12);
            burn_in 0 observes all (section 4.1).
        truncate: frames after which training stops the gradients of the state (section 4: 4); 0 = never.
        encoder_channels, encoder_stride, attention_size, hidden: sizes of the recognition.
        decoder_channels, decoder_layers, decoder_kernel, decoder_grid: sizes of the decoder; the kernel is the
            'broadcast' decoder's, the grid the 'shuffle' decoder's.
        dynamics_size, dynamics_heads, dynamics_layers: sizes of the predictor.
    """

    name: ClassVar[str] = 'parts'
    latent: int = 32
    action_size: int = 5
    anchored: bool = True
    background_slot: bool = True
    refiner: str = 'windowed'
    prior: str = 'fixed'
    predictor: str = 'transformer_lstm'
    weighed_action: bool = True
    decoder: str = 'shuffle'
    initial: str = 'learned'
    seed_threshold: float = 0.1
    seed_reach: float = 0.35
    sampled: bool = False
    gradient_feedback: bool = True
    top_down: bool = True
    update: str = 'gated'
    first_iterations: int = 2
    iterations: int = 1
    likelihood: str = 'composed'
    sigma: float = 0.1
    beta: float = 0.05
    still: bool = True
    scored: str = 'both'
    burn_in: int = 0
    rollout: int = 0
    truncate: int = 0
    encoder_channels: tuple[int, ...] = (32, 64, 64)
    encoder_stride: int = 2
    attention_size: int = 64
    hidden: int = 128
    decoder_channels: int = 64
    decoder_layers: int = 3
    decoder_kernel: int = 5
    decoder_grid: int = 16
    dynamics_size: int = 128
    dynamics_heads: int = 4
    dynamics_layers: int = 1

    def __post_init__(self) -> None:
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise InputError(f'model.{field}', f'one of {list(choices)}', getattr(self, field))
        if self.decoder == 'shuffle' and self.image_size % self.decoder_grid:
            raise InputError('model.decoder_grid', f'a divisor of image_size = {self.image_size}', self.decoder_grid)
        if self.anchored:
            needs = {'refiner': 'windowed', 'predictor': 'transformer_lstm', 'decoder': 'shuffle',
                     'initial': 'learned', 'weighed_action': True, 'prior': 'fixed'}
            for field, value in needs.items():
                if getattr(self, field) != value:
                    raise InputError(f'model.{field}', f'{value} for an anchored model', getattr(self, field))
            if self.action_size not in (0, 5):
                raise InputError('model.action_size', '0 or 5 for an anchored model', self.action_size)
        if self.predictor == 'none' and (self.prior == 'predicted' or self.rollout):
            raise InputError('model.predictor', 'one for a predicted prior or a roll-out', 'none')
        if self.initial == 'zero' and self.background_slot:
            raise InputError('model.background_slot', 'false for initial: zero', True)
        if self.initial == 'zero' and not (self.sampled and self.gradient_feedback):
            raise InputError('model.sampled, model.gradient_feedback', 'true for initial: zero (nothing else tells the '
                             'slots apart)', f'{self.sampled}, {self.gradient_feedback}')
        if self.refiner == 'iodine' and not (self.gradient_feedback and self.sampled and self.likelihood == 'mixture'):
            raise InputError('model.gradient_feedback, sampled, likelihood', 'true, true, mixture for refiner: iodine',
                             f'{self.gradient_feedback}, {self.sampled}, {self.likelihood}')
        if min(self.seed_threshold, self.seed_reach) <= 0:
            raise InputError('model.seed_threshold, seed_reach', 'more than 0',
                             f'{self.seed_threshold}, {self.seed_reach}')
        if min(self.burn_in, self.rollout, self.truncate) < 0 or bool(self.rollout) != bool(self.burn_in):
            raise InputError('model.burn_in, rollout, truncate', 'non-negative, and the first two both or neither',
                             f'{self.burn_in}, {self.rollout}, {self.truncate}')
