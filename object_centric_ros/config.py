"""Typed configuration: YAML files into frozen dataclasses; whatever does not fit is one clear error."""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from object_centric_ros.errors import InputError

T = TypeVar('T')
PACKAGE = Path(__file__).resolve().parent
VARIANTS: dict[type, Callable[[dict[str, Any], str], tuple[type, dict[str, Any]]]] = {}
"""For a base class of configurations: which subclass a mapping means, and its remaining keys (see `presets`)."""


def config_folders(name: str) -> list[Path]:
    """Folders `config/NAME` of the checkout or of an installation, the nearest first."""
    places = [PACKAGE.parent, *(parent / 'share' / 'object_centric_ros' for parent in PACKAGE.parents)]
    return [place / 'config' / name for place in places if (place / 'config' / name).is_dir()]


def find_config(name: str) -> Path | None:
    """A file of the package's config folder, from the checkout or the installation; None if there is none."""
    return next((folder / name for folder in config_folders('') if (folder / name).is_file()), None)


def from_mapping(cls: type[T], values: Any, where: str) -> T:
    """Build a dataclass from plain data.

    Args:
        cls: a dataclass type; its fields may be dataclasses, tuples, optionals, or int, float, bool, str.
        values: the mapping; missing keys take the field's default.
        where: names the source in errors, e.g. the file.

    Raises:
        InputError: an unknown key, a missing key, a wrong type or a value that the dataclass refuses.
    """
    if not isinstance(values, dict):
        raise InputError(where, f'a mapping of {_keys(cls)}', _show(values))
    if cls in VARIANTS:
        cls, values = VARIANTS[cls](values, where)
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(_keys(cls)))
    if unknown:
        raise InputError(f'{where}: key', f'one of {_keys(cls)}', ', '.join(map(str, unknown)))
    built = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in values:
            built[field.name] = _convert(hints[field.name], values[field.name], f'{where}: {field.name}')
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f'{where}: {field.name}', 'a value', 'nothing')
    try:
        return cls(**built)
    except InputError as e:
        raise InputError(f'{where}: {e.what}', e.expected, e.got) from e


def load_yaml(cls: type[T], path: str | os.PathLike[str]) -> T:
    """Read a YAML file into a dataclass; errors name the file and the key."""
    try:
        with open(path, encoding='utf-8') as f:
            values = yaml.safe_load(f)
    except OSError as e:
        raise InputError('configuration file', 'a readable YAML file', f'{path}: {e.strerror}') from e
    except yaml.YAMLError as e:
        raise InputError(f'{path}', 'valid YAML', str(e).replace('\n', ' ')) from e
    return from_mapping(cls, values, os.fspath(path))


def to_mapping(value: Any) -> Any:
    """A dataclass as plain data that JSON, YAML and `from_mapping` take."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {'name': type(value).name} if any(base in VARIANTS for base in type(value).__mro__) else {}  # type: ignore[attr-defined]
        return kind | {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_mapping(v) for v in value]
    return value


def _keys(cls: type) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _show(value: Any) -> str:
    return f'{value!r} ({type(value).__name__})'


def _convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, or an InputError; ints are taken for floats, nothing else is bent."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(where, 'a list', _show(value))
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise InputError(where, f'{len(kinds)} values', f'{len(value)}')
        return tuple(_convert(k, v, f'{where}[{i}]') for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, where)  # type: ignore[arg-type]
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise InputError(where, f'a value of type {getattr(kind, "__name__", kind)}', _show(value))
