"""What a picture of blocks shows, inferred by OP3: restarts in one batch, the likeliest kept, empty slots left out.

OP3's slots start alike and part by chance, so some starts end in a worse explanation. The published planner therefore
infers a goal 40 times. Here starts are explored on a coarse grid (`coarse.py`), a few of the likeliest are refined
further, and the best is finished at full resolution.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.models.belief import Scene
from object_centric_ros.models.op3 import OP3, OP3Belief
from object_centric_ros.planning.coarse import coarsened, subsampled

DIFFERENT = 10 / 255
"""A pixel whose drawn colour is farther than this from the empty stage's (any channel) shows something."""

FOREGROUND = 0.15
"""A slot shows a thing when this part of what it draws, by brightness, is not what the empty stage has there."""
EXPLAINED = 0.95
"""An explanation in which things show less of what is not the empty stage is looked for again, up to `TRIES` times."""
TRIES = 4
MANY = 16
"""Starts from which on they are thinned out on the way."""


@dataclass(frozen=True)
class InferenceConfig:
    """How a picture is explained.

    Attributes:
        restarts: independent starts.
        stride: of the grid on which they are refined, 1, 2 or 4.
        iterations: refinements of each start.
        finalists: of the likeliest starts, how many are refined at full resolution too.
        polish: refinements of those.
        pixels: slots that show fewer are empty.
    """

    restarts: int = 4
    stride: int = 2
    iterations: int = 5
    finalists: int = 1
    polish: int = 2
    pixels: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.finalists <= self.restarts or min(self.iterations, self.pixels) < 1 or self.polish < 0:
            raise InputError('inference', '1 <= finalists <= restarts, iterations and pixels >= 1, polish >= 0', self)


@dataclass(frozen=True)
class Explained:
    """A picture and its explanation.

    Attributes:
        image: [3, H, W] in [0, 1].
        belief: [1, K, ...]; scene: its mean decoded.
        loss: negative ELBO, nats.
        things: slots that show a thing, those of most pixels first.
        pixels: how many each shows, likewise.
        covered: part of the picture's pixels unlike the empty stage that things show.
    """

    image: Tensor
    belief: OP3Belief
    scene: Scene
    loss: float
    things: tuple[int, ...]
    pixels: tuple[int, ...]
    covered: float = 1.0

    @property
    def mse(self) -> float:
        """Of the composed picture."""
        return float((self.scene.image[0] - self.image).square().mean())


