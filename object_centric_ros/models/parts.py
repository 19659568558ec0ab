"""PARTS: Predict, Attend, Refine with Transformers and Slots (Zoran et al. 2021).

Frames are independent given their latents; all dependence in time is in the inference (Figure 2):

    predict  lambda_t^0 = P(lambda_{t-1}, a_{t-1})                                        section 3.2.1
    decode   C_k, m_k   = D(z_k), softmax over slots                                      eq. 1
    refine   lambda^n   = lambda^{n-1} + E(lambda^{n-1}, x_t, a, dL/dlambda, log p(x|z))   eq. 3
    loss     L_t        = -E log p(x_t | z) + beta KL(q || N(0, I))                        eq. 7
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from object_centric_ros.models.attention import SlotAttentionRefiner
from object_centric_ros.models.belief import Belief, Scene, gaussian_kl
from object_centric_ros.models.cycle import CycleModel, ModelConfig
from object_centric_ros.models.decoder import BroadcastDecoder
from object_centric_ros.models.dynamics import TransformerLSTM
from object_centric_ros.models.encoder import ConvEncoder
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.initial import InitialBelief, place_parked, seed_positions
from object_centric_ros.models.likelihood import LIKELIHOODS, Likelihood


@dataclass(frozen=True)
class PartsConfig(ModelConfig):
    """Sizes and choices of a PARTS model.

    Attributes:
        image_size: H = W of the images, pixels.
        slots: K while training; free at run time.
        latent: D; with `anchored` its first two features are the slot's position in [-1, 1] (u, v).
        action_size: A; 0 = no actions, 5 = (flag, pick u, v, place u, v).
        anchored: positions of slots are explicit (invariant slot attention); False is the paper's model.
        background_slot: slot 0 starts from a mean of its own.
        gradient_feedback: the loss gradient and the log-likelihood map reach the refinement (eq. 3).
        top_down: action and gradient shape the queries too (section 5.2).
        update: 'gated' or 'additive' (the paper).
        first_iterations, iterations: refinements of the first frame and of each later one (the paper: N = 1).
        likelihood: 'composed' or 'mixture' (the paper); sigma: its standard deviation.
        beta: weight of the KL term (the paper: 0.5).
        encoder_channels, encoder_stride, attention_size, hidden: sizes of the recognition.
        decoder_channels, decoder_layers, decoder_grid: sizes of the broadcast decoder.
        dynamics_size, dynamics_heads, dynamics_layers: sizes of the transformer and LSTM.
    """

    name: ClassVar[str] = 'parts'
    latent: int = 32
    action_size: int = 5
    anchored: bool = True
    background_slot: bool = True
    gradient_feedback: bool = True
    top_down: bool = True
    update: str = 'gated'
    first_iterations: int = 2
    iterations: int = 1
    likelihood: str = 'composed'
    sigma: float = 0.1
    beta: float = 0.05
    encoder_channels: tuple[int, ...] = (32, 64, 64)
    encoder_stride: int = 2
    attention_size: int = 64
    hidden: int = 128
    decoder_channels: int = 64
    decoder_layers: int = 3
    decoder_grid: int = 16
    dynamics_size: int = 128
    dynamics_heads: int = 4
    dynamics_layers: int = 1

    def __post_init__(self) -> None:
        if self.likelihood not in LIKELIHOODS:
            raise InputError('model.likelihood', f'one of {sorted(LIKELIHOODS)}', self.likelihood)
        if self.update not in ('gated', 'additive'):
            raise InputError('model.update', 'gated or additive', self.update)
        if self.image_size % self.decoder_grid:
            raise InputError('model.decoder_grid', f'a divisor of image_size = {self.image_size}', self.decoder_grid)
        if self.anchored and self.action_size not in (0, 5):
            raise InputError('model.action_size', '0 or 5 for an anchored model', self.action_size)


class Parts(CycleModel):
    """The model; its methods are the cycle. Images are float32 [B, 3, H, W] in [0, 1]."""

    paper = 'Zoran et al. 2021'
    predicts = True
    config: PartsConfig

    def __init__(self, config: PartsConfig) -> None:
        super().__init__()
        c = self.config = config
        self.action_format = 'pick_place_uv' if c.action_size == 5 else 'none'
        self.plans = c.action_size > 0
        self.parks = c.anchored and c.background_slot
        self.dynamics = TransformerLSTM(c.latent, c.action_size, c.dynamics_size, c.dynamics_heads, c.dynamics_layers,
                                        c.anchored)
        self.initial = InitialBelief(c.latent, self.dynamics.memory, c.background_slot, c.anchored)
        self.encoder = ConvEncoder(4 if c.gradient_feedback else 3, c.encoder_channels, c.encoder_stride)
        if c.gradient_feedback:  # silent until a stage with feedback teaches it, as the context of the refiner is
            nn.init.zeros_(cast(Tensor, self.encoder.convolutions[0].weight)[:, 3:])
        context = c.action_size + (2 * c.latent if c.gradient_feedback else 0)
        self.refiner = SlotAttentionRefiner(c.latent, c.encoder_channels[-1], context, c.attention_size, c.hidden,
                                            c.update, c.anchored, c.top_down)
        self.decoder = BroadcastDecoder(c.latent, c.image_size, c.decoder_channels, c.decoder_layers, c.decoder_grid,
                                        c.anchored)
        self.likelihood: Likelihood = LIKELIHOODS[c.likelihood](c.sigma)

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> Belief:
        """The belief before the first frame [batch, slots or config.slots, D]."""
        return self.initial(batch, slots or self.config.slots, generator)

    def predict(self, belief: Belief, action: Tensor | None = None) -> Belief:
        """P(lambda_{t-1}, a_{t-1}): guess of the next frame's posterior before it is seen. Action [B, A] or None."""
        return self.dynamics(belief, action)[0]

    def decode(self, z: Tensor) -> Scene:
        """Latents [B, K, D] -> scene (eq. 1)."""
        return self.decoder(z, self.local(z.shape[1]))

    def decode_things(self, z: Tensor) -> Scene:
        """Latents [B, K', D] of object slots -> their scene."""
        return self.decoder(z, z.new_ones(z.shape[1]))

    def local(self, slots: int) -> Tensor:
        """[slots]: 0 for the background slot, 1 for the others."""
        local = self.initial.mean.new_ones(slots)
        if self.config.background_slot:
            local[0] = 0
        return local

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Negative ELBO of each image (eq. 7): (loss [B], log-likelihood map [B, H, W], KL [B, K]), nats."""
        log_likelihood = self.likelihood(image, scene)
        kl = gaussian_kl(belief)
        return -log_likelihood.sum((1, 2)) + self.config.beta * kl.sum(1), log_likelihood, kl

    def encode(self, image: Tensor, log_likelihood: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bottom-up features of an image, with the log-likelihood map where there is one: [B, N, F] and [N, 2]."""
        if self.config.gradient_feedback:
            extra = (torch.zeros_like(image[:, :1]) if log_likelihood is None
                     else log_likelihood[:, None].clamp(-20) / 10)
            image = torch.cat([image, extra], 1)
        return self.encoder(image)

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None,
               features: tuple[Tensor, Tensor] | None = None, feedback: bool = True) -> Belief:
        """The belief after `attend`."""
        return self.attend(belief, image, action, noise, features, feedback)[0]

    def attend(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None,
               features: tuple[Tensor, Tensor] | None = None, feedback: bool = True) -> tuple[Belief, Tensor]:
        """One refinement (eq. 3) and its attention. Rows of a batch do not see each other.

        Args:
            belief: [B, K, D].
            image: [B, 3, H, W].
            action: [B, A] or None.
            noise: [B, K, D] for the sample that is decoded, or None for its mean.
            features: bottom-up features computed before, when `feedback` is off.
            feedback: whether the guess is decoded and its loss gradient used (where the model has it).

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
                gradient, log_likelihood = self.loss_gradient(belief, image, noise)
                features = self.encode(image, log_likelihood)
            context = torch.cat([context, gradient], -1)
        grid, coordinates = self.encode(image) if features is None else features
        return self.refiner(belief, grid, coordinates, self.local(belief.mean.shape[1]),
                            context if context.shape[-1] else None)

    def loss_gradient(self, belief: Belief, image: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Normalised dL/d(mean, log_std) [B, K, 2D] and the log-likelihood map [B, H, W], both cut from the graph."""
        with torch.enable_grad():
            leaf = Belief(belief.mean.detach().requires_grad_(), belief.log_std.detach().requires_grad_(),
                          belief.memory)
            scene = self.decode(leaf.sample(noise))
            loss, log_likelihood, _ = self.loss(leaf, scene, image)
            gradients = torch.autograd.grad(loss.sum(), (leaf.mean, leaf.log_std))
        scaled = [g / (g.square().mean((1, 2), keepdim=True).sqrt() + 1e-6) for g in gradients]
        return torch.cat(scaled, -1).detach(), log_likelihood.detach()

    def first(self, image: Tensor, slots: int | None = None, generator: torch.Generator | None = None,
              features: tuple[Tensor, Tensor] | None = None) -> Belief:
        """The guess of a first frame. An anchored model explains the background, then places slots on what is left."""
        belief = self.start(len(image), slots, generator)
        if not (self.config.anchored and self.config.background_slot):
            return belief
        belief = self.refine(belief, image, None, None, features, feedback=False)
        with torch.no_grad():
            background = self.decoder(belief.mean[:, :1], self.local(1)).colours[:, 0]
            where = seed_positions(image, background, belief.mean.shape[1] - 1)
        return place_parked(belief, where)

    def complete(self, belief: Belief, image: Tensor) -> Belief:
        """Put parked slots on what the decoded belief leaves unexplained (anchored models; others return as is)."""
        if not (self.config.anchored and self.config.background_slot):
            return belief
        with torch.no_grad():
            where = seed_positions(image, self.decode(belief.mean).image, belief.mean.shape[1] - 1)
        return place_parked(belief, where)

    def infer(self, image: Tensor, belief: Belief | None = None, iterations: int | None = None,
              action: Tensor | None = None, generator: torch.Generator | None = None, feedback: bool = True) -> Belief:
        """Belief of a first frame (belief None) or of a later one.

        A first frame takes `first`, `first_iterations` refinements without gradient feedback, `complete`, and then
        `iterations` refinements; a later one `iterations`.
        """
        if belief is None:
            features = self.encode(image)
            belief = self.first(image, None, generator, features)
            for _ in range(self.config.first_iterations):
                belief = self.refine(belief, image, None, None, features, feedback=False)
            belief = self.complete(belief, image)
        shared = None if feedback and self.config.gradient_feedback else self.encode(image)
        for _ in range(iterations or self.config.iterations):
            belief = self.refine(belief, image, action, None, shared, feedback)
        return belief
