"""EfficientMORL: Efficient Iterative Amortized Inference (Emami et al. 2021).

Inference has two stages (Algorithm 1). Slots compete for the pixels in L stochastic layers, bottom-up; then a light
network refines the top layer's posterior by the gradient of the loss, I times, with I = 0 at test time:

    bottom-up  q(z^l | x, z^{l-1})                              eq. 1, lines 5 to 17
    decode     y_k, pi_k = D(z_k^L), softmax over slots         section 3.1
    refine     lambda += f(lambda, dL/dlambda)                  eq. 6 and 7, lines 21 to 27
    loss       L^0 = NLL + KL of all layers,  L^i = NLL + KL of the refined posterior     eq. 5, line 26

The paper's model sees single images. On video, z^0 is the last frame's belief instead of noise, so that each slot goes
on with what it held; see `bottom_up`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from object_centric_ros.models.belief import Belief, Scene, gaussian_kl_between
from object_centric_ros.models.convolution import images_only
from object_centric_ros.models.cycle import CycleModel, Terms, gaussian_noise
from object_centric_ros.models.deconvolution import slot_decoder
from object_centric_ros.models.efficientmorl_config import EfficientMORLConfig as EfficientMORLConfig
from object_centric_ros.models.geco import Geco
from object_centric_ros.models.hierarchy import ConditionalPrior, LightRefinement, StochasticLayer
from object_centric_ros.models.likelihood import LIKELIHOODS, Likelihood
from object_centric_ros.models.scale import ScaleBelief, softplus_log_std, softplus_scale
from object_centric_ros.models.slots import PixelEncoder

Noise = Sequence[Tensor | None]
"""Standard normal noise [B, K, D] for each sample; None takes the mean instead."""
UNIT_SCALE = math.log(math.expm1(1 - 1e-5))
"""The scale parameter of a standard deviation of one."""


class Step(NamedTuple):
    """One posterior of the top layer: as stage 1 leaves it, or after a refinement.

    Attributes:
        belief: [B, K, D]. scene: a decoded sample of it.
        nll: negative log-likelihood of each image [B], nats.
        kl: [N, B, K], nats: of each layer in the order of the prior's chain, or of the refined posterior (N = 1).
    """

    belief: HierarchyBelief
    scene: Scene
    nll: Tensor
    kl: Tensor


@dataclass(frozen=True)
class HierarchyBelief(ScaleBelief):
    """Posterior of the top layer; its memory is the recurrent state of the refinement.

    Attributes:
        prior_mean, prior_scale: [B, K, D], of what refined posteriors are compared with (line 26).
    """

    prior_mean: Tensor
    prior_scale: Tensor

    @property
    def prior(self) -> ScaleBelief:
        """What refined posteriors are compared with."""
        return ScaleBelief.of(self.prior_mean, self.prior_scale)


def hierarchy_belief(mean: Tensor, scale: Tensor, prior: ScaleBelief, memory: Tensor) -> HierarchyBelief:
    """The belief of these parameters [B, K, D]."""
    return HierarchyBelief(mean, softplus_log_std(scale), memory, scale, prior.mean, prior.scale)


def standard_normal(like: Tensor) -> ScaleBelief:
    """N(0, I) for every slot of `like` [B, K, D]."""
    return ScaleBelief.of(torch.zeros_like(like), torch.full_like(like, UNIT_SCALE))


class EfficientMORL(CycleModel):
    """The model; its methods are the cycle. Images are float32 [B, 3, H, W] in [0, 1]."""

    paper = 'Emami et al. 2021'
    config: EfficientMORLConfig

    def __init__(self, config: EfficientMORLConfig) -> None:
        super().__init__()
        c = self.config = config
        self.initial_mean = nn.Parameter(torch.zeros(c.latent))
        self.initial_scale = nn.Parameter(torch.ones(c.latent))
        self.encoder = PixelEncoder(c.image_size, c.features, stride=c.encoder_stride)
        self.layer = StochasticLayer(c.latent, c.features)
        self.prior = ConditionalPrior(c.latent)
        self.decoder = slot_decoder(c.decoder, c.latent, c.image_size, c.decoder_channels, c.decoder_grid)
        self.refinement = LightRefinement(c.latent)
        self.likelihood: Likelihood = LIKELIHOODS[c.likelihood](c.sigma)
        self.geco: Geco | None = None
        if c.geco != 'off':
            target = c.geco_target if c.geco == 'target' else math.log(c.sigma) + 0.5 * (c.geco_error / c.sigma) ** 2
            values = 3 * c.image_size ** 2
            self.geco = Geco((target + 0.5 * math.log(2 * math.pi)) * values, c.geco_step, c.geco_acceleration)

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> HierarchyBelief:
        """q(z^0): the same learned Gaussian for each slot; samples of it break the symmetry (section 3.1)."""
        shape = (batch, slots or self.config.slots, self.config.latent)
        mean, scale = self.initial_mean.expand(shape), self.initial_scale.expand(shape)
        return hierarchy_belief(mean, scale, standard_normal(mean), torch.zeros_like(mean))

    def restore(self, mean: Tensor, std: Tensor, memory: Tensor) -> HierarchyBelief:
        """The belief of these numbers [B, K, D], compared with N(0, I) until it has seen an image."""
        return hierarchy_belief(mean, softplus_scale(std), standard_normal(mean), memory)

    def noise(self, belief: Belief, generator: torch.Generator | None) -> Tensor:
        """Noise [B, K, D] for the sample that a refinement decodes."""
        return gaussian_noise(belief.mean.shape, generator, belief.mean)

    def encode(self, image: Tensor) -> Tensor:
        """Features [B, N, F] of an image (lines 2 and 3)."""
        return self.encoder(2 * image - 1)

    def decode(self, z: Tensor) -> Scene:
        """Latents [B, K, D] -> colours in [0, 1] and mask logits."""
        if self.config.recompute and torch.is_grad_enabled():
            scenes = [checkpoint(self.decoder, one, use_reentrant=False) for one in z.split(1)]
            return Scene(torch.cat([s.colours for s in scenes]), torch.cat([s.mask_logits for s in scenes]))
        return self.decoder(z)

    def bottom_up(self, features: Tensor, start: ScaleBelief, noise: Noise
                  ) -> tuple[list[ScaleBelief], Tensor]:
        """Stage 1 (lines 5 to 17).

        z^0 only asks the first question of the image. What the recurrent units start from is the learned lambda^0 in
        any case: from the last frame's parameters they would be layers L + 1, L + 2, ... of a hierarchy that has L, and
        since each layer adds to its parameters, these would grow without bound in a long video.

        Args:
            features: [B, N, F].
            start: what z^0 is drawn from [B, K, D]: q(z^0), or the last frame's belief.
            noise: of z^0 .. z^L.

        Returns:
            the posteriors of layers 1 to L, and a sample of the last [B, K, D].
        """
        layers: list[ScaleBelief] = []
        belief: ScaleBelief = self.start(*start.mean.shape[:2])
        z = start.sample(noise[0])
        for l in range(self.config.layers):
            mean, scale, _ = self.layer(z, belief.mean, belief.scale, features)
            belief = ScaleBelief.of(mean, scale)
            z = belief.sample(noise[l + 1])
            layers.append(belief)
        return layers, z

    def hierarchy_kl(self, layers: list[ScaleBelief], noise: Noise) -> tuple[Tensor, ScaleBelief]:
        """KL of the posteriors to the hierarchical prior (eq. 4), whose first layer is N(0, I).

        The chain of the prior runs upwards (eq. 2) or, reversed, downwards (section 3.3); each layer's prior is
        conditioned on a fresh sample of the layer before it in that chain.

        Args:
            layers: posteriors of layers 1 to L.
            noise: of the L - 1 samples.

        Returns:
            KL of each layer in the order of the chain [L, B, K], and the prior for the refinement.
        """
        chain = layers if self.config.prior.startswith('bottom-up') else layers[::-1]
        prior = first = standard_normal(layers[-1].mean)
        kl = [gaussian_kl_between(chain[0], prior)]
        for before, belief, n in zip(chain[:-1], chain[1:], noise, strict=True):
            prior = ScaleBelief.of(*self.prior(before.sample(n)))
            kl.append(gaussian_kl_between(belief, prior))
        return torch.stack(kl), prior if self.config.prior.endswith('++') else first

    def evaluate(self, belief: HierarchyBelief, z: Tensor, kl: Tensor, image: Tensor) -> tuple[Step, Tensor]:
        """Decode z, a sample of the belief: the step, and the negative ELBO of each image [B] (eq. 5, line 26)."""
        scene = self.decode(z)
        nll = -self.likelihood(image, scene).sum((1, 2))
        return Step(belief, scene, nll, kl), nll + self.config.kl_weight * kl.sum((0, 2))

    def update(self, belief: HierarchyBelief, loss: Tensor, keep_graph: bool = False) -> HierarchyBelief:
        """lambda + f(lambda, dL/dlambda) (eq. 6 and 7); the gradient of each image's loss [B] is cut from the graph."""
        with images_only():
            gradients = torch.autograd.grad(loss, (belief.mean, belief.scale), torch.ones_like(loss), keep_graph)
        mean, scale, memory = self.refinement(belief.mean, belief.scale, *gradients, belief.memory)
        return hierarchy_belief(belief.mean + mean, belief.scale + scale, belief.prior, memory)

    def two_stage(self, image: Tensor, start: HierarchyBelief, noise: Noise) -> list[Step]:
        """Algorithm 1 with everything decoded and differentiable, for training.

        Args:
            image: [B, C, H, W].
            start: what z^0 is drawn from [B, K, D].
            noise: 2 L + I: of z^0 .. z^L, of the L - 1 samples for the prior, of I refined posteriors.

        Returns:
            the posterior of stage 1 and of I refinements.
        """
        l = self.config.layers
        layers, z = self.bottom_up(self.encode(image), start, noise[:l + 1])
        kl, prior = self.hierarchy_kl(layers, noise[l + 1:2 * l])
        belief = hierarchy_belief(layers[-1].mean, layers[-1].scale, prior, torch.zeros_like(z))
        step, loss = self.evaluate(belief, z, kl, image)
        steps = [step]
        for refined in noise[2 * l:]:
            belief = self.update(belief, loss, keep_graph=True)
            kl = gaussian_kl_between(belief, belief.prior)[None]
            step, loss = self.evaluate(belief, belief.sample(refined), kl, image)
            steps.append(step)
        return steps

    def episode_loss(self, images: Tensor, actions: Tensor | None, step: int, generator: torch.Generator
                     ) -> tuple[Tensor, Terms]:
        """The weighted losses of stage 1 and of I refinements (eq. 8), with GECO if configured.

        The paper trains on single images (T = 1). Later frames start as in tracking, from the belief before, which is
        cut from the graph.
        """
        c = self.config
        iterations = c.training_iterations(step)
        weight = 1.0 if self.geco is None else self.geco.weight
        total, start = images.new_zeros(()), self.start(len(images))
        with torch.set_grad_enabled(torch.is_grad_enabled() or iterations > 0):
            for image in images.unbind(1):
                noise = gaussian_noise((2 * c.layers + iterations, *start.mean.shape), generator, start.mean)
                steps = self.two_stage(image, start, noise.unbind())
                for w, s in zip(c.loss_weights(iterations), steps, strict=True):
                    total = total + w * (weight * s.nll + c.kl_weight * s.kl.sum((0, 2))).mean() / images.shape[1]
                start = steps[-1].belief.detach()
        last = steps[-1]
        terms = {'nll': last.nll.mean().item(), 'kl': last.kl.sum((0, 2)).mean().item(), 'iterations': iterations,
                 'mse': (last.scene.image - image).square().mean().item()}
        if self.geco is not None and self.training:
            terms['nll_weight'] = float(weight)
            self.geco.update(last.nll.detach().mean(), step >= c.geco_warmup)
        return total, terms

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of a refined posterior (line 26): ([B], log-likelihood map [B, H, W], KL [B, K]), nats."""
        assert isinstance(belief, HierarchyBelief)
        log_likelihood = self.likelihood(image, scene)
        kl = gaussian_kl_between(belief, belief.prior)
        return -log_likelihood.sum((1, 2)) + self.config.kl_weight * kl.sum(1), log_likelihood, kl

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None
               ) -> HierarchyBelief:
        """One step of stage 2 (lines 22 and 23), its loss that of line 26."""
        assert isinstance(belief, HierarchyBelief)
        with torch.enable_grad():
            leaf = hierarchy_belief(*leaves(belief), belief.prior, belief.memory)
            loss, _, _ = self.loss(leaf, self.scene(leaf, noise), image)
        return self.update(leaf, loss)

    def infer(self, image: Tensor, belief: Belief | None = None, iterations: int | None = None,
              action: Tensor | None = None, generator: torch.Generator | None = None) -> HierarchyBelief:
        """Belief of a first frame, from noise, or of a later one, from the belief of the frame before; then I steps.

        A first frame samples, as the paper does; a later one takes means, so that a still scene gives a still belief.

        Args:
            image: [B, C, H, W].
            iterations: I; None = config.first_iterations or config.iterations.
        """
        c, l = self.config, self.config.layers
        if iterations is None:
            iterations = c.first_iterations if belief is None else c.iterations
        noise: Noise = [None] * (2 * l + iterations)
        if belief is None:
            start = self.start(len(image))
            noise = gaussian_noise((2 * l + iterations, *start.mean.shape), generator, start.mean).unbind()
        else:
            assert isinstance(belief, HierarchyBelief)
            start = belief
        layers, _ = self.bottom_up(self.encode(image), start, noise[:l + 1])
        if iterations == 0:
            _, prior = self.hierarchy_kl(layers, noise[l + 1:2 * l])
            return hierarchy_belief(layers[-1].mean, layers[-1].scale, prior, torch.zeros_like(prior.mean))
        with torch.enable_grad():  # the first refinement sees the loss of the whole hierarchy (eq. 5)
            top = ScaleBelief.of(*leaves(layers[-1]))
            kl, prior = self.hierarchy_kl([*layers[:-1], top], noise[l + 1:2 * l])
            result = hierarchy_belief(top.mean, top.scale, prior, torch.zeros_like(top.mean))
            _, loss = self.evaluate(result, result.sample(noise[l]), kl, image)
        result = self.update(result, loss)
        for refined in noise[2 * l:-1]:
            result = self.refine(result, image, None, refined)
        return result


def leaves(belief: ScaleBelief) -> tuple[Tensor, Tensor]:
    """Mean and scale [B, K, D], cut from the graph, to differentiate by."""
    return belief.mean.detach().requires_grad_(), belief.scale.detach().requires_grad_()
