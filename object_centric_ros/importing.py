"""`object-centric import`: a published checkpoint as a model file of this package."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.checkpoint import load_model, save_model
from object_centric_ros.models.convert import OP3_NAMES, load_published
from object_centric_ros.models.convert_emorl import efficientmorl_tensors, slot_attention_tensors
from object_centric_ros.models.registry import build_model
from object_centric_ros.presets import load_preset

NAMES = {'op3': OP3_NAMES}
"""Models whose published tensors are ours under other names."""
CONVERSIONS = {'efficientmorl': efficientmorl_tensors, 'slot_attention': slot_attention_tensors}
"""Models some of whose published tensors are cut or joined too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.add_argument('model', choices=sorted({*NAMES, *CONVERSIONS}), help='whose checkpoint it is')
    parser.add_argument('file', help='safetensors, or the original file (read without running what it contains)')
    parser.add_argument('--preset', required=True, help='configuration of the published model, e.g. op3_released_stack')
    parser.add_argument('--camera', help='YAML or JSON of the camera that the model was trained with: width, height, '
                        'fx, fy, cx, cy (pixels), rotation (3x3, optical frame to work plane), position (m); without '
                        'it tracker and nodes must be told the camera')
    parser.add_argument('--out', required=True, help='model file to write (.safetensors)')


def run(args: argparse.Namespace) -> int:
    """Convert, and read the result back."""
    config = load_preset(args.preset)
    if config.name != args.model:
        raise InputError('--preset', f'a configuration of {args.model}', f'one of {config.name}')
    record: dict[str, Any] = {'source': os.path.basename(args.file), 'preset': args.preset}
    if args.camera:
        record['camera'] = read_camera(args.camera).to_dict()
    model = build_model(config)
    tensors, names = read_tensors(args.file), NAMES.get(args.model, {})
    if args.model in CONVERSIONS:
        tensors = CONVERSIONS[args.model](tensors, model)
        names = {k: k for k in tensors}
    load_published(model, tensors, names, args.file)
    save_model(args.out, model, record)
    loaded, record = load_model(args.out)
    count = sum(p.numel() for p in loaded.parameters())
    print(f'{args.out}: {record["model_id"]}, {count:,} parameters in {len(loaded.state_dict())} tensors')
    return 0


def read_camera(path: str) -> PinholeCamera:
    """The camera of a YAML or JSON file with the keys of `PinholeCamera.to_dict`."""
    try:
        return PinholeCamera.from_dict(yaml.safe_load(Path(path).read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise InputError('--camera', 'a YAML or JSON file', e) from e


def read_tensors(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file or, read as data only, of a torch checkpoint.

    Raises:
        InputError: no such file, or neither of the two.
    """
    if not os.path.isfile(path):
        raise InputError('checkpoint', 'an existing file', path)
    try:
        return load_file(path)
    except SafetensorError:
        pass
    try:
        found = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as e:
        raise InputError(f'checkpoint {path}', 'safetensors, or a torch file that holds nothing but tensors',
                         str(e).splitlines()[0]) from e
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f'checkpoint {path}', 'a mapping of names to tensors', type(found).__name__)
    return dict(found)
