"""OBAI: object-based active inference (van Bergen and Lanillos 2022).

Each slot is a Gaussian belief over a state and its rate of change (s, s'); actions accelerate it.

    predict  s' += D a,  s += s',  a_k = sum_i m_ik psi_i of the action field psi            eq. 5-7
    decode   p(o_i | s) = sum_k softmax_k(pi_i(s_k)) N(g_i(s_k), sigma_o^2)                  eq. 1-4
    refine   lambda += R(lambda, grad L, image, ...), 4 times a frame; action beliefs too    section 2.3
    loss     L = KL(q(s, s') || dynamics) + KL(q(a) || field) - beta E log p(o | s)          eq. 8, 15

All frames of an episode are inferred together (`joint`), a new one joining every 4 iterations (appendix B). In a stream
each frame is inferred from the belief about the one before, integrated out: the same loss with a window of one frame.
Closed-form goals and plans for these beliefs are in `preferences`.

Where the paper is silent or at odds with itself:
- Parameters lambda: the mean, and a number whose softplus is the variance. LSTM memories of a new frame are zero.
  Gradients are constants to the training (no second derivatives), as in IODINE.
- Appendix B.1 gives the decoder the 2 L numbers lambda of s; eq. 1, 3 and 22 a sample of s. `decoder_reads` has both;
  of lambda the mean is sampled in either case: it is what makes slots that start from one lambda_0 differ.
- A predicted belief takes mean and marginal variance of the dynamics.
- Beliefs over the action before frame t begin with frame t, at p(a | psi) for the expected assignment. The first frame
  has none before it, and frames before which nothing was told have a = 0.
- Eq. 20-21 sample a; given the sampled assignment its expectation is known and used.
- L^(n) of eq. 16 is the loss of the frames that have joined by iteration n.
- The image-sized gradients that the refinement network sees are those of the reconstruction alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from object_centric_ros.models.action_field import action_kl, object_actions, sample_assignment, temperature_at
from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder
from object_centric_ros.models.convolution import images_only
from object_centric_ros.models.cycle import CycleModel, Terms, gaussian_noise
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.generalised import LinearDynamics, Transition, expected_kl
from object_centric_ros.models.likelihood import GaussianMixture
from object_centric_ros.models.obai_anchored import AnchoredDecoder, Glimpse, seeds
from object_centric_ros.models.obai_belief import Look, join
from object_centric_ros.models.obai_belief import OBAIBelief as OBAIBelief
from object_centric_ros.models.obai_config import OBAIConfig
from object_centric_ros.models.refinement import ImageFeedback, RefinementNetwork, StandardNorm
from object_centric_ros.models.scale import softplus_log_std, softplus_scale


class OBAI(CycleModel):
    """The model; its methods are the cycle. Images are float32 [B, 3, H, W] in [0, 1]."""

    paper = 'van Bergen and Lanillos 2022'
    predicts = drifts = True
    config: OBAIConfig

    def __init__(self, config: OBAIConfig) -> None:
        super().__init__()
        c = self.config = config
        self.plans = c.action_size > 0
        self.action_format = 'field' if c.action_size else 'none'
        kinds = (2,) if c.background_slot else ()  # the background's slot starts from a lambda_0 of its own
        self.initial_mean = nn.Parameter(0.1 * torch.randn(*kinds, 2 * c.latent))
        std = torch.full((*kinds, 2 * c.latent), 0.3 if c.anchored else 1.0)
        self.initial_scale = nn.Parameter(softplus_scale(std))
        reads = c.latent * (2 if c.decoder_reads == 'belief' else 1)
        self.decoder: nn.Module = SpatialBroadcastDecoder(reads, c.image_size, c.decoder_channels) if not c.anchored \
            else AnchoredDecoder(reads, c.image_size, c.decoder_channels, c.decoder_grid)
        self.glimpse = Glimpse(c.glimpse, c.glimpse_size) if c.anchored else None
        self.likelihood = GaussianMixture(c.sigma_image)
        self.dynamics = LinearDynamics(c.latent, c.action_size, c.sigma_state)
        self.feedback = ImageFeedback(c.image_size, leave_one_out=False)
        self.norms = nn.ModuleList(StandardNorm(2 * c.latent, False, 1e-5) for _ in range(2))
        self.refiner = RefinementNetwork(self.feedback.channels, 8 * c.latent, (4 * c.latent,), c.refine_channels,
                                         stride=2, padding='valid', pool='flatten',
                                         image_size=c.glimpse_size if c.anchored else c.image_size,
                                         hidden=c.refine_hidden, memory=c.refine_size, additive=True)
        self.action_refiner = RefinementNetwork(0, 5 * c.action_size, (2 * c.action_size,), (), memory=c.action_hidden,
                                                additive=True) if c.action_size else None
        if c.anchored and self.refiner.layer:  # windows show colours at once; that need not wait for the gradients'
            self.refiner.layer.reset_parameters()
        # First updates are small: as sigma_s is, a step of 1 that the dynamics do not foresee costs 50 nats a feature.
        heads = [self.refiner.heads] if self.action_refiner is None else [self.refiner.heads, self.action_refiner.heads]
        for parameter in (p for head in heads for p in head.parameters()):
            nn.init.normal_(parameter, std=0.01)

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> OBAIBelief:
        """lambda_0, the same for all slots, under the prior N(0, 1) (section 2.3). Sampling tells the slots apart."""
        k = slots or self.config.slots
        kind = [0, *[1] * (k - 1)] if self.config.background_slot else ...
        mean, scale = (p[kind].expand(batch, k, -1) for p in (self.initial_mean, self.initial_scale))
        return self._first(mean, scale, mean.new_zeros(batch, k, 2 * self.config.refine_size))

    def first(self, image: Tensor, generator: torch.Generator | None = None, slots: int | None = None) -> OBAIBelief:
        """The belief before a first frame [B, 3, H, W]; anchored, with its slots put in place."""
        belief = self.start(len(image), slots, generator)
        if not self.config.anchored:
            return belief
        background = belief.map(lambda x: x[:, :1])
        background = self.refine(background, image, None, self.noise(background, generator))
        with torch.no_grad():
            where = seeds(image, self.scene(background).image, belief.mean.shape[1] - 1, self.config.seed_reach)
        theirs = background.tensors()
        belief = replace(belief, **{k: torch.cat([theirs[k], v[:, 1:]], 1) for k, v in belief.tensors().items()})
        mean = torch.cat([where.to(belief.mean.dtype), belief.mean[:, 1:, 2:]], -1)
        return replace(belief, mean=torch.cat([belief.mean[:, :1], mean], 1))

    def infer(self, image: Tensor, belief: Belief | None = None, iterations: int | None = None,
              action: Tensor | None = None, generator: torch.Generator | None = None) -> Belief:
        """Belief of a first frame (belief None), from `first` on, or of a later one from the guess of it."""
        if belief is None:
            belief, iterations = self.first(image, generator), iterations or self.config.first_iterations
        return super().infer(image, belief, iterations, action, generator)

    def restore(self, mean: Tensor, std: Tensor, memory: Tensor) -> OBAIBelief:
        """The belief from mean, std [B, K, 2L] and memory, as if it were of a first frame."""
        return self._first(mean, softplus_scale(std), memory)

    def _first(self, mean: Tensor, scale: Tensor, memory: Tensor) -> OBAIBelief:
        zero, nothing = torch.zeros_like(mean), mean.new_zeros(*mean.shape[:2], self.config.action_size)
        return OBAIBelief(mean, softplus_log_std(scale), memory, scale, zero, torch.ones_like(mean), zero,
                          zero[..., :1], *self._told(nothing, 0))

    def _told(self, told: Tensor, acted: int) -> tuple[Tensor, ...]:
        """Action beliefs N(told, sigma_psi^2) [B, K, A] (eq. 7), told, acted and an empty memory."""
        scale = softplus_scale(torch.full_like(told, self.config.sigma_action))
        memory = told.new_zeros(*told.shape[:2], 2 * self.config.action_hidden)
        return told, scale, told, told.new_full((*told.shape[:2], 1), acted), memory

    def predict(self, belief: Belief, action: Tensor | None = None) -> OBAIBelief:
        """The belief that the dynamics extrapolate (eq. 5-6), with itself as the prior of what follows.

        Args:
            action: field [B, 2, H, W] of accelerations in pixels, or None for no action.
        """
        mean, variance = belief.mean, (2 * belief.log_std).exp()
        told, acted = mean.new_zeros(*mean.shape[:2], self.config.action_size), 0
        if action is not None and self.config.action_size:
            size = self.config.image_size
            if action.shape != (len(mean), 2, size, size):
                raise InputError('action field', f'{[len(mean), 2, size, size]}', list(action.shape))
            told, acted = object_actions(self.scene(belief).masks, action), 1
        zero = torch.zeros_like(mean)
        past = self.dynamics.marginalised(mean, variance)
        fresh = OBAIBelief(zero, zero, mean.new_zeros(*mean.shape[:2], 2 * self.config.refine_size), zero, past.mean,
                           past.variance, zero, torch.ones_like(mean[..., :1]), *self._told(told, acted))
        prior, spread = self.prior(fresh)
        mean, variance = Transition(prior.mean, prior.variance + spread, prior.coupling).marginal()
        scale = softplus_scale(variance.sqrt())
        return replace(fresh, mean=mean, scale=scale, log_std=softplus_log_std(scale))

    def latents(self, belief: Belief, noise: Tensor | None = None) -> Tensor:
        """A sample of s, or its mean [B, K, L]; with decoder_reads = 'belief' its scale behind it."""
        assert isinstance(belief, OBAIBelief)
        state, scale = belief.sample(noise).chunk(2, -1)[0], belief.scale.chunk(2, -1)[0]
        return state if self.config.decoder_reads == 'state' else torch.cat([state, scale], -1)

    def decode(self, z: Tensor) -> Scene:
        """Latents [B, K, Z] -> scene (eq. 1-2)."""
        return self.decoder(z)

    def decode_things(self, z: Tensor) -> Scene:
        """Latents [B, K', Z] of slots of things -> their scene."""
        return self.decoder(z, things=True) if self.config.anchored else self.decoder(z)

    def prior(self, belief: OBAIBelief) -> tuple[Transition, Tensor]:
        """p(s_t, s'_t | past, action) with the mean action, and the variance of its mean (eq. 5-6)."""
        mean = self.dynamics.pushed(belief.prior_mean, belief.acted * belief.action_mean)
        action_variance = (2 * softplus_log_std(belief.action_scale)).exp()
        spread = self.dynamics.widened(belief.prior_spread, belief.acted * action_variance)
        return Transition(mean, belief.prior_variance, belief.coupling), spread

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """L of eq. 15: (loss [B], log-likelihood map [B, H, W], KL of state and action [B, K]), nats."""
        assert isinstance(belief, OBAIBelief)
        log_likelihood = self.likelihood(image, scene)
        kl = expected_kl(belief.mean, belief.log_std, *self.prior(belief))
        kl = kl + belief.acted[..., 0] * action_kl(belief.action_mean, softplus_log_std(belief.action_scale),
                                                   belief.told, self.config.sigma_action)
        return kl.sum(1) - self.config.beta * log_likelihood.sum((1, 2)), log_likelihood, kl

    def look(self, belief: OBAIBelief, images: Tensor, noise: Tensor | None, fields: Tensor | None = None,
             frames: int = 1, temperature: float = 1.0, generator: torch.Generator | None = None,
             last: bool = False) -> Look:
        """Loss and gradients of the beliefs about a window of frames.

        Args:
            belief: of B * F frames, those of one window next to each other; in each window the first frame has its
                prior in its fields, the others have it from the frame before (eq. 8).
            images: [B * F, 3, H, W].
            noise: [B * F, K, 2L], of the decoded sample, or None.
            fields: action field before each frame [B, F, 2, H, W].
            frames: F.
            temperature, generator: of the sampled assignment of pixels (appendix D).
            last: no update follows, so only the loss is wanted: without gradients, nothing is seen.
        """
        learns = torch.is_grad_enabled()
        with torch.enable_grad():
            parameters = [p if learns and p.requires_grad else p.detach().requires_grad_()
                          for p in (belief.mean, belief.scale, belief.action_mean, belief.action_scale)]
            mean, scale, action_mean, action_scale = parameters
            belief = replace(belief, mean=mean, scale=scale, log_std=softplus_log_std(scale), action_mean=action_mean,
                             action_scale=action_scale)
            scene = self.scene(belief, noise)
            expected = belief.told
            if frames > 1:
                belief, expected = self._link(belief, scene, fields, frames, temperature, generator)
            loss, log_likelihood, kl = self.loss(belief, scene, images)
            if last:
                return Look(loss.unflatten(0, (-1, frames)).sum(1), scene, log_likelihood, kl, expected)
            with images_only():
                gradients = torch.autograd.grad(loss.sum(), parameters, retain_graph=learns)
        colours, _, masks = (-self.config.beta * g for g in self.likelihood.gradients(images, scene))
        shown = scene
        if self.glimpse is not None:  # nothing is learned about the decoder through what is looked at
            shown = Scene(scene.colours.detach(), scene.mask_logits.detach())
        seen = self.feedback(images, shown, self.likelihood.components(images, shown), colours, masks)
        if self.glimpse is not None:
            seen = self.glimpse(seen, belief.mean)
        return Look(loss.unflatten(0, (-1, frames)).sum(1), scene, log_likelihood, kl, expected, seen, gradients)

    def _link(self, belief: OBAIBelief, scene: Scene, fields: Tensor | None, frames: int, temperature: float,
              generator: torch.Generator | None) -> tuple[OBAIBelief, Tensor]:
        """The belief with later frames' priors from the beliefs before them, and the expected actions [B * F, K, A].

        The past is not integrated out here: the beliefs about it are independent factors of q (eq. 8).
        """
        def later(ours: Tensor, before: Tensor) -> Tensor:
            """The first frame's own, and for each later frame what belongs to the one before."""
            rows, past = ours.unflatten(0, (-1, frames)), before.unflatten(0, (-1, frames))
            return torch.cat([rows[:, :1], past[:, :-1]], 1).flatten(0, 1)
        given = self.dynamics.given(belief.mean)
        told = expected = belief.told
        if fields is not None and self.config.action_size:
            after = torch.cat([fields[:, 1:], fields[:, :1]], 1).flatten(0, 1)  # the field that follows each frame
            sample = sample_assignment(scene.log_masks, temperature, generator)
            told = later(told, object_actions(sample, after))
            expected = later(expected, object_actions(scene.masks, after))
        return replace(belief, prior_mean=later(belief.prior_mean, given.mean), told=told,
                       prior_variance=later(belief.prior_variance, given.variance),
                       prior_spread=later(belief.prior_spread, (2 * belief.log_std).exp())), expected

    def update(self, belief: OBAIBelief, look: Look) -> OBAIBelief:
        """One iteration of the refinement networks, each slot and frame on its own."""
        assert look.seen is not None
        gradients = [g.detach() for g in look.gradients[:2]]
        if self.config.anchored:  # that by the position is a hundred times the others, which the norm would drown
            gradients = [g.asinh() for g in gradients]
        slopes = [norm(g) for norm, g in zip(self.norms, gradients, strict=True)]
        parameters = torch.cat([belief.mean, belief.scale], -1)
        new, h, c = self.refiner(look.seen, torch.cat([parameters, *slopes], -1), parameters,
                                 *belief.memory.chunk(2, -1))
        mean, scale = new.chunk(2, -1)
        belief = replace(belief, mean=mean, scale=scale, log_std=softplus_log_std(scale), memory=torch.cat([h, c], -1))
        if self.action_refiner is None:
            return belief
        parameters = torch.cat([belief.action_mean, belief.action_scale], -1)
        vectors = torch.cat([parameters, *(g.detach() for g in look.gradients[2:]), look.expected], -1)
        new, h, c = self.action_refiner(None, vectors, parameters, *belief.action_memory.chunk(2, -1))
        action_mean, action_scale = torch.where(belief.acted > 0, new, parameters).chunk(2, -1)
        return replace(belief, action_mean=action_mean, action_scale=action_scale, action_memory=torch.cat([h, c], -1))

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None
               ) -> OBAIBelief:
        """One iteration on one frame, given the beliefs about the frame before; `predict` has taken in the action."""
        assert isinstance(belief, OBAIBelief)
        return self.update(belief, self.look(belief, image, noise))

    def noise(self, belief: Belief, generator: torch.Generator | None) -> Tensor:
        """Every iteration decodes a sample (eq. 22)."""
        return gaussian_noise(belief.mean.shape, generator, belief.mean)

    def iterations(self, images: Tensor, actions: Tensor | None, generator: torch.Generator | None,
                   temperature: float) -> Iterator[tuple[OBAIBelief, Look]]:
        """Inference of an episode (appendix B): after each iteration the beliefs and the look that judges them.

        With `joint` they are of all frames so far, [B * F, K, ...], else of the newest.

        Args:
            images: [B, T, 3, H, W].
            actions: fields before each frame [B, T, 2, H, W] (the first is not read), or None.
        """
        b, c = len(images), self.config
        window = newest = self.first(images[:, 0], generator)
        for t in range(images.shape[1]):
            if t:
                newest = self.predict(newest, None if actions is None else actions[:, t])
                window = join(window, newest, b) if c.joint else newest
            first = 0 if c.joint else t
            frames, fields = t + 1 - first, None if actions is None else actions[:, first:t + 1]
            seen = images[:, first:t + 1].flatten(0, 1)
            now = self.look(window, seen, self.noise(window, generator), fields, frames, temperature, generator)
            for left in reversed(range(c.iterations if t else c.first_iterations)):
                window = self.update(window, now)
                now = self.look(window, seen, self.noise(window, generator), fields, frames, temperature, generator,
                                last=not left)
                yield window, now
            newest = window.map(lambda x: x.unflatten(0, (b, -1))[:, -1])

    def episode_loss(self, images: Tensor, actions: Tensor | None, step: int, generator: torch.Generator
                     ) -> tuple[Tensor, Terms]:
        """The composite loss sum_n n / N L^(n) (eq. 16) over N iterations, mean over the batch.

        Args:
            images: [B, T, 3, H, W].
            actions: fields before each frame [B, T, 2, H, W], or None.
            step: optimisation steps so far; lowers the temperature of the sampled assignment.
        """
        c = self.config
        temperature = temperature_at(step, c.temperature_start, c.temperature_end, c.temperature_steps)
        total = c.first_iterations + c.iterations * (images.shape[1] - 1)
        loss = images.new_zeros(())
        for n, (_, look) in enumerate(self.iterations(images, actions, generator, temperature), 1):
            loss = loss + n / total * look.loss.mean()
        composed = look.scene.image.unflatten(0, (len(images), -1))
        terms = {'nll': -look.log_likelihood.sum((1, 2)).mean().item(), 'kl': look.kl.sum(1).mean().item(),
                 'mse': (composed - images[:, -composed.shape[1]:]).square().mean().item(),
                 'temperature': temperature}
        return loss, terms
