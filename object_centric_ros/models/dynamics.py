"""Dynamics: belief and action -> prior guess of the next belief."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief
from object_centric_ros.models.interaction import InteractionDynamics


def fourier(x: Tensor, bands: int = 3) -> Tensor:
    """x in [-1, 1] -> (x, sin(2^i pi x / 2), cos(2^i pi x / 2)) over the last axis: [..., A * (1 + 2 bands)]."""
    scaled = x[..., None] * (2.0 ** torch.arange(bands, device=x.device, dtype=x.dtype) * math.pi / 2)
    return torch.cat([x, scaled.sin().flatten(-2), scaled.cos().flatten(-2)], -1)


class TransformerLSTM(nn.Module):
    """A transformer over slots, then an LSTM that each slot runs on its own (PARTS section 3.2.1).

    The action is concatenated to all slots. With `weighed` (a choice of this house) it comes in Fourier features, and
    its effect is weighed by a learned attention of the slot to it (as in OP3, appendix 6.1.2): change = passive +
    attention * active. With `anchored` slots also see where an action's points lie relative to them.

    Args:
        latent: D.
        action: A, size of the action vector; 0 = no actions. Weighed ones start with a flag, 1 where there is an
            action; anchored models read (flag, pick u, v, place u, v).
        size: width of the transformer and of the LSTM.
        heads, layers: of the transformer.
        anchored: whether the latent starts with a position.
        weighed: whether an attention of each slot weighs the action's effect.
    """

    def __init__(self, latent: int, action: int, size: int, heads: int, layers: int, anchored: bool,
                 weighed: bool = True) -> None:
        super().__init__()
        self.anchored, self.latent, self.action, self.memory = anchored, latent, action, 2 * size
        points = action - 1 if anchored and action else 0
        extra = (action + 2 * 3 * action) + 7 * points if weighed else action
        self.embed = nn.Linear(2 * latent + extra, size)
        layer = nn.TransformerEncoderLayer(size, heads, 2 * size, dropout=0.0, batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(size)
        self.lstm = nn.LSTMCell(size, size)
        self.passive = nn.Linear(2 * size, 2 * latent)
        self.active = nn.Sequential(nn.Linear(2 * size + extra, size), nn.ReLU(),
                                    nn.Linear(size, 2 * latent)) if action and weighed else None
        self.attend = nn.Sequential(nn.Linear(2 * size + extra, size), nn.ReLU(),
                                    nn.Linear(size, 1)) if action and weighed else None
        nn.init.zeros_(self.passive.weight)
        nn.init.zeros_(self.passive.bias)

    def forward(self, belief: Belief, action: Tensor | None) -> tuple[Belief, Tensor]:
        """Belief [B, K, D] and action [B, A] or None -> predicted belief and attention to the action [B, K]."""
        b, k, _ = belief.mean.shape
        told = self._told(belief, action)
        x = self.embed(torch.cat([belief.mean, belief.log_std, told], -1))
        x = self.norm(self.transformer(x))
        h, c = belief.memory.split(belief.memory.shape[-1] // 2, -1)
        h, c = self.lstm(x.flatten(0, 1), (h.flatten(0, 1).to(x.dtype), c.flatten(0, 1).to(x.dtype)))
        out = torch.cat([x, h.unflatten(0, (b, k))], -1)
        change = self.passive(out)
        attention = belief.mean.new_zeros(b, k)
        if self.attend is not None and self.active is not None and action is not None:
            seen = torch.cat([out, told], -1)
            attention = torch.sigmoid(self.attend(seen)).squeeze(-1).to(belief.mean.dtype) * action[:, None, 0]
            change = change + attention[..., None] * self.active(seen)
        d_mean, d_scale = change.to(belief.mean.dtype).chunk(2, -1)
        if self.anchored and action is not None:
            # An attended slot goes to the place of the action; the networks learn what differs from that.
            jump = attention[..., None] * (action[:, None, 3:5] - belief.mean[..., :2])
            d_mean = torch.cat([d_mean[..., :2] + jump, d_mean[..., 2:]], -1)
        memory = torch.cat([h, c], -1).unflatten(0, (b, k)).to(belief.mean.dtype)
        predicted = replace(belief, mean=belief.mean + d_mean, log_std=(belief.log_std + d_scale).clamp(-6, 2),
                            memory=memory)
        return predicted, attention

    def _told(self, belief: Belief, action: Tensor | None) -> Tensor:
        """What each slot is told of the action [B, K, extra]."""
        b, k, _ = belief.mean.shape
        if action is None or not self.action:
            action = belief.mean.new_zeros(b, self.action)
        if self.active is None:
            return action[:, None].expand(-1, k, -1)
        told = fourier(action)[:, None].expand(-1, k, -1)
        if self.anchored:
            relative = action[:, None, 1:] - belief.mean[..., :2].repeat(1, 1, (action.shape[1] - 1) // 2)
            told = torch.cat([told, fourier(2 * relative.clamp(-1, 1)) * action[:, None, :1]], -1)
        return told


class InteractionPredictor(nn.Module):
    """OP3's pairwise dynamics on posterior parameters, in the place of the transformer and LSTM (PARTS Table 2).

    Args:
        latent: D; the state of a slot is its mean and log_std.
        action: A, size of the action vector; 0 = no actions.
    """

    memory = 0

    def __init__(self, latent: int, action: int) -> None:
        super().__init__()
        self.dynamics = InteractionDynamics(2 * latent, action, (latent, latent), pair=0, effect=2 * latent)

    def forward(self, belief: Belief, action: Tensor | None) -> tuple[Belief, Tensor]:
        """Belief [B, K, D] and action [B, A] or None -> predicted belief and attention to the action [B, K]."""
        size = self.dynamics.action_size
        if action is None:
            action = belief.mean.new_zeros(len(belief.mean), size)
        state = torch.cat([belief.mean, belief.log_std], -1)
        (d_mean, d_scale), found = self.dynamics(state, action if size else None)
        attention = belief.mean.new_zeros(belief.mean.shape[:2]) if found.action_attention is None \
            else found.action_attention
        return replace(belief, mean=belief.mean + d_mean.to(belief.mean.dtype),
                       log_std=(belief.log_std + d_scale.to(belief.mean.dtype)).clamp(-6, 2)), attention
