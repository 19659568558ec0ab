"""How weights came to be: written into their file and beside it."""

from __future__ import annotations

import platform
from typing import Any

import torch

from object_centric_ros import __version__
from object_centric_ros.config import to_mapping
from object_centric_ros.training.data import TrainingFiles
from object_centric_ros.training.settings import TrainingConfig


def run_record(config: TrainingConfig, progress: dict[str, Any], data: TrainingFiles, device: torch.device,
               processes: int, validation: dict[str, float]) -> dict[str, Any]:
    """Configuration, steps, minutes, device, data and the last validation, as plain values.

    Args:
        progress: of the trainer: steps, stage, seconds and cpu_seconds.
    """
    camera = next((store.camera for store in data.stores if 'camera' in store.meta), None)
    return {'version': __version__, 'training': to_mapping(config), 'steps': progress['steps'],
            'stage': progress['stage'], 'minutes': round(progress['seconds'] / 60, 1),
            'cpu_minutes': round(progress['cpu_seconds'] / 60, 1), 'device': _name(device), 'processes': processes,
            'threads': torch.get_num_threads(), 'torch': torch.__version__, 'episodes': len(data),
            'data': data.facts, 'validation': validation} | ({'camera': camera.to_dict()} if camera else {})


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else f'CPU {platform.machine()}'
