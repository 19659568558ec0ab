"""OP3: Object-centric Perception, Prediction and Planning (Veerapaneni et al. 2019).

A slot's state is h_k = (deterministic half, stochastic half); lambda_k are the parameters of the stochastic one.

    decode   p(x | h)  = prod_ij sum_k m_ij(h_k) g(x_ij | h_k)                          eq. 2
    predict  lambda_k^(t,0) = f_d(h_k, h_others, a), also the prior of frame t           eq. 3, Algorithm 2 line 2
    refine   lambda_k <- f_q(x, dL/dlambda_k, lambda_k, beta_k)                          Algorithms 1 and 2
    loss     L = -log p(x | h) + KL(q || prior), prior N(0, I) at t = 0                  section 3

Decoding and refinement are IODINE's (`iodine.py`); what follows is OP3's own: the deterministic half, the dynamics,
the prior that they predict, training by rollouts, and where to pick an entity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief, gaussian_kl_between
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.interaction import InteractionDynamics, Interactions
from object_centric_ros.models.iodine import PREDICT, REFINE, Iodine, IodineBelief, IodineConfig
from object_centric_ros.models.per_slot import PerSlot
from object_centric_ros.models.scale import softplus_log_std, softplus_scale

FORMATS = {0: 'none', 4: 'pick_place_xy', 5: 'pick_place_uv'}


@dataclass(frozen=True)
class OP3Config(IodineConfig):
    """Sizes and choices; the defaults are the paper's (appendix 6.4).

    Attributes:
        latent, deterministic: sizes of the stochastic and the deterministic half of a slot's state.
        action_size: 0, 4 = (pick x, y, place x, y) or 5 = (1, pick u, v, place u, v).
        beta: weight of the KL term (the paper names none; the published code trains with 0.01).
        share_weights: one decoder, refinement and dynamics for all slots; False gives each slot its own (Table 3).
        pair, effect, bounded: of the dynamics, see `InteractionDynamics`.
        pick_attention: what weighs the picks of an entity, 'action' (section 6.5.2) or 'interaction' (published code).
        rollout: longest prediction in training, frames; grows to it from 1 by one every `rollout_every` steps after
            step `rollout_start`; each batch draws a length up to it.
        closing_refinements: of the last frame of a training rollout.
    """

    name: ClassVar[str] = 'op3'
    first_iterations: int = 4
    iterations: int = 4
    deterministic: int = 64
    decoder_channels: tuple[int, ...] = (32, 32, 32, 32)
    decoder_kernel: int = 5
    refinement_channels: tuple[int, ...] = (32, 32, 128)
    refinement_stride: int = 1
    hidden: int = 128
    recurrent: int = 128
    additive: bool = False
    share_weights: bool = True
    pair: int = 0
    effect: int = 128
    bounded: bool = True
    pick_attention: str = 'action'
    rollout: int = 5
    rollout_start: int = 12500
    rollout_every: int = 1250
    closing_refinements: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.action_size not in FORMATS:
            raise InputError('model.action_size', f'one of {list(FORMATS)}', self.action_size)
        if self.pick_attention not in ('action', 'interaction'):
            raise InputError('model.pick_attention', 'action or interaction', self.pick_attention)
        if min(self.deterministic, self.rollout, self.rollout_every) < 1:
            raise InputError('model sizes', 'positive numbers', self)


@dataclass(frozen=True)
class OP3Belief(IodineBelief):
    """`memory` is the deterministic half [B, K, deterministic], which only the dynamics write; a prediction zeroes the
    refinement's state.

    Attributes:
        prior_mean, prior_raw: N(0, I) at first, then the last prediction [B, K, latent].
    """

    prior_mean: Tensor
    prior_raw: Tensor

    @property
    def prior(self) -> Belief:
        """The distribution that the KL term compares to."""
        return Belief(self.prior_mean, softplus_log_std(self.prior_raw), self.memory)


class OP3(Iodine):
    """The model; its methods are the cycle. Images are float32 [B, 3, H, W] in [0, 1]."""

    paper = 'Veerapaneni et al. 2019'
    predicts = True
    config: OP3Config

    def __init__(self, config: OP3Config) -> None:
        self.deterministic = config.deterministic
        self.copies = None if config.share_weights else config.slots
        super().__init__(config)
        self.action_format, self.plans = FORMATS[config.action_size], config.action_size > 0
        self.dynamics = self.part(lambda: InteractionDynamics(
            config.deterministic + config.latent, config.action_size, (config.deterministic, config.latent,
            config.latent), config.pair, config.effect, config.bounded), local=False)
        self.initial_memory = nn.Parameter(torch.randn(config.deterministic) / config.deterministic ** 0.5)

    def part(self, make: Callable[[], nn.Module], local: bool = True) -> nn.Module:
        """The same for every slot, or, without weight sharing, one for each."""
        return make() if self.copies is None else PerSlot([make() for _ in range(self.copies)], local)

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> OP3Belief:
        """lambda^(0,0), the same for every slot: what tells them apart is the noise of the first sample."""
        b = super().start(batch, slots)
        memory = self.initial_memory.expand(*b.mean.shape[:2], -1)
        return OP3Belief(b.mean, b.log_std, memory, b.raw, b.hidden, b.cell, torch.zeros_like(b.mean),
                         softplus_scale(torch.ones_like(b.raw)))

    def fresh(self, mean: Tensor, raw: Tensor, memory: Tensor) -> OP3Belief:
        """A belief before its first refinement, which is its own prior."""
        b = super().fresh(mean, raw, memory)
        return OP3Belief(**b.tensors(), prior_mean=mean, prior_raw=raw)

    def divergence(self, belief: IodineBelief) -> Tensor:
        """KL to the predicted prior, of each slot [B, K], nats."""
        belief = cast(OP3Belief, belief)
        return gaussian_kl_between(Belief(belief.mean, softplus_log_std(belief.raw), belief.memory), belief.prior)

    def predict(self, belief: Belief, action: Tensor | None = None, noise: Tensor | None = None) -> OP3Belief:
        """f_d (eq. 3): the guess of the next frame's belief, and its prior. From the mean, or from a sample of noise.

        A model of actions guesses, without one [B, A], that nothing changes.
        """
        belief = cast(OP3Belief, belief)
        if action is None and self.config.action_size:
            return self.fresh(belief.mean, belief.raw, belief.memory)
        (memory, mean, raw), _ = self.dynamics(self.latents(belief, noise), action)
        return self.fresh(mean, raw, memory)

    def advance(self, belief: IodineBelief, action: Tensor | None, noise: Tensor) -> OP3Belief:
        """`predict` from a sample, as training does."""
        return self.predict(belief, action, noise)

    def schedule(self, frames: int, step: int, generator: torch.Generator) -> list[int]:
        """The rollout objective (section 6.3.2): refine the first frame, predict ahead, refine the last one."""
        c = self.config
        grown = 1 + max(0, step - c.rollout_start) // c.rollout_every
        longest = min(c.rollout, grown, frames - 1)
        if not longest:
            return super().schedule(frames, step, generator)
        ahead = int(torch.randint(1, longest + 1, (), generator=generator, device=generator.device))
        return [REFINE] * c.first_iterations + [PREDICT] * ahead + [REFINE] * c.closing_refinements

    def entity_pick(self, belief: Belief, low: Tensor, high: Tensor, generator: torch.Generator, samples: int = 500
                    ) -> Tensor:
        """Where to pick each entity (section 6.5.2): picks drawn uniformly, averaged with the attention that each
        draws to the entity.

        Args:
            low, high: bounds of the actions [A], world units; the pick is in [-4:-2], the place in [-2:].

        Returns:
            pick x, y of each entity [B, K, 2].
        """
        if not self.config.action_size:
            raise InputError('entity_pick', 'a model of actions', 'one without')
        actions = low + (high - low) * torch.rand(samples, len(low), generator=generator, device=low.device)
        state = self.latents(belief).repeat_interleave(samples, 0)
        found: Interactions = self.dynamics(state, actions.to(state.dtype).repeat(len(belief.mean), 1))[1]
        weight = found.attention.sum(-1) if self.config.pick_attention == 'interaction' else found.action_attention
        weight = cast(Tensor, weight).unflatten(0, (-1, samples))
        return torch.einsum('bsk,sc->bkc', weight / weight.sum(1, keepdim=True), actions[:, -4:-2].to(weight.dtype))
