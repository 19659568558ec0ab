"""PARTS: Predict, Attend, Refine with Transformers and Slots (Zoran et al. 2021), and the ablations of its Table 2.

Frames are independent given their latents; all dependence in time is in the inference (Figure 2):

    predict  lambda_t^0 = P(lambda_{t-1}, a_{t-1})                                        section 3.2.1
    decode   C_k, m_k   = D(z_k), softmax over slots                                      eq. 1
    refine   lambda^n   = lambda^{n-1} + E(lambda^{n-1}, x_t, a, dL/dlambda, log p(x|z))   eq. 3
    loss     L_t        = -E log p(x_t | z) + beta KL(q || N(0, I))                        eq. 7

The paper's model is config/model/parts_paper.yaml; the defaults are those of the shipped tabletop weights
(docs/TRAINING.md says where they differ and why).
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from object_centric_ros.models.attention import TopDownAttention
from object_centric_ros.models.belief import Belief, Scene, gaussian_kl, gaussian_kl_between
from object_centric_ros.models.convolution import images_only
from object_centric_ros.models.cycle import CycleModel, Terms, gaussian_noise
from object_centric_ros.models.decoded import DecodedBeliefs, with_leaves
from object_centric_ros.models.decoder import BroadcastDecoder
from object_centric_ros.models.encoder import ConvEncoder
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.initial import place_parked, seed_positions
from object_centric_ros.models.iodine_refiner import IodineRefiner
from object_centric_ros.models.likelihood import LIKELIHOODS, Likelihood
from object_centric_ros.models.parts_belief import Evaluation
from object_centric_ros.models.parts_belief import PartsBelief as PartsBelief
from object_centric_ros.models.parts_choices import decoder_of, encoder_of, initial_of, predictor_of, refiner_of
from object_centric_ros.models.parts_config import PartsConfig as PartsConfig


class Parts(CycleModel):
    """The model; its methods are the cycle. Images are float32 [B, 3, H, W] in [0, 1]."""

    paper = 'Zoran et al. 2021'
    config: PartsConfig

    def __init__(self, config: PartsConfig) -> None:
        super().__init__()
        c = self.config = config
        self.action_format = {4: 'pick_place_xy', 5: 'pick_place_uv'}.get(c.action_size, 'none')
        self.predicts = c.predictor != 'none'
        self.drifts = not c.still
        self.plans = self.predicts and c.action_size > 0
        self.parks = c.anchored and c.background_slot
        self.dynamics = predictor_of(c)
        self.initial = initial_of(c, self.dynamics.memory if self.dynamics else 0)
        self.likelihood: Likelihood = LIKELIHOODS[c.likelihood](c.sigma)
        self.encoder = encoder_of(c)
        self.refiner = refiner_of(c, self.likelihood)
        self.decoder = decoder_of(c)
        self._decoded = DecodedBeliefs()

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> Belief:
        """The belief before the first frame [batch, slots or config.slots, D]."""
        return self._carrying(self.initial(batch, slots or self.config.slots, generator))

    def restore(self, mean: Tensor, std: Tensor, memory: Tensor) -> Belief:
        """The belief from what travels between processes; the prior is N(0, I) until the next prediction."""
        return self._carrying(Belief(mean, std.log(), memory))

    def _carrying(self, belief: Belief) -> Belief:
        predicted, state = self.config.prior == 'predicted', getattr(self.refiner, 'state', 0)
        if not (predicted or state):
            return belief
        shape = belief.mean.shape[:2]
        return PartsBelief(**belief.tensors(), prior=belief.mean.new_zeros(*shape, 2 * self.config.latent * predicted),
                           state=belief.mean.new_zeros(*shape, state))

    def predict(self, belief: Belief, action: Tensor | None = None) -> Belief:
        """P(lambda_{t-1}, a_{t-1}): guess of the next frame's posterior before it is seen. Action [B, A] or None.

        With a predicted prior the guess is the prior too (OP3; section 5.1).
        """
        if self.dynamics is None:
            return belief
        guess: Belief = self.dynamics(belief, action)[0]
        if self.config.prior == 'fixed':
            return guess
        return replace(cast(PartsBelief, guess), prior=torch.cat([guess.mean, guess.log_std], -1))

    def guess(self, belief: Belief, action: Tensor | None) -> Belief:
        """The guess that a frame starts from: predicted; the last belief where things stay without an action."""
        if not self.config.still:
            return self.predict(belief, action)
        if action is None:
            return belief
        return self.predict(belief, action).where((action != 0).any(1)[:, None], belief)

    def decode(self, z: Tensor) -> Scene:
        """Latents [B, K, D] -> scene (eq. 1)."""
        return self._decode(z, self.local(z))

    def scene(self, belief: Belief, noise: Tensor | None = None) -> Scene:
        """The decoded belief; in a stream of single images the next refinement need not decode it again."""
        if noise is None and self.config.gradient_feedback and len(belief.mean) == 1 and not torch.is_grad_enabled():
            return self._decoded.decode(belief, self.decode)
        return super().scene(belief, noise)

    def decode_things(self, z: Tensor) -> Scene:
        """Latents [B, K', D] of object slots -> their scene."""
        return self._decode(z, z.new_ones(z.shape[1]))

    def _decode(self, z: Tensor, local: Tensor) -> Scene:
        return self.decoder(z, local) if isinstance(self.decoder, BroadcastDecoder) else self.decoder(z)

    def local(self, z: Tensor) -> Tensor:
        """For latents [B, K, D]: [K], 0 for the background slot, 1 for the others."""
        local = z.new_ones(z.shape[1])
        if self.config.background_slot:
            local[0] = 0
        return local

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Negative ELBO of each image (eq. 7): (loss [B], log-likelihood map [B, H, W], KL [B, K]), nats."""
        log_likelihood = self.likelihood(image, scene)
        if self.config.prior == 'predicted':
            mean, log_std = cast(PartsBelief, belief).prior.chunk(2, -1)
            kl = gaussian_kl_between(belief, Belief(mean, log_std, belief.memory))
        else:
            kl = gaussian_kl(belief)
        return -log_likelihood.sum((1, 2)) + self.config.beta * kl.sum(1), log_likelihood, kl

    def evaluate(self, belief: Belief, image: Tensor, noise: Tensor | None, gradient: bool = True) -> Evaluation:
        """Decode a sample of the belief (its mean without noise) and hold it against the image [B, 3, H, W].

        One decode serves the training loss and, with `gradient`, the refinement.
        """
        training = torch.is_grad_enabled()
        kept = self._decoded.find(belief) if gradient and noise is None and not training else None
        with torch.set_grad_enabled(training or gradient):
            if kept is not None:
                belief, scene = kept
            else:
                if gradient:
                    belief = with_leaves(belief, training)
                scene = self.decode(belief.sample(noise))
            loss, log_likelihood, kl = self.loss(belief, scene, image)
            scaled = None
            if gradient:
                with images_only():
                    found = torch.autograd.grad(loss.sum(), (belief.mean, belief.log_std),
                                                retain_graph=training or kept is not None)
                # The paper does not say how the gradient is scaled; each image's is brought to a mean square of one.
                scaled = torch.cat([g / (g.square().mean((1, 2), keepdim=True).sqrt() + 1e-6) for g in found], -1)
        return Evaluation(loss, log_likelihood, kl, scene, scaled)

    def encode(self, image: Tensor, log_likelihood: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bottom-up features of an image, with the log-likelihood map where there is one: [B, N, F] and [N, 2]."""
        if self.config.gradient_feedback:
            extra = (torch.zeros_like(image[:, :1]) if log_likelihood is None
                     else log_likelihood[:, None].clamp(-20) / 10)
            image = torch.cat([image, extra], 1)
        return cast(tuple[Tensor, Tensor], cast(ConvEncoder, self.encoder)(image))

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None,
               features: tuple[Tensor, Tensor] | None = None, feedback: bool = True,
               evaluation: Evaluation | None = None) -> Belief:
        """One refinement (eq. 3), by `attend` or, without slot attention, by IODINE's network."""
        if not isinstance(self.refiner, IodineRefiner):
            return self.attend(belief, image, action, noise, features, feedback, evaluation)[0]
        found = self._evaluated(belief, image, noise, evaluation)
        belief, state = self.refiner(belief, cast(PartsBelief, belief).state, image, found.scene, found.gradient)
        return replace(cast(PartsBelief, belief), state=state)

    def _evaluated(self, belief: Belief, image: Tensor, noise: Tensor | None, found: Evaluation | None) -> Evaluation:
        if found is None:
            with torch.no_grad():
                found = self.evaluate(belief, image, noise)
        assert found.gradient is not None
        return found

    def attend(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None,
               features: tuple[Tensor, Tensor] | None = None, feedback: bool = True,
               evaluation: Evaluation | None = None) -> tuple[Belief, Tensor]:
        """One refinement (eq. 3) and its attention. Rows of a batch do not see each other.

        Args:
            belief: [B, K, D].
            image: [B, 3, H, W].
            action: [B, A] or None.
            noise: [B, K, D] for the sample that is decoded, or None for its mean.
            features: bottom-up features computed before, when `feedback` is off.
            feedback: whether the guess is decoded and its loss gradient used (where the model has it).
            evaluation: of this belief and image where it was made before, with its gradient.

        Returns:
            the refined belief and the attention [B, K, N].
        """
        c = self.config
        context = belief.mean.new_zeros(*belief.mean.shape[:2], 0)
        if c.action_size:
            told = belief.mean.new_zeros(len(image), c.action_size) if action is None else action
            context = torch.cat([context, told[:, None].expand(-1, belief.mean.shape[1], -1)], -1)
        if c.gradient_feedback:
            gradient = belief.mean.new_zeros(*belief.mean.shape[:2], 2 * c.latent)
            if feedback:
                found = self._evaluated(belief, image, noise, evaluation)
                gradient, features = cast(Tensor, found.gradient), self.encode(image, found.log_likelihood.detach())
            context = torch.cat([context, gradient], -1)
        grid, coordinates = self.encode(image) if features is None else features
        if isinstance(self.refiner, TopDownAttention):
            return self.refiner(belief, grid, context)
        return self.refiner(belief, grid, coordinates, self.local(belief.mean),
                            context if context.shape[-1] else None)

    def noise(self, belief: Belief, generator: torch.Generator | None) -> Tensor | None:
        """Noise for the sample that a refinement decodes."""
        return gaussian_noise(belief.mean.shape, generator, belief.mean) if self.config.sampled else None

    def first(self, image: Tensor, slots: int | None = None, generator: torch.Generator | None = None,
              features: tuple[Tensor, Tensor] | None = None) -> Belief:
        """The guess of a first frame. An anchored model explains the background, then places slots on what is left."""
        belief = self.start(len(image), slots, generator)
        if not self.parks:
            return belief
        belief = self.refine(belief, image, None, None, features, feedback=False)
        with torch.no_grad():
            background = self.decoder(belief.mean[:, :1], self.local(belief.mean[:, :1])).colours[:, 0]
        return self._placed(belief, image, background)

    def complete(self, belief: Belief, image: Tensor) -> Belief:
        """Put parked slots on what the decoded belief leaves unexplained (anchored models; others return as is)."""
        if not self.parks:
            return belief
        with torch.no_grad():
            explained = self.decode(belief.mean).image
        return self._placed(belief, image, explained)

    def _placed(self, belief: Belief, image: Tensor, explained: Tensor) -> Belief:
        slots, c = belief.mean.shape[1] - 1, self.config
        return place_parked(belief, seed_positions(image, explained, slots, c.seed_threshold, c.seed_reach))

    def infer(self, image: Tensor, belief: Belief | None = None, iterations: int | None = None,
              action: Tensor | None = None, generator: torch.Generator | None = None, feedback: bool = True) -> Belief:
        """Belief of a first frame (belief None) or of a later one.

        A first frame takes `first`, `first_iterations` refinements, `complete`, and then `iterations` refinements; a
        later one `iterations`. The first ones are without gradient feedback where no sample tells the slots apart.
        """
        c = self.config
        if belief is None:
            cheap = not c.sampled
            features = self.encode(image) if cheap else None
            belief = self.first(image, None, generator, features)
            for _ in range(c.first_iterations):
                belief = self.refine(belief, image, None, self.noise(belief, generator), features, not cheap)
            belief = self.complete(belief, image)
        shared = None if feedback and c.gradient_feedback else self.encode(image)
        for _ in range(iterations or c.iterations):
            belief = self.refine(belief, image, action, self.noise(belief, generator), shared, feedback)
        return belief

    def sequence_loss(self, images: Tensor, actions: Tensor | None, generator: torch.Generator, observed: int
                      ) -> tuple[Tensor, Terms]:
        """The filter over sequences: the mean loss of all beliefs that are scored (section 3.3), nats an image.

        Args:
            images: [B, T, 3, H, W].
            actions: before each frame [B, T, A], or None.
            observed: frames from this index on are predicted only (section 4.2).
        """
        c = self.config
        belief, losses, terms = self.start(images.shape[0], None, generator), [], Terms()
        for t, image in enumerate(images.unbind(1)):
            if c.truncate and t and t % c.truncate == 0:
                belief = belief.detach()
            action = None if actions is None else actions[:, t]
            iterations = 0 if t >= observed else c.iterations
            if t:
                belief = self.guess(belief, action)
            elif self.parks:
                belief, iterations = self.infer(image, generator=generator), 0
            else:
                iterations += c.first_iterations
            scored = []
            for _ in range(iterations):
                noise = gaussian_noise(belief.mean.shape, generator, belief.mean)
                scored.append(self.evaluate(belief, image, noise, gradient=c.sampled))
                belief = self.refine(belief, image, action, evaluation=scored[-1] if c.sampled else None)
            if not scored or c.scored == 'both':
                noise = gaussian_noise(belief.mean.shape, generator, belief.mean)
                scored.append(self.evaluate(belief, image, noise, gradient=False))
            losses += [e.loss for e in scored]
            with torch.no_grad():
                if t:
                    terms[f'predicted_mse_{t}'] = mse_loss(scored[0].scene.image, image).item()
                if t < observed:
                    last = scored[-1]
                    terms |= {'nll': -last.log_likelihood.mean().item(), 'kl': last.kl.sum(1).mean().item(),
                              'mse': mse_loss(last.scene.image, image).item()}
        return torch.stack(losses).mean(), terms

    def episode_loss(self, images: Tensor, actions: Tensor | None, step: int, generator: torch.Generator
                     ) -> tuple[Tensor, Terms]:
        """Sections 3.3 and 4: all frames observed, or `burn_in` of them and `rollout` predicted from actions alone."""
        frames = self.config.burn_in + self.config.rollout
        if images.shape[1] < frames:
            raise InputError('frames of a sequence', f'burn_in + rollout = {frames} or more', images.shape[1])
        if frames:
            images, actions = images[:, :frames], None if actions is None else actions[:, :frames]
        return self.sequence_loss(images, actions, generator, self.config.burn_in or images.shape[1])
