"""No weight sharing: slot k goes through copy k of a part (OP3 Figure 2d, the ablation of its Table 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from object_centric_ros.models.errors import InputError


class PerSlot(nn.Module):
    """Copies of a part with weights of their own, one a slot; K is therefore fixed.

    Args:
        copies: one part for each slot; all take tensors [B, K, ...] and give tensors, tuples or dataclasses of them.
        local: whether what a copy makes of its slot depends on that slot alone. Otherwise each copy is given all slots
            (and what has no slots, such as an action), and its own slot is taken from what it returns.
    """

    def __init__(self, copies: Iterable[nn.Module], local: bool) -> None:
        super().__init__()
        self.copies, self.local = nn.ModuleList(copies), local

    def forward(self, *inputs: Tensor | None) -> Any:
        """As a copy's own, for K = the number of copies."""
        first = next(x for x in inputs if x is not None)
        if first.shape[1] != len(self.copies):
            raise InputError('slots of a model without weight sharing', len(self.copies), first.shape[1])
        outputs = []
        for k, copy in enumerate(self.copies):
            def own(x: Tensor, k: int = k) -> Tensor:
                return x[:, k:k + 1]
            outputs.append(copy(*(_map(own, x) for x in inputs)) if self.local else _map(own, copy(*inputs)))
        return _map(lambda *x: torch.cat(x, 1), *outputs)


def _map(f: Callable[..., Tensor], *trees: Any) -> Any:
    """f of the tensors at the same place of several equal tuples or dataclasses."""
    first = trees[0]
    if first is None or isinstance(first, Tensor):
        return None if first is None else f(*trees)
    if isinstance(first, tuple):
        return tuple(_map(f, *parts) for parts in zip(*trees, strict=True))
    return dataclasses.replace(first, **{field.name: _map(f, *(getattr(t, field.name) for t in trees))
                                         for field in dataclasses.fields(first)})