class Inference:
    """Explains pictures of one stage.

    Args:
        model: OP3 in eval mode.
        blank: a picture of the empty stage, uint8 [H, W, 3]; what looks like it is background.
        config: restarts and iterations.
    """

    def __init__(self, model: OP3, blank: NDArray[np.uint8], config: InferenceConfig | None = None) -> None:
        self.model, self.config = model, config or InferenceConfig()
        self.device = model.initial_mean.device
        self.fine = coarsened(model, 1)
        self.coarse = self.fine if self.config.stride == 1 else coarsened(model, self.config.stride)
        self.blank = self.tensor(blank)

    def tensor(self, image: NDArray[np.uint8]) -> Tensor:
        """A picture uint8 [H, W, 3] as the model takes it [3, H, W]."""
        size = self.model.config.image_size
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise InputError('picture', f'uint8 [{size}, {size}, 3]', f'{image.dtype} {list(image.shape)}')
        return torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1).float() / 255

    @torch.no_grad()
    def explain(self, image: NDArray[np.uint8], slots: int, generator: torch.Generator) -> Explained:
        """The likeliest explanation with `slots` slots of a picture uint8 [H, W, 3]; another one where things leave out
        too much of it."""
        if slots < 2:
            raise InputError('slots', 'at least 2', slots)
        x = self.tensor(image)
        best = self._once(x, slots, generator)
        for _ in range(TRIES - 1):
            if best.covered >= EXPLAINED:
                break
            other = self._once(x, slots, generator)
            best = other if other.covered > best.covered else best
        return best

    def _once(self, x: Tensor, slots: int, generator: torch.Generator) -> Explained:
        """The likeliest of all starts."""
        c = self.config
        few = subsampled(x, c.stride)
        belief = self.coarse.start(c.restarts, slots)
        # Where there are many, the better quarter after half of the iterations goes on alone.
        first = c.iterations // 2 if c.restarts >= MANY else c.iterations
        belief = self._refine_all(belief, few, first, generator)
        if first < c.iterations:
            belief = self._refine_all(self._likeliest(belief, few, max(c.finalists, c.restarts // 4)), few,
                                      c.iterations - first, generator)
        belief = self._likeliest(belief, few, c.finalists)
        full = x.expand(c.finalists, -1, -1, -1)
        for _ in range(c.polish):  # from the mean
            belief = self._refined(self.fine, belief, full, None)
        scene = self.fine.scene(belief)
        loss = self.fine.loss(belief, scene, full)[0]
        i = int(loss.argmin())
        return self.explained(x, belief.map(lambda v: v[i:i + 1]), Scene(scene.colours[i:i + 1],
                                                                         scene.mask_logits[i:i + 1]), float(loss[i]))

    def explained(self, image: Tensor, belief: OP3Belief, scene: Scene, loss: float) -> Explained:
        """With the slots that show things: most of what they draw differs from the empty stage."""
        owner = scene.mask_logits[0].argmax(0)
        differs = ((scene.colours[0] - self.blank).abs() > DIFFERENT).any(1)
        slots = torch.arange(len(differs), device=owner.device)[:, None, None]
        count, masks, colours = ((owner == slots) & differs).sum((1, 2)), scene.masks[0], scene.colours[0]
        # Before a black background it does not matter whose a pixel is: what is black in both pictures has no weight.
        change = (masks * (colours - self.blank).abs().amax(1)).sum((1, 2))
        there = (masks * torch.maximum(colours, self.blank).amax(1).clamp(min=0)).sum((1, 2))
        foreground = change > FOREGROUND * there
        order = [int(k) for k in count.argsort(descending=True, stable=True)
                 if foreground[k] and count[k] >= self.config.pixels]
        changed = ((image - self.blank).abs() > DIFFERENT).any(0)
        shown = changed & torch.isin(owner, torch.tensor(order, dtype=owner.dtype, device=owner.device))
        covered = float(shown.sum() / changed.sum()) if changed.any() else 1.0
        return Explained(image, belief, scene, loss, tuple(order), tuple(int(count[k]) for k in order), covered)

    def _likeliest(self, belief: OP3Belief, image: Tensor, count: int) -> OP3Belief:
        """So many of the starts, by their negative ELBO."""
        images = image.expand(len(belief.mean), -1, -1, -1)
        best = self.coarse.loss(belief, self.coarse.scene(belief), images)[0].topk(count, largest=False).indices
        return belief.map(lambda v: v[best])

    def _refine_all(self, belief: OP3Belief, image: Tensor, iterations: int, generator: torch.Generator) -> OP3Belief:
        """Refinements of all starts, each from a sample as in the published code.

        Coarse pictures are too small for one operation to occupy several cores; where torch may use them, parts of
        the starts go side by side.
        """
        noise = [self.coarse.noise(belief, generator) for _ in range(iterations)]

        @torch.no_grad()
        def work(rows: Tensor) -> OP3Belief:
            part, images = belief.map(lambda v: v[rows]), image.expand(len(rows), -1, -1, -1)
            for n in noise:
                part = self._refined(self.coarse, part, images, n[rows])
            return part
        rows = torch.arange(len(belief.mean), device=self.device)
        threads = torch.get_num_threads() if self.device.type == 'cpu' else 1
        if threads == 1 or len(rows) < MANY:
            return work(rows)
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(work, rows.chunk(threads)))
        return replace(parts[0], **{k: torch.cat([p.tensors()[k] for p in parts]) for k in parts[0].tensors()})

    @staticmethod
    def _refined(model: OP3, belief: OP3Belief, images: Tensor, noise: Tensor | None) -> OP3Belief:
        return cast(OP3Belief, model.refine(belief, images, None, noise))
