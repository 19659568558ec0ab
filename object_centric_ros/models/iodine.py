"""IODINE: multi-object representation learning with iterative variational inference (Greff et al. 2019).

    decode   p(x | z)  = prod_ij sum_k m_ij(z_k) N(x_ij | C_ij(z_k), sigma^2)            eq. 1
    refine   lambda_k <- lambda_k + f(x, dL/dlambda_k, lambda_k, a_k)                    eq. 3, algorithm 1
    loss     L = -log p(x | z) + KL(q || N(0, I)); trained on sum_i (i / n) L_i          eq. 4

OP3 (`op3.py`) is this with dynamics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief, Scene, gaussian_kl
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder
from object_centric_ros.models.convolution import images_only
from object_centric_ros.models.cycle import CycleModel, ModelConfig, Terms, gaussian_noise
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.likelihood import LIKELIHOODS, GaussianMixture
from object_centric_ros.models.refinement import ImageFeedback, RefinementNetwork, StandardNorm
from object_centric_ros.models.scale import softplus_log_std, softplus_scale

REFINE, PREDICT = 0, 1


@dataclass(frozen=True)
class IodineConfig(ModelConfig):
    """Sizes and choices; the defaults are IODINE's for CLEVR (its appendix B).

    Attributes:
        latent: D, size of a slot's stochastic state.
        likelihood: 'mixture', or 'released_mixture' of OP3's published code; sigma: its standard deviation.
        beta: weight of the KL term.
        batch_mean_gradients: refine by the gradient of the mean over the batch, as OP3's published code does, so that
            a result depends on its batch; otherwise by that of each image's own loss.
        decoder_channels, decoder_kernel: of the decoder's convolutions.
        refinement_channels, refinement_kernel, refinement_stride: of the refinement's.
        hidden, recurrent: of the refinement, width of the layer behind the convolutions and size of the LSTM.
        sees_sample: whether the refinement is given the sample too (OP3's published code).
        additive: whether it adds to the parameters or replaces them (OP3).
        growing_weights: weigh the losses of a training run by 1, 2, ..., or all alike.
    """

    name: ClassVar[str] = 'iodine'
    latent: int = 64
    first_iterations: int = 5
    iterations: int = 5
    likelihood: str = 'mixture'
    sigma: float = 0.1
    beta: float = 1.0
    batch_mean_gradients: bool = False
    decoder_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_kernel: int = 3
    refinement_channels: tuple[int, ...] = (64, 64, 64, 64)
    refinement_kernel: int = 3
    refinement_stride: int = 2
    hidden: int = 256
    recurrent: int = 256
    sees_sample: bool = False
    additive: bool = True
    growing_weights: bool = True

    def __post_init__(self) -> None:
        if self.likelihood not in ('mixture', 'released_mixture'):
            raise InputError('model.likelihood', 'mixture or released_mixture', self.likelihood)
        if min(self.latent, self.slots, self.first_iterations, self.hidden, self.recurrent) < 1:
            raise InputError('model sizes', 'positive numbers', self)


@dataclass(frozen=True)
class IodineBelief(Belief):
    """lambda = (mean, raw) and the refinement's own state.

    Attributes:
        raw: scale parameter [B, K, D]; its softplus is the variance.
        hidden, cell: of the refinement's LSTM [B, K, recurrent].
    """

    raw: Tensor
    hidden: Tensor
    cell: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation [B, K, D]."""
        return softplus_log_std(self.raw).exp()


class Iodine(CycleModel):
    """The model; its methods are the cycle. Images are float32 [B, 3, H, W] in [0, 1]."""

    paper = 'Greff et al. 2019'
    deterministic = 0
    """Size of the part of a slot's state that is not inferred; `memory` of the belief."""
    config: IodineConfig

    def __init__(self, config: IodineConfig) -> None:
        super().__init__()
        c = self.config = config
        self.feedback = ImageFeedback(c.image_size)
        self.mean_norm, self.raw_norm = StandardNorm(c.latent, False, 1e-6), StandardNorm(c.latent, False, 1e-6)
        self.decoder = self.part(lambda: SpatialBroadcastDecoder(
            self.deterministic + c.latent, c.image_size, c.decoder_channels, c.decoder_kernel))
        self.refinement = self.part(lambda: RefinementNetwork(
            self.feedback.channels, (5 if c.sees_sample else 4) * c.latent, (c.latent, c.latent), c.refinement_channels,
            c.refinement_kernel, c.refinement_stride, hidden=c.hidden, memory=c.recurrent, additive=c.additive))
        self.initial_mean = nn.Parameter(torch.randn(c.latent) / c.latent ** 0.5)
        self.initial_raw = nn.Parameter(torch.randn(c.latent) / c.latent ** 0.5)
        self.likelihood = cast(GaussianMixture, LIKELIHOODS[c.likelihood](c.sigma))

    def part(self, make: Callable[[], nn.Module]) -> nn.Module:
        """A part that works on each slot alone: the same for every slot."""
        return make()

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> IodineBelief:
        """The learned lambda, the same for every slot: what tells them apart is the noise of the first sample."""
        mean, raw = (p.expand(batch, slots or self.config.slots, -1) for p in (self.initial_mean, self.initial_raw))
        return self.fresh(mean, raw, mean[..., :0])

    def fresh(self, mean: Tensor, raw: Tensor, memory: Tensor) -> IodineBelief:
        """A belief before its first refinement."""
        zeros = mean.new_zeros(*mean.shape[:2], self.config.recurrent)
        return IodineBelief(mean, softplus_log_std(raw), memory, raw, zeros, zeros)

    def restore(self, mean: Tensor, std: Tensor, memory: Tensor) -> IodineBelief:
        """The belief from mean, std [B, K, D] and memory [B, K, deterministic], before any refinement."""
        return self.fresh(mean, softplus_scale(std), memory)

    def noise(self, belief: Belief, generator: torch.Generator | None) -> Tensor:
        """Noise of a sample [B, K, D]."""
        return gaussian_noise(belief.mean.shape, generator, belief.mean)

    def latents(self, belief: Belief, noise: Tensor | None = None) -> Tensor:
        """(memory, sample) [B, K, deterministic + D]."""
        return torch.cat([belief.memory, belief.sample(noise)], -1)

    def decode(self, z: Tensor) -> Scene:
        """Latents -> sub-images and mask logits (eq. 1)."""
        return cast(Scene, self.decoder(z))

    def divergence(self, belief: IodineBelief) -> Tensor:
        """KL(q || N(0, I)) of each slot [B, K], nats."""
        return gaussian_kl(replace(belief, log_std=softplus_log_std(belief.raw)))

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Negative ELBO of each image [B], log-likelihood map [B, H, W], KL [B, K]; nats."""
        log_likelihood, kl = self.likelihood(image, scene), self.divergence(cast(IodineBelief, belief))
        return -log_likelihood.sum((1, 2)) + self.config.beta * kl.sum(1), log_likelihood, kl

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None,
               scene: Scene | None = None) -> IodineBelief:
        """One iteration: sample, evaluate, differentiate, look, update.

        Args:
            noise: [B, K, D] of the sample, or None for the mean.
            scene: that sample decoded, where it is already.
        """
        belief = cast(IodineBelief, belief)
        images, vectors = self.look(belief, image, noise, scene)
        parameters, hidden, cell = self.refinement(images, vectors, torch.cat([belief.mean, belief.raw], -1),
                                                   belief.hidden, belief.cell)
        mean, raw = parameters.chunk(2, -1)
        return replace(belief, mean=mean, log_std=softplus_log_std(raw), raw=raw, hidden=hidden, cell=cell)

    def look(self, belief: IodineBelief, image: Tensor, noise: Tensor | None = None, scene: Scene | None = None
             ) -> tuple[Tensor, Tensor]:
        """What the refinement is given: image-sized inputs [B, K, 17, H, W] and vectors [B, K, V].

        The gradients are taken here, under `torch.no_grad` too, and cut from the graph.
        """
        attached = torch.is_grad_enabled() and belief.mean.requires_grad
        with torch.enable_grad():
            if not attached:
                belief = replace(belief, mean=belief.mean.detach().requires_grad_(),
                                 raw=belief.raw.detach().requires_grad_())
                scene = None
            scene = self.decode(self.latents(belief, noise)) if scene is None else scene
            divergence = self.divergence(belief).sum()
        scale = -1 / len(image) if self.config.batch_mean_gradients else -1.0
        colours, logits, masks = (scale * g for g in self.likelihood.gradients(image, scene))
        with images_only():
            by_mean, by_raw = torch.autograd.grad(
                (scene.colours, scene.mask_logits, divergence), (belief.mean, belief.raw),
                (colours, logits, torch.full_like(divergence, -scale * self.config.beta)), retain_graph=attached)
        if not attached:
            scene, belief = Scene(scene.colours.detach(), scene.mask_logits.detach()), belief.detach()
        components = self.likelihood.components(image, scene)
        images = self.feedback(image, scene, components, colours, masks, self.likelihood.posterior(components))
        vectors = [self.mean_norm(by_mean), self.raw_norm(by_raw), belief.mean, belief.raw]
        return images, torch.cat(vectors + [belief.sample(noise)] * self.config.sees_sample, -1)

    def schedule(self, frames: int, step: int, generator: torch.Generator) -> list[int]:
        """What a training run does: REFINE by the current frame, or PREDICT the next one and go there."""
        return [REFINE] * self.config.first_iterations

    def episode_loss(self, images: Tensor, actions: Tensor | None, step: int, generator: torch.Generator
                     ) -> tuple[Tensor, Terms]:
        """The weighted loss of a run of `schedule`."""
        schedule = self.schedule(images.shape[1], step, generator)
        shape = (len(images), self.config.slots, self.config.latent)
        noise = [gaussian_noise(shape, generator, self.initial_mean) for _ in range(len(schedule) + 1)]
        return self.schedule_loss(images, actions, schedule, noise)

    def advance(self, belief: IodineBelief, action: Tensor | None, noise: Tensor) -> IodineBelief:
        """From a sample of a frame's belief to the guess of the next one's."""
        return belief

    def schedule_loss(self, images: Tensor, actions: Tensor | None, schedule: Sequence[int], noise: Sequence[Tensor]
                      ) -> tuple[Tensor, Terms]:
        """Weighted mean of the losses after each entry of a schedule, mean over the batch.

        Args:
            images: [B, T, 3, H, W]; actions: before each frame [B, T, A], or None.
            schedule: of REFINE and PREDICT.
            noise: [B, K, D] of the first sample, and of that after each entry.
        """
        belief, t = self.start(len(images), noise[0].shape[1]), 0
        scene = self.decode(self.latents(belief, noise[0]))
        total, weights, terms = images.new_zeros(()), 0, {'nll': 0.0, 'kl': 0.0}
        for i, kind in enumerate(schedule):
            if kind == PREDICT:
                t += 1
                belief = self.advance(belief, None if actions is None else actions[:, t], noise[i])
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
