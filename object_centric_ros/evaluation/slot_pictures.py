"""What a model makes of a film: slots over time, roll-outs, attention, refinement steps, latent traversals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from object_centric_ros.evaluation.disentangle import moved
from object_centric_ros.evaluation.pictures import Image, label_picture
from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.interaction import Interactions
from object_centric_ros.models.relational import RelationalInteraction
from object_centric_ros.models.slot_attention import SlotAttention

Row = tuple[str, list[Image | None]]


@dataclass(frozen=True)
class Film:
    """One episode as a model takes it.

    Attributes:
        images: [1, T, C, H, W]; actions: [1, T - 1, ...].
        labels: true labels [T, H, W], or None.
    """

    images: Tensor
    actions: Tensor
    labels: np.ndarray | None


def as_picture(image: Tensor) -> Image:
    """[C, H, W] in [0, 1] -> uint8 [H, W, 3]."""
    rgb = image.detach().float().clamp(0, 1).expand(3, -1, -1)
    return (255 * rgb).round().byte().permute(1, 2, 0).cpu().numpy()


def heat(map_: Tensor) -> Image:
    """A map [H, W] as gray, the largest value white."""
    return as_picture((map_ / map_.max().clamp(min=1e-12))[None])


def segments(scene: Scene) -> Image:
    """Which slot has each pixel of the first picture."""
    return label_picture((scene.masks[0].argmax(0) + 1).cpu().numpy().astype(np.uint16))


def generator_of(film: Film, seed: int = 0) -> torch.Generator:
    """Noise of the first guess, the same for all pictures of a film."""
    return torch.Generator(film.images.device).manual_seed(seed)


@torch.no_grad()
def slots_over_time(model: CycleModel, film: Film, frames: int = 8) -> list[Row]:
    """Rows of the first frames: image, reconstruction, segments, truth, each slot, attention where the model has it.

    Attention to pixels is a map of its own. Of attention between slots (R-NEM, OP3) the map of a slot shows the others,
    where they were in the frame before, as bright as the prediction of this slot weighs them; white is all.
    """
    belief: Belief | None = None
    masks = torch.zeros(0)
    columns: list[list[Image | None]] = []
    count, slots = min(frames, film.images.shape[1]), model.config.slots
    for t in range(count):
        image, action = film.images[:, t], None
        if belief is not None:
            action = film.actions[:, t - 1]
            with Relations(model) as relations:
                belief = model.predict(belief, action)
        with Attention(model) as attention:
            belief = model.infer(image, belief, None, action, generator_of(film))
        scene = model.scene(belief)
        column: list[Image | None] = [as_picture(image[0]), as_picture(scene.image[0]), segments(scene)]
        column.append(None if film.labels is None else label_picture(film.labels[t].astype(np.uint16)))
        column += [as_picture(m * c) for m, c in zip(scene.masks[0][:, None], scene.colours[0], strict=True)]
        seen: list[Image | None] = [heat(m) for m in attention.maps()]
        related = [as_picture(m[None]) for m in relations.maps(masks)] if t else []
        columns.append([*column, *(seen or [None] * slots), *related])
        masks = scene.masks[0] * ~scene.empty[0] if scene.empty is not None else scene.masks[0]
    names = ['image', 'reconstruction', 'segments', 'true labels', *(f'slot {k}' for k in range(slots)),
             *(f'attention of slot {k}' for k in range(slots)), *(f'acting on slot {k}' for k in range(slots)),
             'acted on by the action']
    rows = [(name, [c[i] if i < len(c) else None for c in columns]) for i, name in enumerate(names)]
    return [row for row in rows if any(image is not None for image in row[1])]


@torch.no_grad()
def roll_out(model: CycleModel, film: Film, observed: int = 1) -> list[Row]:
    """Rows: what happened, what was predicted from the observed frames and the actions, and its segments."""
    truth: list[Image | None] = [as_picture(i) for i in film.images[0]]
    predicted: list[Image | None] = []
    parts: list[Image | None] = []
    belief = None
    for t in range(film.images.shape[1]):
        action = film.actions[:, t - 1] if t else None
        if belief is not None:
            belief = model.predict(belief, action)
        if t < observed:
            belief = model.infer(film.images[:, t], belief, None, action, generator_of(film))
        assert belief is not None
        scene = model.scene(belief)
        predicted.append(as_picture(scene.image[0]))
        parts.append(segments(scene))
    return [('happened', truth), (f'predicted from {observed}', predicted), ('segments', parts)]


@torch.no_grad()
def refinement_steps(model: CycleModel, film: Film) -> list[Row]:
    """Rows of the first frame after 1, 2, ... refinements: reconstruction, segments."""
    scenes = [model.scene(model.infer(film.images[:, 0], iterations=n, generator=generator_of(film)))
              for n in range(1, max(model.config.first_iterations, 1) + 1)]
    return [('reconstruction', [as_picture(film.images[0, 0]), *(as_picture(s.image[0]) for s in scenes)]),
            ('segments', [None, *(segments(s) for s in scenes)])]


@torch.no_grad()
def traversals(model: CycleModel, film: Film, dimensions: int = 8, reach: float = 2.0, values: int = 7) -> list[Row]:
    """The latent dimensions of one slot that change the picture most, each moved from -reach to reach.

    The slot is the one that holds most pixels but for the largest, which is mostly the background.
    """
    z = model.latents(model.infer(film.images[:, 0], generator=generator_of(film)))
    sizes = model.decode(z).masks[0].sum((1, 2))
    slot = sizes.argsort(descending=True)[min(1, len(sizes) - 1)][None]
    found = []
    for d in range(z.shape[-1]):
        pictures = torch.cat([model.decode(moved(z, slot, d, float(v))).image
                              for v in np.linspace(-reach, reach, values)])
        found.append((float(pictures.var(0, unbiased=False).mean()), d, pictures))
    found.sort(key=lambda f: -f[0])
    return [(f'dimension {d}, {variance:.1e}', [as_picture(p) for p in pictures])
            for variance, d, pictures in found[:dimensions]]


class Attention:
    """Keeps the last attention of slots over a grid of features that a model computes inside of it.

    Parts that attend return it behind their results: [B, K, P], one over slots (or over the grid), P a square.
    """

    def __init__(self, model: CycleModel) -> None:
        self.model = model
        self.found: Tensor | None = None

    def __enter__(self) -> Attention:
        self.handles = [p.register_forward_hook(self._keep) for p in self.model.modules() if p is not self.model]
        if isinstance(self.model, SlotAttention):
            attend = self.model.attend

            def kept(slots: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
                result = attend(slots, features)
                self.found = result[1]
                return result
            self.model.attend = kept  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()
        if isinstance(self.model, SlotAttention):
            del self.model.attend

    def _keep(self, part: nn.Module, inputs: Sequence[object], output: object) -> None:
        last = output[-1] if isinstance(output, tuple) and len(output) > 1 else None
        if isinstance(part, RelationalInteraction):
            return  # between slots, not over a grid
        if isinstance(last, Tensor) and last.dim() == 3 and last.shape[1] == self.model.config.slots and \
                round(last.shape[2] ** 0.5) ** 2 == last.shape[2] and bool((last >= 0).all()):
            self.found = last

    def maps(self) -> list[Tensor]:
        """A map [H', W'] for each slot of the first picture; none where nothing attended."""
        if self.found is None:
            return []
        side = round(self.found.shape[2] ** 0.5)
        return list(self.found[0].detach().float().unflatten(1, (side, side)))


class Relations:
    """Keeps how much a model's prediction of a slot weighs each other slot, and how much each slot the action."""

    def __init__(self, model: CycleModel) -> None:
        self.model = model
        self.between: Tensor | None = None
        self.action: Tensor | None = None

    def __enter__(self) -> Relations:
        self.handles = [p.register_forward_hook(self._keep) for p in self.model.modules() if p is not self.model]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _keep(self, part: nn.Module, inputs: Sequence[object], output: object) -> None:
        last = output[-1] if isinstance(output, tuple) else None
        if isinstance(part, RelationalInteraction) and part.attention is not None and isinstance(last, Tensor):
            self.between = last[0]
        elif isinstance(last, Interactions):
            weight = last.attention[0]
            k = len(weight)
            among = ~torch.eye(k, dtype=torch.bool, device=weight.device)
            self.between = weight.new_zeros(k, k).masked_scatter(among, weight)
            self.action = None if last.action_attention is None else last.action_attention[0]

    def maps(self, masks: Tensor) -> list[Tensor]:
        """For each slot [H, W] in [0, 1]: the others [K, H, W] by their weights; then all of them by the action's."""
        weights = [] if self.between is None else [self.between]
        weights += [] if self.action is None else [self.action[None]]
        return [m for w in weights for m in torch.einsum('ij,jhw->ihw', w.float(), masks.float())]
