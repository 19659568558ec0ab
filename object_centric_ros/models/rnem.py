"""R-NEM: Relational Neural Expectation Maximization (van Steenkiste et al. 2018), and what it grew out of.

Each slot k has a state theta_k and predicts the next frame by itself, psi_k = f(theta_k). A frame x is one step of EM:

    E-step   gamma_k = p(x | psi_k) / sum_j p(x | psi_j)                               section 2.1
    M-step   theta_k = RNN(enc(gamma_k (x + noise - psi_k)), Upsilon_k(theta))         eq. 4
             Upsilon_k = [h_k; sum_i alpha_ki e_ki]                                    eq. 5
    loss     sum_k gamma_k (-log p(x | psi_k)) + (1 - gamma_k) KL[P(x) || p(x|psi_k)]  eq. 3, of the frame predicted

R-NEM, R-NEM without attention, RNN-EM (Upsilon_k = theta_k), N-EM (a gradient step in place of the RNN; Greff et al.
2017) and the RNN and LSTM baselines (K = 1) are configurations: config/model/rnem*.yaml and its neighbours.

In the cycle, `predict` is the M-step and the decoding of the frame to come, `refine` the E-step on that frame. The
paper writes the input as gamma (psi - x) in its appendix and as gamma (x - psi) in its text; this is the latter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.cycle import CycleModel, Terms
from object_centric_ros.models.em import (
    PIXELS,
    cluster_losses,
    copy_loss,
    initial_log_gamma,
    log_mixture,
    log_responsibilities,
    total,
    upper_bound_loss,
)
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.normed import NormedDecoder, NormedEncoder
from object_centric_ros.models.recurrent import LSTMCell, SigmoidCell
from object_centric_ros.models.relational import RelationalInteraction
from object_centric_ros.models.rnem_config import RNEMConfig as RNEMConfig

CELLS: dict[str, type[SigmoidCell] | type[LSTMCell]] = {'sigmoid': SigmoidCell, 'lstm': LSTMCell}


@dataclass(frozen=True)
class RNEMBelief(Belief):
    """State of the slots at one frame. `mean` is theta before its sigmoid, log_std -inf (nothing is random).

    Attributes:
        parameters: of the pixels that each slot predicted for this frame [B, K, C, H, W], before the activation: a
            logit of psi, or the Gaussian's mean.
        log_gamma: responsibilities for this frame [B, K, H, W].
        error: gamma (x - psi), with the noise of x [B, K, C, H, W]; what the next M-step reads.
        seen: 1 where this frame was seen, 0 where it is a guess, -1 before the first [B, K, 1].
    """

    parameters: Tensor
    log_gamma: Tensor
    error: Tensor
    seen: Tensor


class RNEM(CycleModel):
    """The model. Images are [B, 1, H, W] of zeros and ones (Bernoulli) or [B, 3, H, W] in [0, 1] (Gaussian)."""

    paper = 'van Steenkiste et al. 2018'
    config: RNEMConfig

    def __init__(self, config: RNEMConfig) -> None:
        super().__init__()
        c = self.config = config
        self.predicts = self.drifts = c.m_step != 'gradient'
        self.action_format = 'discrete' if c.action_size else 'none'
        self.pixels = PIXELS[c.likelihood](c.sigma)
        self.decoder = NormedDecoder(c.latent, c.image_size, c.channels, c.hidden, c.decoder_channels)
        self.encoder: NormedEncoder | None = None
        self.cell: SigmoidCell | LSTMCell | None = None
        self.interaction: RelationalInteraction | None = None
        self.embed_action: nn.Sequential | None = None
        if c.m_step != 'gradient':
            state = c.latent
            if c.action_size:
                self.embed_action = nn.Sequential(nn.Linear(c.action_size, c.action_embedding), nn.ReLU())
                state += c.action_embedding
            if c.interaction != 'none':
                self.interaction = RelationalInteraction(state, c.latent,
                                                         c.attention_size if c.interaction == 'attention' else 0)
                state = 2 * c.latent
            self.encoder = NormedEncoder(c.image_size, c.channels, c.encoder_channels, c.hidden)
            self.cell = CELLS[c.m_step](c.hidden, state, c.latent)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def observe(self, rgb: Tensor) -> Tensor:
        """A camera image [B, 3, H, W] in [0, 1] as the model takes it: binary [B, 1, H, W], or as it is (Gaussian).

        The paper's images are binary by nature, or a game's with everything that is not black on (threshold 0.0001).
        """
        c = self.config
        if c.likelihood != 'bernoulli':
            return rgb
        if c.observed == 'unlike':
            rgb = (rgb - rgb.flatten(2).median(2).values[..., None, None]).abs()
        return (rgb.amax(1, keepdim=True) > c.threshold).to(rgb.dtype)

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> RNEMBelief:
        """Before the first frame: state and prediction are zero, gamma is random and tells the slots apart."""
        c, k = self.config, slots or self.config.slots
        like = next(self.parameters())
        mean = like.new_full((batch, k, c.latent), self.cell.blank if self.cell else 0.0)
        image = (batch, k, c.channels, c.image_size, c.image_size)
        parameters = like.new_full(image, self.pixels.blank) if self.cell else self.decoder(mean)
        log_gamma = initial_log_gamma((batch, k, c.image_size, c.image_size), generator, like)
        return RNEMBelief(mean, torch.full_like(mean, -torch.inf), mean.new_zeros(batch, k, self._memory), parameters,
                          log_gamma, like.new_zeros(image), like.new_full((batch, k, 1), -1.0))

    @property
    def _memory(self) -> int:
        return self.cell.memory if self.cell else 0

    def maximise(self, belief: RNEMBelief, action: Tensor | None = None) -> RNEMBelief:
        """The M-step and the prediction of the next frame; gamma and error are still those of the last one."""
        c, memory = self.config, belief.memory
        if self.cell is None or self.encoder is None:
            mean = belief.mean + c.step_size * self._gradient(belief)
        else:
            context = self.cell.state(belief.mean)
            if self.embed_action is not None:
                told = context.new_zeros(len(context), c.action_size) if action is None else action
                if told.shape != (len(context), c.action_size):
                    raise InputError('action', [len(context), c.action_size], list(told.shape))
                told = self.embed_action(told)[:, None].expand(-1, context.shape[1], -1)
                context = torch.cat([context, told.to(context.dtype)], -1)
            if self.interaction is not None:
                context, _ = self.interaction(context)
            mean, memory = self.cell(self.encoder(belief.error), context, belief.mean, memory)
            mean, memory = mean.to(belief.mean.dtype), memory.to(belief.mean.dtype)
        return replace(belief, mean=mean, memory=memory, parameters=self._draw(mean))

    def _gradient(self, belief: RNEMBelief) -> Tensor:
        """dQ / d theta [B, K, latent] of eq. 2, gamma held fixed: N-EM's M-step."""
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            theta = belief.mean.flatten(0, 1)
            theta = theta if training and theta.requires_grad else theta.detach().requires_grad_()
            slope = self.pixels.precision * belief.error
            drawn = self._draw(theta[None])
            return torch.autograd.grad(drawn, theta, slope.flatten(0, 1)[None],
                                       create_graph=training)[0].view_as(belief.mean)

    def _draw(self, mean: Tensor) -> Tensor:
        """f: states [B, K, latent] -> pixel parameters [B, K, C, H, W]."""
        return cast(Tensor, self.decoder(mean if self.cell is None else self.cell.output(mean)))

    def expect(self, belief: RNEMBelief, image: Tensor, noise: Tensor | None = None) -> RNEMBelief:
        """The E-step on a frame [B, C, H, W] (before any, gamma stays as drawn); noise [B, K, C, H, W] in [0, 1)."""
        a, first = belief.parameters, belief.seen[..., None] < 0
        if image.shape != a[:, 0].shape:
            raise InputError('image', list(a[:, 0].shape), list(image.shape))
        log_gamma = torch.where(first, belief.log_gamma, log_responsibilities(self.pixels, image, a)).detach()
        if noise is not None:
            image = self.pixels.corrupt(image, noise[:, 0].to(image.dtype), self.config.noise)
        return self._explain(replace(belief, log_gamma=log_gamma, seen=torch.ones_like(belief.seen)), image)

    def imagine(self, belief: RNEMBelief) -> RNEMBelief:
        """An E-step without a frame: max_k psi stands in for it, the input is sum_k gamma_k psi_k (Simulation)."""
        a = belief.parameters
        log_gamma = log_responsibilities(self.pixels, self.pixels.stand_in(a, self.config.on), a).detach()
        frame = (log_gamma.exp()[:, :, None] * self.pixels.mean(a)).sum(1)
        return self._explain(replace(belief, log_gamma=log_gamma, seen=torch.zeros_like(belief.seen)), frame)

    def _explain(self, belief: RNEMBelief, frame: Tensor) -> RNEMBelief:
        error = frame[:, None] - self.pixels.mean(belief.parameters)
        return replace(belief, error=belief.log_gamma.exp()[:, :, None] * error)

    def predict(self, belief: Belief, action: Tensor | None = None) -> Belief:
        """The next frame's belief as if that frame looked as predicted, so that predictions can go on (roll-out).

        Before the first frame there is nothing to go by. Action [B, A] one-hot or None.
        """
        assert isinstance(belief, RNEMBelief)
        return self.imagine(self.maximise(belief, action)).where(belief.seen[..., 0] >= 0, belief)

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None
               ) -> Belief:
        """One step of EM: the E-step, after the M-step that a belief which was not predicted still owes."""
        assert isinstance(belief, RNEMBelief)
        owing = belief.seen[..., 0] > 0
        if owing.any():
            belief = self.maximise(belief, action).where(owing, belief)
        return self.expect(belief, image, noise)

    def restore(self, mean: Tensor, std: Tensor, memory: Tensor) -> Belief:
        """A guess with these states; gamma is that of the frame as they predict it."""
        like = self.start(len(mean), mean.shape[1])
        return self.imagine(replace(like, mean=mean, memory=memory, parameters=self._draw(mean)))

    def decode(self, z: Tensor) -> Scene:
        """States before their sigmoid [B, K, latent] -> psi, and masks as gamma of pixels that are on."""
        return self._scene(a := self._draw(z), self.pixels.presence(a).amax(2))

    def scene(self, belief: Belief, noise: Tensor | None = None) -> Scene:
        """psi and gamma. A pixel is empty where the most responsible slot draws nothing: black has its owners too."""
        assert isinstance(belief, RNEMBelief)
        return self._scene(belief.parameters, belief.log_gamma)

    def _scene(self, a: Tensor, mask_logits: Tensor) -> Scene:
        colours = self.pixels.mean(a)
        drawn = colours.abs().amax(2).gather(1, mask_logits.argmax(1, keepdim=True)).squeeze(1)
        return Scene(colours, mask_logits, drawn <= self.config.on)

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 3 of a frame under its prediction [B], log-likelihood of eq. 1 [B, H, W]; no KL, as nothing is random."""
        assert isinstance(belief, RNEMBelief)
        a = belief.parameters
        intra, inter = cluster_losses(self.pixels, image, a, log_responsibilities(self.pixels, image, a))
        return total(intra + inter), log_mixture(self.pixels, image, a), belief.mean.new_zeros(belief.mean.shape[:2])

    def noise(self, belief: Belief, generator: torch.Generator | None) -> Tensor | None:
        """Uniform numbers [B, K, C, H, W], the same for all slots, that say what is flipped; None without noise."""
        assert isinstance(belief, RNEMBelief)
        if not self.config.noise or not (self.training or self.config.noisy_inference):
            return None
        a = belief.parameters
        return torch.rand(a[:, :1].shape, generator=generator, device=a.device).expand_as(a)

    def unroll(self, images: Tensor, actions: Tensor | None = None, generator: torch.Generator | None = None,
               slots: int | None = None, observed: int | None = None) -> list[RNEMBelief]:
        """Beliefs of the frames [B, T, C, H, W]: seen up to the index `observed` (None: all), imagined from there on.

        Args:
            actions: before each frame [B, T, A], or None.
            slots: K, where it is not the one of training.
        """
        belief = self.start(len(images), slots, generator)
        beliefs = []
        for t, image in enumerate(images.unbind(1)):
            if t:
                belief = self.maximise(belief, None if actions is None else actions[:, t])
            belief = (self.expect(belief, image, self.noise(belief, generator))
                      if observed is None or t < observed else self.imagine(belief))
            beliefs.append(belief)
        return beliefs

    def episode_loss(self, images: Tensor, actions: Tensor | None, step: int, generator: torch.Generator
                     ) -> tuple[Tensor, Terms]:
        """Eq. 3 of each frame as predicted from those before it, the mean over frames (nats an image).

        A single frame [B, 1, C, H, W] is a film of `first_iterations` further frames that are the same. In a part
        `rollout` of the batches the film is seen up to a random frame of its second half and imagined from there on.
        """
        if images.shape[1] == 1:
            images = images.expand(-1, 1 + self.config.first_iterations, -1, -1, -1)
        frames, observed = images.shape[1], None
        if self.config.rollout and torch.rand((), generator=generator, device=generator.device) < self.config.rollout:
            observed = int(torch.randint((frames + 1) // 2, frames, (), generator=generator, device=generator.device))
        intra, inter, bound = [], [], []
        for t, belief in enumerate(self.unroll(images, actions, generator, observed=observed)[1:], 1):
            image, a = images[:, t], belief.parameters
            seen = observed is None or t < observed
            terms = cluster_losses(self.pixels, image, a,
                                   belief.log_gamma if seen else log_responsibilities(self.pixels, image, a))
            intra.append(total(terms[0]).mean())
            inter.append(total(terms[1]).mean())
            bound.append(total(upper_bound_loss(self.pixels, image, a.detach())).mean())
        means = [torch.stack(x).mean() for x in (intra, inter, bound)]
        return means[0] + means[1], dict(zip(('intra', 'inter', 'nll'), (x.item() for x in means), strict=True))

    @torch.no_grad()
    def measure(self, images: Tensor, actions: Tensor | None = None, collisions: Tensor | None = None,
                generator: torch.Generator | None = None, slots: int | None = None, observed: int | None = None
                ) -> dict[str, Tensor]:
        """The numbers of Figures 3 and 4, [B, T - 1] each, nats: of the frames 1.. as predicted from those before.

        `loss` is eq. 3, `nll` the upper bound without gamma (BCE), `copy` the BCE of repeating the frame before (binary
        images); with the pixels of colliding objects [B, T, H, W] also `relational_...`: the same over the pixels that
        collide one frame earlier, as in the authors' code.
        """
        found: dict[str, list[Tensor]] = {}
        beliefs = self.unroll(images, actions, generator, slots, observed)
        for t, belief in enumerate(beliefs[1:], 1):
            x, a = images[:, t], belief.parameters
            intra, inter = cluster_losses(self.pixels, x, a, log_responsibilities(self.pixels, x, a))
            maps = {'loss': intra + inter, 'nll': upper_bound_loss(self.pixels, x, a)}
            if self.config.likelihood == 'bernoulli':
                maps['copy'] = copy_loss(x, images[:, t - 1])
            for key, value in maps.items():
                found.setdefault(key, []).append(total(value))
                if collisions is not None:
                    found.setdefault(f'relational_{key}', []).append(total(value, collisions[:, t - 1]))
        return {k: torch.stack(v, 1) for k, v in found.items()}
