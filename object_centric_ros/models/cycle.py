"""The cycle predict - decode - refine that every model is, as tracking, planning, training and the tables call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief, Scene

Terms = dict[str, float]
ACTION_FORMATS = ('none', 'pick_place_uv', 'pick_place_xy', 'field', 'discrete')
"""What `action` [B, ...] holds: nothing; (1, pick u, v, place u, v) in [-1, 1] image coordinates; (pick x, y, place x,
y) in world units; an action field [B, 2, H, W] of accelerations (OBAI); a one-hot choice [B, A]."""


@dataclass(frozen=True)
class ModelConfig:
    """What every model is asked for; a paper's configuration adds its own fields.

    Attributes:
        image_size: H = W of the images, pixels.
        slots: K while training; free at run time.
        action_size: A; 0 = no actions.
        background_slot: slot 0 is the background's, by construction.
        first_iterations, iterations: refinements of a first frame and of each later one.
    """

    name: ClassVar[str]
    image_size: int = 64
    slots: int = 7
    action_size: int = 0
    background_slot: bool = False
    first_iterations: int = 4
    iterations: int = 1


class CycleModel(nn.Module):
    """Base of the papers' models. Images are float32 [B, C, H, W] in [0, 1].

    A paper writes `start`, `decode`, `loss` and `refine`; `predict` where it has dynamics, `latents` where the decoder
    reads more than the sample, `episode_loss` for its training objective, and the rest where its method differs.
    """

    config: ModelConfig
    paper: ClassVar[str]
    """Authors and year, as the tables print it."""
    action_format: str = 'none'
    predicts: bool = False
    """Whether `predict` says where things go (and not that they stay)."""
    drifts: bool = False
    """Whether things move without an action, so that every frame of a stream is predicted."""
    plans: bool = False
    """Whether `predict` says what an action does, so that planning makes sense."""
    parks: bool = False
    """Whether unused slots wait outside of the image until they are placed (see `initial.place_parked`)."""

    def observe(self, rgb: Tensor) -> Tensor:
        """A camera image [B, 3, H, W] in [0, 1] as this model takes it [B, C, H, W]."""
        return rgb

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> Belief:
        """The belief before the first frame [batch, slots or config.slots, D]."""
        raise NotImplementedError

    def predict(self, belief: Belief, action: Tensor | None = None) -> Belief:
        """Guess of the next frame's belief before it is seen. A static model's guess is that nothing changes."""
        return belief

    def latents(self, belief: Belief, noise: Tensor | None = None) -> Tensor:
        """What the decoder reads [B, K, Z]: a sample with `noise` [B, K, D], or the mean."""
        return belief.sample(noise)

    def decode(self, z: Tensor) -> Scene:
        """Latents [B, K, Z] -> scene; each slot's colours and mask logits depend on that slot alone."""
        raise NotImplementedError

    def decode_things(self, z: Tensor) -> Scene:
        """Latents [B, K', Z] of slots none of which is the background's -> their scene; for decoding a few alone."""
        return self.decode(z)

    def scene(self, belief: Belief, noise: Tensor | None = None) -> Scene:
        """The decoded belief."""
        return self.decode(self.latents(belief, noise))

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of each image [B], log-likelihood map [B, H, W] and KL of each slot [B, K], nats."""
        raise NotImplementedError

    def refine(self, belief: Belief, image: Tensor, action: Tensor | None = None, noise: Tensor | None = None
               ) -> Belief:
        """One refinement of the belief [B, K, D] by the image [B, C, H, W]; rows of a batch do not see each other.

        Args:
            action: what led to this frame, or None.
            noise: [B, K, D] for the sample that is decoded, or None for the mean.
        """
        raise NotImplementedError

    def infer(self, image: Tensor, belief: Belief | None = None, iterations: int | None = None,
              action: Tensor | None = None, generator: torch.Generator | None = None) -> Belief:
        """Belief of a first frame (belief None), or of a later one from the guess of it.

        Args:
            image: [B, C, H, W].
            iterations: refinements; None = config.first_iterations of a first frame, config.iterations of a later one.
            action: what led to a later frame.
            generator: of the noise, where the model samples.
        """
        if belief is None:
            belief, iterations = self.start(len(image), None, generator), iterations or self.config.first_iterations
        for _ in range(self.config.iterations if iterations is None else iterations):
            belief = self.refine(belief, image, action, self.noise(belief, generator))
        return belief

    def noise(self, belief: Belief, generator: torch.Generator | None) -> Tensor | None:
        """Noise for the samples of inference; None for models that refine from the mean."""
        return None

    def restore(self, mean: Tensor, std: Tensor, memory: Tensor) -> Belief:
        """The belief from what travels between processes: mean, std [B, K, D] and memory [B, K, M]."""
        return Belief(mean, std.log(), memory)

    def episode_loss(self, images: Tensor, actions: Tensor | None, step: int, generator: torch.Generator
                     ) -> tuple[Tensor, Terms]:
        """The paper's training objective on sequences.

        Args:
            images: [B, T, C, H, W]; T = 1 for static models.
            actions: before each frame [B, T, ...] in this model's action_format, or None.
            step: optimisation steps so far, for curricula.
            generator: of all noise.

        Returns:
            a scalar to minimise and named numbers to log.
        """
        raise NotImplementedError


def gaussian_noise(shape: torch.Size | tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Standard normal noise [shape] on the device and with the type of `like`."""
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
