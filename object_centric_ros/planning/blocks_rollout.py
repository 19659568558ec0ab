"""Candidates imagined with OP3: latent rollouts in one batch, and pictures of the slots that they move alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder
from object_centric_ros.models.interaction import InteractionDynamics
from object_centric_ros.models.op3 import OP3
from object_centric_ros.planning.assignment import PAIRINGS
from object_centric_ros.planning.blocks_inference import Explained
from object_centric_ros.planning.blocks_picks import MOVES
from object_centric_ros.planning.blocks_settings import PickPlaceConfig
from object_centric_ros.planning.cem import Floats, Ints
from object_centric_ros.planning.coarse import coarsened, subsampled
from object_centric_ros.planning.costs import (
    COSTS,
    JUDGE,
    JUDGE_PAIRING,
    Pictures,
    composite_mse,
    latent_distance,
    latent_unit,
    picture_unit,
)

AGAIN = 0.5
"""What is added where one thing is moved twice: with the next picture the rest can be planned better."""
EFFORT = 0.08
"""What each move adds to the cost, so that of two plans with one outcome the shorter is taken."""
BATCH = 500
"""Slots that are decoded at once."""


@dataclass(frozen=True)
class Move:
    """One action: the slot that is meant (None: whatever is there), and pick and place x, y."""

    slot: int | None
    pick: tuple[float, float]
    place: tuple[float, float]


def pictures(scene: Explained) -> Pictures:
    """What the things of a scene look like, at full resolution."""
    return _things(scene.scene, scene.things)


def looks(entities: Pictures) -> tuple[Floats, Floats]:
    """Of the entities of one scene: centres of their masks [E, 2], pixels, and mean colours [E, 3]."""
    masks = entities.masks[0]
    weight = masks / masks.sum((1, 2), keepdim=True).clamp(min=1e-6)
    line = torch.arange(masks.shape[-1], device=masks.device) + 0.5
    centres = torch.stack([(weight.sum(1) * line).sum(1), (weight.sum(2) * line).sum(1)], 1)
    colours = (weight[:, None] * entities.colours[0]).sum((2, 3))
    return centres.double().cpu().numpy(), colours.double().cpu().numpy()


def _things(scene: Scene, things: Sequence[int]) -> Pictures:
    chosen = list(things)
    return Pictures(scene.masks[:, chosen], scene.colours[:, chosen])


class Rollout:
    """The model as the search uses it, at two resolutions.

    Args:
        model: OP3 with actions.
        strides: of all candidates, and of the elites.
    """

    def __init__(self, model: OP3, strides: tuple[int, int]) -> None:
        self.model, self.strides = model, strides
        self.models = {stride: coarsened(model, stride) for stride in {1, *strides}}
        fast = model.initial_mean.device.type == 'cuda' or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self.precision = torch.bfloat16 if fast else torch.float32

    def begin(self, now: Explained, goal: Explained, keep: Sequence[int] = ()) -> View:
        """For the scoring of candidates; `keep`: slots that are in place."""
        return View(self, now, goal, keep)

    def imagine(self, now: Explained, goal: Explained, moves: Sequence[Move]) -> tuple[float, Tensor]:
        """The judge's cost after the moves, without their effort, and the picture [3, H, W], at full resolution."""
        view = self.begin(now, goal)
        actions = np.array([[*m.pick, *m.place] for m in moves])[None]
        slots = None if moves[0].slot is None else np.array([[-1 if m.slot is None else m.slot for m in moves]])
        state, moved = view.roll(actions, slots)
        return (float(view.cost(state, moved, 1, JUDGE, JUDGE_PAIRING)[0]),
                view.scene(state, moved, 1).image[0].float())

    def decode(self, z: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Latents [M, Z] -> colours [M, 3, h, w] and mask logits [M, h, w].

        Coarse pictures in bfloat16 where that is faster, and in batches: they are too small to be convolved one by one.
        """
        if stride == 1:
            scene = self.models[1].decode(z[:, None])
            return scene.colours[:, 0], scene.mask_logits[:, 0]
        decoder, parts = cast(SpatialBroadcastDecoder, self.models[stride].decoder), []
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            for part in z.split(BATCH):
                x = decoder.tiled(part)
                for layer in list(decoder.layers)[1:]:
                    x = layer(decoder.activation(x))
                parts.append(x.float())
        drawn = torch.cat(parts)
        return drawn[:, :-1], drawn[:, -1]


class View:
    """A scene and a goal, decoded once at each resolution.

    Args:
        rollout: the model.
        now, goal: what is, and what is to be.
        keep: slots that are in place; each of them that a candidate moves adds `PickPlaceConfig.gain` to its cost.
    """

    def __init__(self, rollout: Rollout, now: Explained, goal: Explained, keep: Sequence[int]) -> None:
        self.rollout, self.model, self.now, self.goal, self.keep = rollout, rollout.model, now, goal, list(keep)
        self.device = now.belief.mean.device
        self.state = self.model.latents(now.belief)
        self._scenes: dict[int, Scene] = {}
        self._goals: dict[int, Pictures] = {}

    def score_entities(self, slots: Ints, picks: Floats, places: Floats, config: PickPlaceConfig) -> Floats:
        """Cost of sequences of (entity, place).

        Args:
            slots: that are moved [N, H], -1 for none; picks: where they are now [N, H, 2]; places: [N, H, 2].
        """
        picks, twice = picks.copy(), np.zeros(len(slots))
        for t in range(1, slots.shape[1]):  # what was moved before is picked where it was placed
            for s in range(t):
                again = (slots[:, s] == slots[:, t]) & (slots[:, t] >= 0)
                picks[again, t] = places[again, s]
                twice[again] = AGAIN
        state, moved = self.roll(np.concatenate([picks, places], 2), slots)
        return self._score(state, moved, (slots >= 0).sum(1), config) + twice

    def score_points(self, actions: Floats, config: PickPlaceConfig) -> Floats:
        """Cost of sequences of (pick x, y, place x, y) [N, H, 4]; what each moves is the model's to say."""
        state, moved = self.roll(actions, None)
        return self._score(state, moved, np.full(len(actions), actions.shape[1]), config)

    def roll(self, actions: Floats, slots: Ints | None) -> tuple[Tensor, Tensor]:
        """States [N, K, Z] after sequences of actions [N, H, 4], and which slots were moved [N, K].

        Only the slot that an action moves takes the predicted state: `slots` [N, H] (-1: none), or, without it, that
        to which the others attend, if any.
        """
        told = torch.from_numpy(np.ascontiguousarray(actions)).float().to(self.device)
        n, k = len(told), self.state.shape[1]
        state = self.state.expand(n, -1, -1)
        moved = torch.zeros(n, k, dtype=torch.bool, device=self.device)
        index, dynamics = torch.arange(k, device=self.device), cast(InteractionDynamics, self.model.dynamics)
        things = torch.zeros(k, dtype=torch.bool, device=self.device)
        things[list(self.now.things)] = True
        for t in range(told.shape[1]):
            found = dynamics.interact(state, told[:, t])
            if slots is None:
                attention = torch.where(things, found.attention.mean(-1), 0)
                best, chosen = attention.max(1)
                takes = (index == chosen[:, None]) & (best > MOVES)[:, None]
            else:
                takes = index == torch.from_numpy(slots[:, t]).to(self.device)[:, None]
            predicted = torch.cat([head(found.merged) for head in list(dynamics.heads)[:2]], -1)  # memory and mean
            state = torch.where(takes[..., None], predicted, state)
            moved |= takes
        return state, moved

    def scene(self, state: Tensor, moved: Tensor, stride: int) -> Scene:
        """Pictures of N candidates, of which only the slots that were moved are decoded."""
        present = self._present(stride)
        n = len(moved)
        rows, slots = moved.nonzero(as_tuple=True)
        logits = present.mask_logits.expand(n, -1, -1, -1).clone()
        colours = present.colours.expand(n, -1, -1, -1, -1).clone()
        if len(rows):
            colours[rows, slots], logits[rows, slots] = self.rollout.decode(state[rows, slots], stride)
        return Scene(colours, logits)

    def cost(self, state: Tensor, moved: Tensor, stride: int, cost: str, pairing: str) -> Floats:
        """What is minimised of each candidate [N], in units of a goal entity that is elsewhere (eq. 5).

        Args:
            state, moved: as `roll` gives them; cost: a name of `costs.OBJECTIVES`; pairing: of `assignment.PAIRINGS`.
        """
        if cost == 'latent':
            slots = self.model.latents(self.goal.belief)[0]
            distances = latent_distance(slots[list(self.goal.things)], state[:, list(self.now.things)])
            distances = distances / latent_unit(slots)
        else:
            scene, goal = self.scene(state, moved, stride), self._goal(stride)
            if cost == 'composite':
                mse = composite_mse(subsampled(self.goal.image, stride), scene.image)
                return (mse / picture_unit(goal)).double().cpu().numpy()
            distances = COSTS[cost](goal, _things(scene, self.now.things))
            if cost == 'subimage':
                distances = distances / picture_unit(goal)
        return PAIRINGS[pairing](distances.float().cpu().numpy(), 1.0)[0]

    def present(self, config: PickPlaceConfig) -> float:
        """The cost of the scene as it is, at full resolution."""
        nothing = torch.zeros(1, self.state.shape[1], dtype=torch.bool, device=self.device)
        return float(self.cost(self.state, nothing, 1, config.cost, config.pairing)[0])

    def _goal(self, stride: int) -> Pictures:
        if stride not in self._goals:
            decoded = self.rollout.models[stride].decode(self.model.latents(self.goal.belief))
            self._goals[stride] = _things(decoded, self.goal.things)
        return self._goals[stride]

    def _present(self, stride: int) -> Scene:
        if stride not in self._scenes:
            self._scenes[stride] = self.rollout.models[stride].decode(self.state)
        return self._scenes[stride]

    def _score(self, state: Tensor, moved: Tensor, moves: Ints, config: PickPlaceConfig) -> Floats:
        """Costs with efforts; those of the elites at the finer resolution, the others never below them."""
        coarse, fine = self.rollout.strides
        effort = EFFORT * moves + config.gain * moved[:, self.keep].sum(1).double().cpu().numpy()
        costs = self.cost(state, moved, coarse, config.cost, config.pairing) + effort
        if fine != coarse:
            elites = np.argsort(costs, kind='stable')[:config.search.elites]
            which = torch.from_numpy(elites).to(self.device)
            finer = self.cost(state[which], moved[which], fine, config.cost, config.pairing)
            costs[elites] = finer + effort[elites]
            others = np.ones(len(costs), bool)
            others[elites] = False
            costs[others] = np.maximum(costs[others], costs[elites].max())
        return costs
