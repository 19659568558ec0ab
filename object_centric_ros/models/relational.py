"""Relations between pairs of objects as a function of their states (R-NEM, section 2.2, eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class RelationalInteraction(nn.Module):
    """Each object's encoding, and the sum of what all others do to it.

    h_k = enc(theta_k), xi_ki = emb([h_k; h_i]), E_k = sum_{i != k} att(xi_ki) eff(xi_ki). Single layers with layer norm
    before the activation: rectified linear, tanh in the attention, whose second layer is one sigmoid unit.

    Args:
        state: size of theta.
        size: of encodings, embeddings and effects (the paper: 250).
        attention: hidden units of the attention (the paper: 100); 0 = without, all others count fully.
    """

    def __init__(self, state: int, size: int = 250, attention: int = 100) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(state, size), nn.LayerNorm(size), nn.ReLU())
        self.pair = nn.Linear(2 * size, size)
        self.embed = nn.Sequential(nn.LayerNorm(size), nn.ReLU())
        self.effect = nn.Sequential(nn.Linear(size, size), nn.LayerNorm(size), nn.ReLU())
        self.attention = nn.Sequential(nn.Linear(size, attention), nn.LayerNorm(attention), nn.Tanh(),
                                       nn.Linear(attention, 1), nn.Sigmoid()) if attention else None

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, K, M] -> [h_k; E_k] [B, K, 2 size] and the weight of each i for k [B, K, K], zero for i = k."""
        k = state.shape[1]
        encoded = self.encode(state)
        # The linear map of a concatenation is the sum of two maps: K instead of K^2 of each.
        of_focus, of_other = self.pair.weight.chunk(2, 1)
        pair = linear(encoded, of_focus, self.pair.bias)[:, :, None] + linear(encoded, of_other)[:, None]
        embedded = self.embed(pair)
        weight = (1 - torch.eye(k, device=state.device, dtype=state.dtype)).expand(len(state), k, k)
        if self.attention is not None:
            weight = weight * self.attention(embedded).squeeze(-1)
        effect = (weight[..., None] * self.effect(embedded)).sum(2)
        return torch.cat([encoded, effect.to(encoded.dtype)], -1), weight
