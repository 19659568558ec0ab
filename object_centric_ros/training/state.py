"""The state of an unfinished run on disk: weights, optimiser, position in the schedule and in the data. No pickles.

Random numbers are made from the seed and the number of the step, so there are no streams to keep.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from object_centric_ros.errors import InputError

NOISE, CHOICES, HELD_OUT, BELIEFS = range(4)
"""Streams of random numbers."""


def stream_seed(seed: int, stream: int, *numbers: int) -> int:
    """The seed of a run's random numbers for one purpose, at one step."""
    return int(np.random.SeedSequence((seed, stream, *numbers)).generate_state(1, np.uint64)[0] >> 1)


def save_state(path: str, model: torch.nn.Module, optimiser: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    """Write everything that a later `load_state` needs to go on; atomic."""
    tensors = {f'model.{k}': v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for index, entry in optimiser.state_dict()['state'].items():
        tensors |= {f'optimiser.{index}.{k}': v.detach().cpu().contiguous().clone() for k, v in entry.items()}
    save_file(tensors, f'{path}.partial', {'progress': json.dumps(progress)})
    os.replace(f'{path}.partial', path)


def load_state(path: str, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore model and optimiser in place; returns the progress.

    Raises:
        InputError: the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, 'pt') as f:
            header = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith('model.')})
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith('optimiser.'):
                _, index, name = key.split('.', 2)
                entries.setdefault(int(index), {})[name] = value
        parameters = [p for group in optimiser.param_groups for p in group['params']]
        for index, entry in entries.items():  # in the memory layout of the parameter, as if they had never been away
            like = parameters[index]
            entry |= {k: torch.empty_like(like).copy_(v) for k, v in entry.items() if v.shape == like.shape}
        optimiser.load_state_dict(optimiser.state_dict() | {'state': entries})
        return json.loads(header['progress'])
    except (SafetensorError, OSError, LookupError, ValueError, RuntimeError) as e:
        raise InputError(f'training state {path}', 'a state of a run with this configuration', e) from e
