"""OP3: Object-centric Perception, Prediction and Planning (Veerapaneni et al. 2019).

A slot's state is h_k = (deterministic half, stochastic half); lambda_k are the parameters of the stochastic one.

    decode   p(x | h)  = prod_ij sum_k m_ij(h_k) g(x_ij | h_k)                          eq. 2
    predict  lambda_k^(t,0) = f_d(h_k, h_others, a), also the prior of frame t           eq. 3, Algorithm 2 line 2
    refine   lambda_k <- f_q(x, dL/dlambda_k, lambda_k, beta_k)                          Algorithms 1 and 2
    loss     L = -log p(x | h) + KL(q || prior), prior N(0, I) at t = 0                  section 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief, Scene, gaussian_kl_between
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder
from object_centric_ros.models.cycle import CycleModel, ModelConfig, Terms, gaussian_noise
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.interaction import InteractionDynamics, Interactions
from object_centric_ros.models.likelihood import LIKELIHOODS, GaussianMixture
from object_centric_ros.models.per_slot import PerSlot
from object_centric_ros.models.refinement import ImageFeedback, RefinementNetwork, StandardNorm
from object_centric_ros.models.scale import softplus_log_std, softplus_scale

FORMATS = {0: 'none', 4: 'pick_place_xy', 5: 'pick_place_uv'}
REFINE, PREDICT = 0, 1


@dataclass(frozen=True)
class OP3Config(ModelConfig):
    """Sizes and choices; the defaults are the paper's (appendix 6.4).

    Attributes:
        deterministic, stochastic: sizes of the halves of a slot's state.
        action_size: 0, 4 = (pick x, y, place x, y) or 5 = (1, pick u, v, place u, v).
        likelihood: 'mixture', or 'released_mixture' of the published code; sigma: its standard deviation.
        beta: weight of the KL term (the paper names none; the published code trains with 0.01).
        batch_mean_gradients: refine by the gradient of the mean over the batch, as the published code does, so that a
            result depends on its batch; otherwise by that of each image's own loss.
        share_weights: one decoder, refinement and dynamics for all slots; False gives each slot its own (Table 3).
        decoder_channels, refinement_channels, refinement_kernel: of the convolutions.
        sees_sample: whether the refinement is given the sample too (the published code).
        pair, effect, bounded: of the dynamics, see `InteractionDynamics`.
        pick_attention: what weighs the picks of an entity, 'action' (section 6.5.2) or 'interaction' (published code).
        rollout: longest prediction in training, frames; grows to it from 1 by one every `rollout_every` steps after
            step `rollout_start`; each batch draws a length up to it.
        closing_refinements: of the last frame of a training rollout.
        growing_weights: weigh the losses of a rollout by 1, 2, ... (as IODINE and the published code), or all alike.
    """

    name: ClassVar[str] = 'op3'
    deterministic: int = 64
    stochastic: int = 64
    likelihood: str = 'mixture'
    sigma: float = 0.1
    beta: float = 1.0
    batch_mean_gradients: bool = False
    share_weights: bool = True
    decoder_channels: tuple[int, ...] = (32, 32, 32, 32)
    refinement_channels: tuple[int, ...] = (32, 32, 128)
    refinement_kernel: int = 3
    sees_sample: bool = False
    pair: int = 0
    effect: int = 128
    bounded: bool = True
    pick_attention: str = 'action'
    rollout: int = 5
    rollout_start: int = 12500
    rollout_every: int = 1250
    closing_refinements: int = 1
    growing_weights: bool = True

    def __post_init__(self) -> None:
        if self.action_size not in FORMATS:
            raise InputError('model.action_size', f'one of {list(FORMATS)}', self.action_size)
        if self.likelihood not in ('mixture', 'released_mixture'):
            raise InputError('model.likelihood', 'mixture or released_mixture', self.likelihood)
        if self.pick_attention not in ('action', 'interaction'):
            raise InputError('model.pick_attention', 'action or interaction', self.pick_attention)
        if min(self.deterministic, self.stochastic, self.slots, self.rollout, self.rollout_every) < 1:
            raise InputError('model sizes', 'positive numbers', self)


@dataclass(frozen=True)
class OP3Belief(Belief):
    """`memory` is the deterministic half [B, K, deterministic], which only the dynamics write.

    Attributes:
        raw: scale parameter of the stochastic half [B, K, stochastic]; its softplus is the variance.
        hidden, cell: of the refinement's LSTM [B, K, 128]; zero after a prediction.
        prior_mean, prior_raw: N(0, I) at first, then the last prediction [B, K, stochastic].
    """

    raw: Tensor
    hidden: Tensor
    cell: Tensor
    prior_mean: Tensor
    prior_raw: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation [B, K, stochastic]."""
        return softplus_log_std(self.raw).exp()

    @property
    def prior(self) -> Belief:
        """The distribution that the KL term compares to."""
        return Belief(self.prior_mean, softplus_log_std(self.prior_raw), self.memory)


