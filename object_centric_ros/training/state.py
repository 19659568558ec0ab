"""The state of an unfinished run on disk: weights, optimiser, random streams, position in the schedule. No pickles."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from object_centric_ros.errors import InputError


def save_state(path: str, model: torch.nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator,
               rng: np.random.Generator, progress: dict[str, Any]) -> None:
    """Write everything a later `load_state` needs to go on with the same random numbers; atomic."""
    tensors = {f'model.{k}': v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for index, entry in optimiser.state_dict()['state'].items():
        tensors |= {f'optimiser.{index}.{k}': v.detach().cpu().contiguous().clone() for k, v in entry.items()}
    tensors['generator'] = generator.get_state()
    header = {'rng': json.dumps(rng.bit_generator.state), 'progress': json.dumps(progress)}
    save_file(tensors, f'{path}.partial', header)
    os.replace(f'{path}.partial', path)


def load_state(path: str, model: torch.nn.Module, generator: torch.Generator, rng: np.random.Generator
               ) -> tuple[dict[int, dict[str, torch.Tensor]], dict[str, Any]]:
    """Restore a run in place; returns the optimiser's entries and the progress.

    Raises:
        InputError: the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, 'pt') as f:
            header = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith('model.')})
        progress = json.loads(header['progress'])
        rng.bit_generator.state = json.loads(header['rng'])
        generator.set_state(tensors['generator'])
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as e:
        raise InputError(f'training state {path}', 'a state of a run with this configuration', e) from e
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith('optimiser.'):
            _, index, name = key.split('.', 2)
            entries.setdefault(int(index), {})[name] = value
    return entries, progress


def restore_optimiser(optimiser: torch.optim.Optimizer, entries: dict[int, dict[str, torch.Tensor]]) -> None:
    """Put saved entries into a fresh optimiser of the same parameters."""
    state = optimiser.state_dict()
    state['state'] = entries
    optimiser.load_state_dict(state)
