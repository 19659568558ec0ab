"""Named model configurations: config/model/NAME.yaml, each a `name` of the registry (or the `preset` that it
changes) and the fields that it sets."""

from __future__ import annotations

import os
from typing import Any

import yaml

from object_centric_ros.config import VARIANTS, config_folders, from_mapping
from object_centric_ros.errors import InputError
from object_centric_ros.models.cycle import ModelConfig
from object_centric_ros.models.registry import config_type


def preset_names() -> list[str]:
    """All named configurations, sorted."""
    return sorted({file.stem for folder in config_folders('model') for file in folder.glob('*.yaml')})


def load_preset(name: str) -> ModelConfig:
    """A configuration by name, or from a YAML file of the same form.

    Raises:
        InputError: no such preset (the names are listed), or a file that does not fit.
    """
    return from_mapping(ModelConfig, {'preset': name}, name)


def _read(name: str) -> dict[str, Any]:
    files = [folder / f'{name}.yaml' for folder in config_folders('model')]
    file = next((f for f in files if f.is_file()), name if name.endswith('.yaml') and os.path.isfile(name) else None)
    if file is None:
        raise InputError('model preset', f'a YAML file or one of {preset_names()}', name)
    with open(file, encoding='utf-8') as f:
        values = yaml.safe_load(f)
    if not isinstance(values, dict) or not {'name', 'preset'} & set(values):
        raise InputError(f'{file}', 'a mapping with the name of a model, or of the preset that it changes', values)
    return _read(values.pop('preset')) | values if 'preset' in values else values


def _variant(values: dict[str, Any], where: str) -> tuple[type, dict[str, Any]]:
    """`preset: NAME` gives defaults that the other keys override; `name` is the model (default parts)."""
    values = dict(values)
    if 'preset' in values:
        values = _read(values.pop('preset')) | values
    try:
        return config_type(str(values.pop('name', 'parts'))), values
    except InputError as e:
        raise InputError(f'{where}: {e.what}', e.expected, e.got) from e


VARIANTS[ModelConfig] = _variant
