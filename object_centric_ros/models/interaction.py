"""Dynamics that treat every entity alike: what it does, what an action does to it, what each other one does to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from object_centric_ros.models.errors import InputError


def mlp(sizes: tuple[int, int, int], activation: bool) -> nn.Sequential:
    """One hidden layer with ELU, and ELU behind the last one too if `activation`; initialised as OP3's code does."""
    hidden, last = nn.Linear(*sizes[:2]), nn.Linear(*sizes[1:])
    nn.init.uniform_(hidden.weight, -sizes[1] ** -0.5, sizes[1] ** -0.5)
    nn.init.constant_(hidden.bias, 0.1)
    nn.init.uniform_(last.weight, -3e-3, 3e-3)
    nn.init.uniform_(last.bias, -3e-3, 3e-3)
    return nn.Sequential(hidden, nn.ELU(), last, *[nn.ELU()] * activation)


@dataclass(frozen=True)
class Interactions:
    """What the dynamics computed on the way; K' = K - 1 others, in ascending order with the slot itself left out.

    Attributes:
        encoding: each slot alone [B, K, R], before the action.
        action: encoding of the action [B, K, 32]; None without actions, as the two below.
        action_effect: [B, K, R], before its attention.
        action_attention: [B, K], in (0, 1).
        pairs: of each slot and another [B, K, K', ...], what effect and attention are computed from.
        effects: of the other on the slot [B, K, K', E], before their attention.
        attention: [B, K, K'], in (0, 1).
        merged_from: encoding after the action, and the sum of the weighted effects [B, K, R + E].
        merged: [B, K, R].
    """

    encoding: Tensor
    action: Tensor | None
    action_effect: Tensor | None
    action_attention: Tensor | None
    pairs: Tensor
    effects: Tensor
    attention: Tensor
    merged_from: Tensor
    merged: Tensor


class InteractionDynamics(nn.Module):
    """H' = d(H_k, H_others, A), the same function for every slot (OP3 sections 4.1, 6.1.2 and 6.4.1).

    H~ = d_o(H_k); A~ = d_a(A); H^act = d_act-eff(H~, A~) d_act-att(H~, A~), which replaces H~; the interaction is the
    sum over the others of d_obj-eff d_obj-att of the pair; d_comb takes both, and one head each gives the outputs.
    Without actions H^act = H~.

    Args:
        state: R, size of a slot's state.
        action: A; 0 = no actions.
        outputs: sizes of the heads.
        pair: size of an encoding that both functions of a pair start from (the released code); 0 = they start from
            the pair itself (the paper).
        effect: E, size of what an entity does to another (the paper: R).
        bounded: ELU behind the heads too (the paper), or linear heads (the released code).
    """

    def __init__(self, state: int, action: int, outputs: tuple[int, ...], pair: int = 128, effect: int = 32,
                 bounded: bool = False) -> None:
        super().__init__()
        self.action_size = action
        self.encode = mlp((state, state, state), True)
        if action:
            self.encode_action = mlp((action, state, 32), True)
            self.action_effect = mlp((state + 32, state, state), True)
            self.action_attention = mlp((state + 32, state, 1), False)
        self.encode_pair = mlp((2 * state, 2 * state, pair), True) if pair else None
        both, hidden = (pair, pair) if pair else (2 * state, 2 * state)
        self.effect = mlp((both, hidden, effect), True)
        self.attention = mlp((both, hidden, 1), False)
        self.merge = mlp((state + effect, state if pair else 2 * state, state), True)
        self.heads = nn.ModuleList(mlp((state, state, size), bounded) for size in outputs)

    def forward(self, state: Tensor, action: Tensor | None = None) -> tuple[tuple[Tensor, ...], Interactions]:
        """States [B, K, R] and action [B, A] (None without actions) -> an output [B, K, size] of each head."""
        with torch.autocast(state.device.type, enabled=False):  # small, and beliefs keep their digits
            found = self.interact(state, action)
            return tuple(head(found.merged) for head in self.heads), found

    def act(self, state: Tensor, action: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Each slot's encoding [B, K, R], the action's [B, K, 32], its effect [B, K, R] and its attention [B, K]."""
        encoding = self.encode(state)
        if not self.action_size:
            return encoding, None, None, None
        if action is None or action.shape != (len(state), self.action_size):
            raise InputError('action', [len(state), self.action_size], None if action is None else list(action.shape))
        told = self.encode_action(action)[:, None].expand(-1, state.shape[1], -1)
        both = torch.cat([encoding, told], -1)
        return encoding, told, self.action_effect(both), self.action_attention(both).sigmoid().squeeze(-1)

    def interact(self, state: Tensor, action: Tensor | None = None) -> Interactions:
        """States [B, K, R] and action [B, A] (None without actions) -> everything up to the heads."""
        k = state.shape[1]
        encoding, told, action_effect, action_attention = self.act(state, action)
        acted = encoding
        if action_effect is not None and action_attention is not None:
            acted = action_effect * action_attention[..., None]
        others = _others(k, state.device)
        pairs = torch.cat([acted[:, :, None].expand(-1, -1, k - 1, -1), acted[:, others]], -1)
        if self.encode_pair is not None:
            pairs = self.encode_pair(pairs)
        effects, attention = self.effect(pairs), self.attention(pairs).sigmoid()
        merged_from = torch.cat([acted, (effects * attention).sum(2)], -1)
        return Interactions(encoding, told, action_effect, action_attention, pairs, effects, attention.squeeze(-1),
                            merged_from, self.merge(merged_from))


def _others(k: int, device: torch.device) -> Tensor:
    """For each slot the indices of the others, ascending: [K, K - 1]."""
    j = torch.arange(k - 1, device=device).expand(k, -1)
    return j + (j >= torch.arange(k, device=device)[:, None])
