"""Model files: safetensors whose JSON header holds the configuration and the training record. Nothing is unpickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.registry import MODELS

FORMAT = 'object_centric_ros/model/1'


def save_model(path: str | os.PathLike[str], model: CycleModel, record: dict[str, Any]) -> None:
    """Write the weights and, in the header, the configuration and the training record (plain data).

    The file appears under its name only once it is complete.
    """
    header = {'format': FORMAT, 'model': model.config.name, 'config': json.dumps(dataclasses.asdict(model.config)),
              'record': json.dumps(record)}
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    partial = f'{os.fspath(path)}.partial'
    save_file(tensors, partial, header)
    os.replace(partial, path)


def load_model(path: str | os.PathLike[str], device: str | torch.device = 'cpu') -> tuple[CycleModel, dict[str, Any]]:
    """Read a model file: the model in eval mode on `device`, and its record with the key `model_id` added.

    Raises:
        InputError: no such file, not a model file of this package, or tensors that do not fit its configuration
            (missing, unknown and misshaped ones are listed).
    """
    if not os.path.isfile(path):
        raise InputError('checkpoint', 'an existing .safetensors file', os.fspath(path))
    try:
        with safe_open(os.fspath(path), 'pt') as f:
            header = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        raise InputError(f'checkpoint {path}', 'a safetensors file', e) from e
    if header.get('format') != FORMAT or header.get('model') not in MODELS:
        raise InputError(f'checkpoint {path}', f'format {FORMAT} with a model of {sorted(MODELS)}',
                         f'format {header.get("format")}, model {header.get("model")}')
    config_type, model_type = MODELS[header['model']]
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v
                                  for k, v in json.loads(header['config']).items()}
        config = config_type(**values)
    except (TypeError, ValueError, KeyError) as e:
        raise InputError(f'checkpoint {path}: config', f'a {config_type.__name__}', e) from e
    model = model_type(config)
    expected = model.state_dict()
    wrong = [f'missing {k}' for k in expected if k not in tensors]
    wrong += [f'unknown {k}' for k in tensors if k not in expected]
    wrong += [f'{k} is {list(tensors[k].shape)}, not {list(v.shape)}' for k, v in expected.items()
              if k in tensors and tensors[k].shape != v.shape]
    if wrong:
        raise InputError(f'checkpoint {path}', f'the tensors of {header["model"]}', '; '.join(wrong[:10]))
    model.load_state_dict(tensors)
    record = json.loads(header.get('record', '{}'))
    digest = hashlib.sha256(b''.join(tensors[k].float().numpy().tobytes() for k in sorted(tensors))).hexdigest()[:12]
    record['model_id'] = f'{header["model"]}-{digest}'
    return model.eval().to(device), record
