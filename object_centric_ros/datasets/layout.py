"""What an episode file holds: the standard fields, and how arrays are checked against them.

A shape is written as one word for each axis: N episodes of T frames (T-1 steps between them), frames of H x W pixels
with C channels, K things; a number stands for itself, any other word is free but the same wherever it occurs in a file,
and ``...`` stands for any further axes. The axes inside of one episode follow `N`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

FORMAT = 'object_centric_ros/episodes/2'
FORMAT_1 = 'object_centric_ros/episodes/1'
ACTION_FORMATS = {
    'none': 'there are no actions',
    'pick_place_uv': 'pick u, v and place u, v in [-1, 1] of the image',
    'pick_place_xy': 'pick x, y and place x, y in units of the world',
    'field': 'an action for each pixel: [2, H, W], accelerations x, y',
    'sparse_field': 'the pixels of a field where it is not zero: [n, 4], u, v (pixels) and accelerations x, y',
    'discrete': 'one of several choices, as a one-hot vector',
}
"""Action formats that the models take (`models.cycle` has the same but for ``sparse_field``, which they are given as
``field``); a file may name another one, e.g. ``joint_command``."""


class Field(NamedTuple):
    """One field: its NumPy type (``*``: any number), its shape in words, and what it means."""

    type: str
    shape: str
    about: str


STANDARD: dict[str, Field] = {
    'frames': Field('uint8', 'N T H W C', 'images: RGB (C = 3) or gray (C = 1)'),
    'actions': Field('*', 'N T-1 ...', 'what was done between two frames, in the action_format'),
    'success': Field('bool', 'N T-1', 'whether the action did what it was to do'),
    'labels': Field('uint8', 'N T H W', 'for evaluation: what each pixel shows, 0 background, from 1 things'),
    'positions': Field('float32', 'N T K D', 'for evaluation: places of things, NaN where there is none'),
    'boxes': Field('float32', 'N T K 4', 'for evaluation: u0, v0, u1, v1 of things, pixels, ends exclusive, NaN: none'),
    'joints': Field('float32', 'N T J', 'joint positions of the robot, rad or m'),
    'stamps': Field('float64', 'N T', 'time of each frame, s'),
}
"""Fields that need no declaration. Only `frames` is required."""

TABLETOP: dict[str, Field] = {
    'arm_frames': Field('uint8', 'N T H W C', 'the same states as `frames`, with the arm over the table'),
    'arm_labels': Field('uint8', 'N T H W', 'labels of `arm_frames`, 255 where the arm is'),
    'n_blocks': Field('uint8', 'N', 'blocks on the table'),
}
"""Further fields of the tabletop, and of all files in the first format, which did not declare any."""


def declared(meta: Mapping[str, Any], names: Sequence[str], where: str) -> dict[str, Field]:
    """The fields of a file by its metadata: those that it declares under ``fields``, and standard ones.

    Raises:
        InputError: a name that is neither declared nor standard, or a declaration that is not three strings.
    """
    own = meta.get('fields', {})
    fields: dict[str, Field] = {}
    for name in names:
        spec = own.get(name, STANDARD.get(name)) if isinstance(own, Mapping) else None
        if spec is None:
            raise InputError(f'{where}: field {name}', f'one of {list(STANDARD)}, or one declared in meta["fields"]',
                             'no declaration')
        if len(spec) != 3 or not all(isinstance(part, str) for part in spec):
            raise InputError(f'{where}: declaration of {name}', '(type, shape, meaning) as strings', spec)
        fields[name] = Field(*spec)
    return fields


def check(name: str, field: Field, shape: Sequence[int], dtype: Any, sizes: dict[str, int], where: str) -> None:
    """One array against its declaration; `sizes` collects the sizes of N, T, H ... from the fields seen so far."""
    kind = np.dtype(dtype)
    if kind != np.dtype(field.type) if field.type != '*' else kind.kind not in 'biuf':
        raise InputError(f'{where}: {name}', 'numbers' if field.type == '*' else field.type, kind)
    words = field.shape.split()
    named = words[:-1] if words[-1] == '...' else words
    if len(shape) == len(named) or (named != words and len(shape) > len(named)):
        for word, size in zip(named, shape, strict=False):
            if word == 'T-1':
                sizes.setdefault('T', int(size) + 1)
            elif not word.isdigit():
                sizes.setdefault(word, int(size))
    sizes['T-1'] = sizes.get('T', 0) - 1
    wanted = [int(word) if word.isdigit() else sizes.get(word, -1) for word in named]
    if list(shape[:len(named)]) != wanted or (named == words and len(shape) != len(words)):
        raise InputError(f'{where}: shape of {name}', f'[{field.shape.replace(" ", ", ")}] = {wanted}', list(shape))


def concrete(field: Field, values: Any) -> Field:
    """A declaration with the type and the further axes of an array or dataset that fits it."""
    words = field.shape.split()
    if words[-1] == '...':
        words[-1:] = map(str, values.shape[len(words) - 1:])
    return Field(str(values.dtype), ' '.join(words), field.about)


def check_all(fields: Mapping[str, Field], arrays: Mapping[str, Any], where: str, sizes: dict[str, int] | None = None
              ) -> dict[str, int]:
    """All arrays (or datasets) against their declarations; returns the sizes of N, T, H, W, C ...

    Args:
        sizes: of earlier arrays, N left out.
    """
    sizes = dict(sizes or {})
    if 'frames' not in arrays:
        raise InputError(f'{where}: fields', "'frames' and what was declared", sorted(arrays))
    for name in ['frames', *(k for k in arrays if k != 'frames')]:
        check(name, fields[name], arrays[name].shape, arrays[name].dtype, sizes, where)
    if sizes['C'] not in (1, 3):
        raise InputError(f'{where}: channels of frames', '1 or 3', sizes['C'])
    return sizes


def action_format(meta: Mapping[str, Any], actions: NDArray | None, where: str) -> str:
    """The name of the actions' format; four numbers without a name are ``pick_place_xy``, as in the first format."""
    name = meta.get('action_format')
    if name is None:
        if actions is None:
            return 'none'
        if actions.shape[2:] == (4,):
            return 'pick_place_xy'
        raise InputError(f'{where}: action_format', f'a name, such as one of {list(ACTION_FORMATS)}', 'nothing')
    if (name == 'none') != (actions is None):
        raise InputError(f'{where}: actions', f'what action_format {name!r} says',
                         'none' if actions is None else 'some')
    return str(name)