class OP3(CycleModel):
    """The model; its methods are the cycle. Images are float32 [B, 3, H, W] in [0, 1]."""

    paper = 'Veerapaneni et al. 2019'
    predicts = True
    config: OP3Config

    def __init__(self, config: OP3Config) -> None:
        super().__init__()
        c = self.config = config
        self.action_format, self.plans = FORMATS[c.action_size], c.action_size > 0
        state, sto = c.deterministic + c.stochastic, c.stochastic
        self.feedback = ImageFeedback(c.image_size)
        self.mean_norm, self.raw_norm = StandardNorm(sto, False, 1e-6), StandardNorm(sto, False, 1e-6)
        copies = range(1 if c.share_weights else c.slots)
        decoders = [SpatialBroadcastDecoder(state, c.image_size, c.decoder_channels) for _ in copies]
        networks = [RefinementNetwork(self.feedback.channels, (5 if c.sees_sample else 4) * sto, (sto, sto),
                                      c.refinement_channels, c.refinement_kernel) for _ in copies]
        dynamics = [InteractionDynamics(state, c.action_size, (c.deterministic, sto, sto), c.pair, c.effect, c.bounded)
                    for _ in copies]
        self.decoder = decoders[0] if c.share_weights else PerSlot(decoders, local=True)
        self.refinement = networks[0] if c.share_weights else PerSlot(networks, local=True)
        self.dynamics = dynamics[0] if c.share_weights else PerSlot(dynamics, local=False)
        self.memory = networks[0].memory
        self.initial_mean = nn.Parameter(torch.randn(sto) / sto ** 0.5)
        self.initial_raw = nn.Parameter(torch.randn(sto) / sto ** 0.5)
        self.initial_memory = nn.Parameter(torch.randn(c.deterministic) / c.deterministic ** 0.5)
        self.likelihood = cast(GaussianMixture, LIKELIHOODS[c.likelihood](c.sigma))

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> OP3Belief:
        """lambda^(0,0), the same for every slot: what tells them apart is the noise of the first sample."""
        k = slots or self.config.slots
        mean, raw, memory = (p.expand(batch, k, -1) for p in (self.initial_mean, self.initial_raw, self.initial_memory))
        zeros = mean.new_zeros(batch, k, self.memory)
        return OP3Belief(mean, softplus_log_std(raw), memory, raw, zeros, zeros, torch.zeros_like(mean),
                         softplus_scale(torch.ones_like(raw)))

    def restore(self, mean: Tensor, std: Tensor, memory: Tensor) -> OP3Belief:
        """The belief from mean, std [B, K, stochastic] and memory [B, K, deterministic]; itself its own prior."""
        return self._predicted(mean, softplus_scale(std), memory)

    def noise(self, belief: Belief, generator: torch.Generator | None) -> Tensor:
        """Noise of a sample [B, K, stochastic]."""
        return gaussian_noise(belief.mean.shape, generator, belief.mean)

    def latents(self, belief: Belief, noise: Tensor | None = None) -> Tensor:
        """h = (deterministic half, sample of the stochastic one) [B, K, R]."""
        return torch.cat([belief.memory, belief.sample(noise)], -1)

    def decode(self, z: Tensor) -> Scene:
        """Entities [B, K, R] -> sub-images and mask logits (eq. 2)."""
        return cast(Scene, self.decoder(z))

    def predict(self, belief: Belief, action: Tensor | None = None, noise: Tensor | None = None) -> OP3Belief:
        """f_d (eq. 3): the guess of the next frame's belief, and its prior. From the mean, or from a sample of noise.

        A model of actions guesses, without one [B, A], that nothing changes.
        """
        belief = cast(OP3Belief, belief)
        if action is None and self.config.action_size:
            return self._predicted(belief.mean, belief.raw, belief.memory)
        (memory, mean, raw), _ = self.dynamics(self.latents(belief, noise), action)
        return self._predicted(mean, raw, memory)

    def _predicted(self, mean: Tensor, raw: Tensor, memory: Tensor) -> OP3Belief:
        zeros = mean.new_zeros(*mean.shape[:2], self.memory)
        return OP3Belief(mean, softplus_log_std(raw), memory, raw, zeros, zeros, mean, raw)

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Negative ELBO of each image [B], log-likelihood map [B, H, W], KL to the predicted prior [B, K]; nats."""
        log_likelihood, kl = self.likelihood(image, scene), self._kl(cast(OP3Belief, belief))
        return -log_likelihood.sum((1, 2)) + self.config.beta * kl.sum(1), log_likelihood, kl

    def _kl(self, belief: OP3Belief) -> Tensor:
        return gaussian_kl_between(Belief(belief.mean, softplus_log_std(belief.raw), belief.memory), belief.prior)

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None,
               scene: Scene | None = None) -> OP3Belief:
        """Lines 4 to 8 of Algorithms 1 and 2: sample, evaluate, differentiate, look, update.

        Args:
            noise: [B, K, stochastic] of the sample, or None for the mean.
            scene: that sample decoded, where it is already.
        """
        belief = cast(OP3Belief, belief)
        images, vectors = self.look(belief, image, noise, scene)
        parameters, hidden, cell = self.refinement(images, vectors, torch.cat([belief.mean, belief.raw], -1),
                                                   belief.hidden, belief.cell)
        mean, raw = parameters.chunk(2, -1)
        return replace(belief, mean=mean, log_std=softplus_log_std(raw), raw=raw, hidden=hidden, cell=cell)

    def look(self, belief: OP3Belief, image: Tensor, noise: Tensor | None = None, scene: Scene | None = None
             ) -> tuple[Tensor, Tensor]:
        """What the refinement is given: image-sized inputs [B, K, 17, H, W] and vectors [B, K, V]."""
        attached = torch.is_grad_enabled() and belief.mean.requires_grad
        with torch.enable_grad():
            if not attached:
                belief = replace(belief, mean=belief.mean.detach().requires_grad_(),
                                 raw=belief.raw.detach().requires_grad_())
                scene = None
            scene = self.decode(self.latents(belief, noise)) if scene is None else scene
            divergence = self._kl(belief).sum()
        scale = -1 / len(image) if self.config.batch_mean_gradients else -1.0
        colours, logits, masks = (scale * g for g in self.likelihood.gradients(image, scene))
        by_mean, by_raw = torch.autograd.grad(
            (scene.colours, scene.mask_logits, divergence), (belief.mean, belief.raw),
            (colours, logits, divergence.new_tensor(-scale * self.config.beta)), retain_graph=attached)
        if not attached:
            scene, belief = Scene(scene.colours.detach(), scene.mask_logits.detach()), belief.detach()
        components = self.likelihood.components(image, scene)
        images = self.feedback(image, scene, components, colours, masks, self.likelihood.posterior(components))
        vectors = [self.mean_norm(by_mean), self.raw_norm(by_raw), belief.mean, belief.raw]
        return images, torch.cat(vectors + [belief.sample(noise)] * self.config.sees_sample, -1)

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

    def episode_loss(self, images: Tensor, actions: Tensor | None, step: int, generator: torch.Generator
                     ) -> tuple[Tensor, Terms]:
        """The rollout objective (section 6.3.2): refine the first frame, predict ahead, refine the last one."""
        c = self.config
        grown = 1 + max(0, step - c.rollout_start) // c.rollout_every
        longest = min(c.rollout, grown, images.shape[1] - 1)
        ahead = int(torch.randint(1, longest + 1, (), generator=generator, device=generator.device)) if longest else 0
        schedule = [REFINE] * c.first_iterations + [PREDICT] * ahead + [REFINE] * (c.closing_refinements * bool(ahead))
        shape = (len(images), c.slots, c.stochastic)
        noise = [gaussian_noise(shape, generator, self.initial_mean) for _ in range(len(schedule) + 1)]
        return self.schedule_loss(images, actions, schedule, noise)

    def schedule_loss(self, images: Tensor, actions: Tensor | None, schedule: Sequence[int], noise: Sequence[Tensor]
                      ) -> tuple[Tensor, Terms]:
        """Weighted mean of the losses after each entry of a schedule, mean over the batch.

        Args:
            images: [B, T, 3, H, W]; actions: before each frame [B, T, A], or None.
            schedule: REFINE by the current frame, or PREDICT the next one and go there.
            noise: [B, K, stochastic] of the first sample, and of that after each entry.
        """
        belief, t = self.start(len(images), noise[0].shape[1]), 0
        scene = self.decode(self.latents(belief, noise[0]))
        total, weights, terms = images.new_zeros(()), 0, {'nll': 0.0, 'kl': 0.0}
        for i, kind in enumerate(schedule):
            if kind == PREDICT:
                t += 1
                belief = self.predict(belief, None if actions is None else actions[:, t], noise[i])
            else:
                belief = self.refine(belief, images[:, t], None, noise[i], scene)
            scene = self.decode(self.latents(belief, noise[i + 1]))
            loss, log_likelihood, kl = self.loss(belief, scene, images[:, t])
            weight = i + 1 if self.config.growing_weights else 1
            total, weights = total + weight * loss.mean(), weights + weight
            terms['nll'] -= weight * log_likelihood.sum().item() / len(images)
            terms['kl'] += weight * kl.sum().item() / len(images)
        terms = {k: v / weights for k, v in terms.items()}
        terms['mse'] = (scene.image - images[:, t]).square().mean().item()
        return total / weights, terms
