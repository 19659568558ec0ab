"""Training by several processes under torchrun: gradients are averaged, the first process decides and writes.

The losses of these models take gradients of their own inside of the forward pass, recompute activations and leave other
parameters out from step to step, which the hooks of DistributedDataParallel do not allow for; and with about a million
parameters there is nothing to gain from sending gradients while others are computed. So they are averaged in one go
between backward pass and optimiser.
"""

from __future__ import annotations

import datetime
import importlib
import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

WAIT = datetime.timedelta(hours=2)
"""How long processes wait for the first one, which alone validates."""


class Processes:
    """The processes of a run; one alone where torchrun did not start them.

    Attributes:
        rank, count: number of this process, and how many there are.
        local: number of this process on its machine.
    """

    def __init__(self, device: str = 'cpu') -> None:
        self.rank, self.count = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
        self.local = int(os.environ.get('LOCAL_RANK', 0))
        if self.count > 1 and not dist.is_initialized():
            # Its functions take the group as a default argument: imported later (torch.compile and optimisers do), they
            # would keep the group and its threads past `close`, into the end of the interpreter, where these abort.
            importlib.import_module('torch.distributed.nn.functional')
            dist.init_process_group('nccl' if device.startswith('cuda') else 'gloo', timeout=WAIT)

    @property
    def first(self) -> bool:
        """Whether this process writes and validates."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Average tensors of one device over the processes, in place."""
        tensors = list(tensors)
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([t.detach().flatten().float() for t in tensors])
        dist.all_reduce(flat)
        for tensor, mean in zip(tensors, (flat / self.count).split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def average_gradients(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Average all gradients in place, and the loss; a parameter that no process has a gradient of keeps none."""
        if self.count == 1:
            return loss
        parameters = [p for p in model.parameters() if p.requires_grad]
        loss = loss.detach().clone()
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=loss.device)
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        self.average([used, loss, *(p.grad for p in parameters if p.grad is not None)])
        for p, share in zip(parameters, used.tolist(), strict=True):
            if share == 0:
                p.grad = None
        return loss

    def agree(self, numbers: list[float], device: torch.device) -> list[float]:
        """The largest value of each number over the processes."""
        if self.count == 1:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The plain data of every process."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The plain data of the first process."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0)
        return box[0]

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
