"""Recurrent, top-down slot attention as the refinement step (PARTS section 3.2.3): the paper's and a windowed one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from object_centric_ros.models.belief import Belief
from object_centric_ros.models.decoder import moments


class TopDownAttention(nn.Module):
    """The paper's: belief, features, top-down context -> refined belief (PARTS eq. 3 to 6).

    Queries are linear in the posterior parameters and the context (action, loss gradient), keys and values in the
    features; the softmax is over slots; an MLP of what a slot attended to, its parameters and the context gives the
    change that is added. The paper does not say whether that MLP sees the parameters; here it does. An action is the
    same for all slots, so the softmax over slots takes it out of the attention again: what shapes it is the gradient.

    Args:
        latent: D.
        features: F of the encoder.
        context: size of the top-down context of each slot (0 = none).
        size: D_q, size of queries, keys and values.
        hidden: width of the update MLP.
        top_down: whether the context shapes the queries too, or the update alone (section 5.2's switch).
    """

    def __init__(self, latent: int, features: int, context: int, size: int, hidden: int, top_down: bool = True) -> None:
        super().__init__()
        self.top_down = top_down
        self.query = nn.Linear(2 * latent + (context if top_down else 0), size, bias=False)
        self.key = nn.Linear(features, size, bias=False)
        self.value = nn.Linear(features, size, bias=False)
        self.mlp = nn.Sequential(nn.Linear(size + 2 * latent + context, hidden), nn.ReLU(),
                                 nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))

    def forward(self, belief: Belief, features: Tensor, context: Tensor) -> tuple[Belief, Tensor]:
        """Belief [B, K, D], features [B, N, F] and context [B, K, E] -> refined belief and attention [B, K, N]."""
        state = torch.cat([belief.mean, belief.log_std], -1)
        query = self.query(torch.cat([state, context], -1) if self.top_down else state)  # eq. 4
        logits = query @ self.key(features).transpose(1, 2) / query.shape[-1] ** 0.5
        attention = logits.to(belief.mean.dtype).softmax(1)  # eq. 5
        weights = attention / (attention.sum(-1, keepdim=True) + 1e-6)
        attended = weights.to(features.dtype) @ self.value(features)  # eq. 6
        change = self.mlp(torch.cat([attended, state.to(attended.dtype), context.to(attended.dtype)], -1))
        d_mean, d_scale = change.to(belief.mean.dtype).chunk(2, -1)
        # The paper sets no bounds; without them a diverging slot ends in exp(overflow).
        refined = replace(belief, mean=belief.mean + d_mean, log_std=(belief.log_std + d_scale).clamp(-6, 2))
        return refined, attention


class SlotAttentionRefiner(nn.Module):
    """The windowed one: slots also look around a place, and what sees nothing keeps its belief.

    Queries come from the belief and from the context (action, loss gradient); keys and values from the features;
    the softmax is over slots (eq. 4 to 6). An MLP turns what a slot attended to into the update of its posterior:
    added as in the paper (`update='additive'`) or gated (`'gated'`: lambda += sigmoid(g) * (candidate - lambda)), which
    lets a slot forget a random initial guess in one iteration.

    With `anchored` the first two latent features are the slot's position. Keys then carry coordinates relative to it
    (invariant slot attention, Biza et al. 2023), and the centroid of the attention moves it.

    Args:
        latent: D.
        features: F of the encoder.
        context: size of the top-down context of each slot (0 = none).
        size: D_q, size of queries, keys and values.
        hidden: width of the update MLP.
        update: 'gated' or 'additive'.
        anchored: whether the latent starts with a position.
        top_down: whether the context shapes the queries too, or the update alone (section 5.2's switch).
    """

    def __init__(self, latent: int, features: int, context: int, size: int, hidden: int, update: str, anchored: bool,
                 top_down: bool = True) -> None:
        super().__init__()
        self.anchored, self.update, self.top_down = anchored, update, top_down
        self.norm = nn.LayerNorm(latent)
        self.query = nn.Linear(2 * latent, size)
        self.query_context = nn.Linear(context, size, bias=False) if context and top_down else None
        self.key = nn.Linear(features, size, bias=False)
        self.value = nn.Linear(features, size, bias=False)
        self.window = nn.Linear(size, 5)
        if anchored:  # a slot starts by looking around its own place
            self.window.bias.data = torch.tensor([0.0, 0.0, -6.0, -6.0, 0.0])
        self.mlp = nn.Sequential(nn.Linear(size + 5 + 2 * latent, hidden), nn.ReLU(),
                                 nn.Linear(hidden, hidden), nn.ReLU(),
                                 nn.Linear(hidden, 4 * latent))
        self.mlp_context = nn.Linear(context, hidden, bias=False) if context else None
        for layer in (self.query_context, self.mlp_context):
            if layer is not None:
                nn.init.zeros_(layer.weight)
        self.latent = latent

    def forward(self, belief: Belief, features: Tensor, coordinates: Tensor, local: Tensor,
                context: Tensor | None) -> tuple[Belief, Tensor]:
        """One refinement.

        Args:
            belief: [B, K, D].
            features: [B, N, F] with coordinates [N, 2].
            local: [K], 1 for slots that look around their own position, 0 for those that look everywhere.
            context: [B, K, E] or None.

        Returns:
            the refined belief and the attention [B, K, N], which sums to one over slots.
        """
        state = torch.cat([self.norm(belief.mean), belief.log_std], -1)
        query = self.query(state)
        if context is not None and self.query_context is not None:
            query = query + self.query_context(context)
        relative = coordinates.expand(*belief.mean.shape[:2], -1, -1)
        if self.anchored:
            relative = relative - belief.mean[:, :, None, :2]
        where = moments(relative)
        logits = query @ self.key(features).transpose(1, 2) / query.shape[-1] ** 0.5
        logits = logits + (where @ self.window(query)[..., None]).squeeze(-1) * local[:, None]
        attention = logits.to(belief.mean.dtype).softmax(1)
        mass = attention.sum(-1, keepdim=True)
        weights = attention / (mass + 1e-6)
        centroid = (weights[..., None, :] @ where.to(weights.dtype)).squeeze(-2)
        attended = torch.cat([weights.to(features.dtype) @ self.value(features), centroid.to(features.dtype)], -1)
        hidden = self.mlp[0](torch.cat([attended, state], -1))
        if context is not None and self.mlp_context is not None:
            hidden = hidden + self.mlp_context(context)
        change = self.mlp[1:](hidden).to(belief.mean.dtype)
        # A slot that sees less than about one pixel (occluded, parked) keeps its belief.
        return self._update(belief, change, centroid, mass / (mass + 1)), attention

    def _update(self, belief: Belief, change: Tensor, centroid: Tensor, evidence: Tensor) -> Belief:
        d_mean, d_scale, g_mean, g_scale = change.split(self.latent, -1)
        if self.anchored:
            target = belief.mean[..., :2] + centroid[..., :2] + 0.1 * d_mean[..., :2]
            origin = belief.mean[..., :2] if self.update == 'additive' else 0
            d_mean = torch.cat([target - origin, d_mean[..., 2:]], -1)
        if self.update == 'additive':
            mean, log_std = belief.mean + evidence * d_mean, belief.log_std + evidence * d_scale
        else:
            mean = torch.lerp(belief.mean, d_mean, evidence * torch.sigmoid(g_mean + 1))
            log_std = torch.lerp(belief.log_std, d_scale - 2, evidence * torch.sigmoid(g_scale + 1))
        return replace(belief, mean=mean, log_std=log_std.clamp(-6, 2))
