"""The model as the planner uses it: what would the scene look like if entity k went to xy?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from object_centric_ros.actions import pick_place_vector
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.tracking.entities import TrackedFrame


@dataclass(frozen=True)
class Imagined:
    """A belief with its decoded pictures.

    Attributes:
        belief: [1, K, D]; row i of the entities is slot 1 + i, or i without a background slot.
        logits: mask logits [K, S, S]; colours: [K, 3, S, S].
        positions: of the entities [N, 3], metres.
        ids: of the entities [N].
        hues: mean colours of the entities [N], RGB in [0, 1].
    """

    belief: Belief
    logits: Tensor
    colours: Tensor
    positions: np.ndarray
    ids: tuple[int, ...]
    hues: tuple[tuple[float, float, float], ...]

    @property
    def offset(self) -> int:
        """Slot of the first entity."""
        return self.logits.shape[0] - len(self.ids)

    def scene(self) -> Scene:
        """As a scene of batch 1."""
        return Scene(self.colours[None], self.logits[None])


class Imagination:
    """Predicts and decodes for the planner.

    Args:
        model: in eval mode.
        camera: of the images; projects actions into them.
        object_height: plane (m) on which actions are projected, as in training.
    """

    def __init__(self, model: CycleModel, camera: PinholeCamera, object_height: float) -> None:
        if not model.plans or model.action_format not in ('pick_place_uv', 'pick_place_xy'):
            raise InputError('model', 'one that predicts what a pick-and-place does',
                             f'{model.config.name} with actions {model.action_format}')
        self.model, self.camera, self.height = model, camera, object_height
        self.device = next(model.parameters()).device
        # Candidates are compared, not published: bfloat16 where the processor has it.
        fast = self.device.type == 'cuda' or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    @torch.no_grad()
    def begin(self, frame: TrackedFrame) -> Imagined:
        """The present, from a tracked frame's slot states: background slots first, then its visible entities."""
        seen = [e for e in frame.entities if e.visible]
        # Slots that hold no entity draw the rest of the picture, except for those that wait outside of it.
        states = [s for s in frame.background if s.slot == 0 or not self.model.parks] + [e.state for e in seen]
        if self.model.config.background_slot and len(states) != len(seen) + 1:
            raise InputError('entities', 'the state of the background slot', [s.slot for s in frame.background])
        if not seen:
            raise InputError('entities', 'at least one visible entity', 'none')

        def stack(name: str) -> Tensor:
            return torch.from_numpy(np.stack([getattr(s, name) for s in states])).float().to(self.device)[None]
        try:
            belief = self.model.restore(stack('mean'), stack('std'), stack('memory'))
        except ValueError as e:
            raise InputError('entities', 'latents of one size', e) from e
        sizes = [(b.mean.shape[-1], b.memory.shape[-1]) for b in (belief, self.model.start(1, 1))]
        if sizes[0] != sizes[1]:
            raise InputError('entities', '{} latent and {} memory values'.format(*sizes[1]),
                             '{} and {}'.format(*sizes[0]))
        scene = self.model.scene(belief)
        return Imagined(belief, scene.mask_logits[0], scene.colours[0], np.array([e.position for e in seen]),
                        tuple(e.id for e in seen), tuple(e.colour for e in seen))

    @torch.no_grad()
    def moved(self, now: Imagined, entities: np.ndarray, places: np.ndarray) -> tuple[Belief, Scene]:
        """Predict one pick-and-place each for N candidates; only the moved slot is decoded.

        Args:
            now: the present.
            entities: index into now.ids [N].
            places: (x, y) metres [N, 2].

        Returns:
            predicted beliefs [N, K, D], and the moved slot's scene [N, 1, ...].
        """
        n = len(entities)
        action = pick_place_vector(self.model.action_format, self.camera,
                                   np.column_stack([now.positions[entities, :2], places]), self.height)
        assert action is not None
        predicted = self.model.predict(now.belief.repeat(n), torch.from_numpy(action).to(self.device))
        slot = torch.from_numpy(entities + now.offset).to(self.device)[:, None]
        with self.autocast:
            scene = self.model.decode_things(self.model.latents(predicted.select(slot)))
        return predicted, scene

    @torch.no_grad()
    def pictures(self, now: Imagined, entities: np.ndarray, scene: Scene, pool: int) -> Tensor:
        """Masked sub-images of all entities in each candidate's future [N, E, 3 * (S / pool)^2] (OP3 section 3.3).

        Pictures are averaged over pool x pixels before they are composed.
        Slots that are not moved keep their decoded pictures; masks are renormalised with the moved one.
        """
        n, k = len(entities), now.logits.shape[0]

        def smaller(x: Tensor) -> Tensor:
            return torch.nn.functional.avg_pool2d(x, pool) if pool > 1 else x
        logits, colours = smaller(now.logits).repeat(n, 1, 1, 1), smaller(now.colours)
        rows = torch.arange(n, device=self.device)
        slot = torch.from_numpy(entities + now.offset).to(self.device)
        logits[rows, slot] = smaller(scene.mask_logits[:, 0])
        masks = logits.softmax(1)[:, now.offset:, None]
        masked = masks * colours[None, now.offset:]
        masked[rows, slot - now.offset] = masks[rows, slot - now.offset] * smaller(scene.colours[:, 0])
        return masked.reshape(n, k - now.offset, -1)

    @torch.no_grad()
    def apply(self, now: Imagined, entity: int, place: np.ndarray, height: float) -> Imagined:
        """The present after one imagined pick-and-place; `height` is the expected height of the moved centre (m)."""
        predicted, scene = self.moved(now, np.array([entity]), place[None])
        slot = entity + now.offset
        logits, colours = now.logits.clone(), now.colours.clone()
        logits[slot], colours[slot] = scene.mask_logits[0, 0], scene.colours[0, 0]
        keep = torch.ones(len(logits), dtype=torch.bool, device=self.device)
        keep[slot] = False
        belief = now.belief.where(keep, predicted)
        positions = now.positions.copy()
        positions[entity] = (*place, height)
        return Imagined(belief, logits, colours, positions, now.ids, now.hues)
