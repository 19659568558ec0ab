"""Recurrent updates of an object's state (R-NEM eq. 4), kept before their activation.

The belief's mean is what comes before the sigmoid: the recurrence reads sigmoid(mean), the decoder reads
sigmoid(norm(mean)) ("layer norm on the output", "no layer norm on the recurrent connection", appendix A.1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SigmoidCell(nn.Module):
    """theta' = sigmoid(W x + R Upsilon): eq. 4.

    Args:
        inputs, context, latent: sizes of x, of Upsilon and of theta.
    """

    blank = -20.0  # the state is zero before the first frame
    memory = 0

    def __init__(self, inputs: int, context: int, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + context, latent)
        self.norm = nn.LayerNorm(latent)

    def state(self, mean: Tensor) -> Tensor:
        """theta [B, K, latent]."""
        return mean.sigmoid()

    def output(self, mean: Tensor) -> Tensor:
        """What the decoder reads [B, K, latent]."""
        return self.norm(mean).sigmoid()

    def forward(self, x: Tensor, context: Tensor, mean: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, K, inputs] and Upsilon [B, K, context] -> new mean and memory (which this cell does not have)."""
        return self.linear(torch.cat([x, context], -1)), memory


class LSTMCell(nn.Module):
    """An LSTM in place of eq. 4 (the paper's LSTM baseline): the mean is its output, the memory its cell."""

    blank = 0.0

    def __init__(self, inputs: int, context: int, latent: int) -> None:
        super().__init__()
        del context  # the LSTM brings its own recurrence
        self.memory = latent
        self.lstm = nn.LSTMCell(inputs, latent)
        self.norm = nn.LayerNorm(latent)

    def state(self, mean: Tensor) -> Tensor:
        """The output itself [B, K, latent]."""
        return mean

    def output(self, mean: Tensor) -> Tensor:
        """What the decoder reads [B, K, latent], through the same layer as the other cell's."""
        return self.norm(mean).sigmoid()

    def forward(self, x: Tensor, context: Tensor, mean: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, K, inputs] -> new mean and memory [B, K, latent]; the context is not read."""
        h, c = self.lstm(x.flatten(0, 1), (mean.flatten(0, 1).to(x.dtype), memory.flatten(0, 1).to(x.dtype)))
        return h.unflatten(0, mean.shape[:2]), c.unflatten(0, mean.shape[:2])
