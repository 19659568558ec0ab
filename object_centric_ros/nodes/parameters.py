"""Parameters of a node as a frozen dataclass: one place for name, default, meaning, unit and range."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node

from object_centric_ros.errors import InputError

T = TypeVar('T')


def parameter(default: Any, text: str, low: float | None = None, high: float | None = None,
              choices: Sequence[str] = (), lengths: Sequence[int] = ()) -> Any:
    """A field of a parameter dataclass.

    Args:
        default: its type is the parameter's: bool, int, float, str or a tuple of floats.
        text: description with the unit; becomes the descriptor's.
        low, high: bounds, included, of a number or of each number of a list.
        choices: of a string.
        lengths: allowed numbers of values of a list.
    """
    return dataclasses.field(default=default, metadata={
        'text': text, 'low': low, 'high': high, 'choices': tuple(choices), 'lengths': tuple(lengths)})


def declare(node: Node, settings: type[T]) -> T:
    """Declare every field of `settings` as a read-only parameter and return what they are set to.

    Raises:
        InputError: a value of the wrong type or out of bounds; names the node, the parameter and what was expected.
    """
    hints = get_type_hints(settings)
    values = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        where = f'{node.get_name()}: parameter {field.name}'
        try:
            value = node.declare_parameter(field.name, default, _descriptor(hints[field.name], field.metadata)).value
        except (ParameterException, TypeError) as e:
            raise InputError(where, _expected(hints[field.name], field.metadata), e) from e
        values[field.name] = _checked(hints[field.name], value, field.metadata, where)
    return settings(**values)


def _descriptor(kind: Any, meta: Any) -> ParameterDescriptor:
    """The descriptor; typed dynamically, so that 2 is taken for 2.0 and an empty list for a list of numbers."""
    d = ParameterDescriptor(description=meta['text'], read_only=True, dynamic_typing=True)
    d.additional_constraints = _expected(kind, meta)
    low = -math.inf if meta['low'] is None else meta['low']
    high = math.inf if meta['high'] is None else meta['high']
    if kind is float and math.isfinite(low) and math.isfinite(high):
        d.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    if kind is int and math.isfinite(low) and math.isfinite(high):
        d.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return d


def _expected(kind: Any, meta: Any) -> str:
    name = 'list of numbers' if get_origin(kind) is tuple else {'str': 'string', 'int': 'integer', 'float': 'number',
                                                                'bool': 'true or false'}[kind.__name__]
    parts = [name]
    if meta['lengths']:
        parts.append('of length ' + ' or '.join(map(str, meta['lengths'])))
    if meta['choices']:
        parts.append('out of ' + ', '.join(repr(c) for c in meta['choices']))
    if meta['low'] is not None:
        parts.append(f'>= {meta["low"]}')
    if meta['high'] is not None:
        parts.append(f'<= {meta["high"]}')
    return ' '.join(parts)


def _checked(kind: Any, value: Any, meta: Any, where: str) -> Any:
    """`value` as `kind`, or an InputError."""
    problem = InputError(where, _expected(kind, meta), f'{value!r}')
    if get_origin(kind) is tuple:
        if isinstance(value, (str, bytes)) or not hasattr(value, '__len__'):
            raise problem
        if meta['lengths'] and len(value) not in meta['lengths']:
            raise problem
        return tuple(_checked(get_args(kind)[0], v, meta | {'lengths': ()}, where) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise problem
    if (meta['low'] is not None and value < meta['low']) or (meta['high'] is not None and value > meta['high']):
        raise problem
    if meta['choices'] and value not in meta['choices']:
        raise problem
    return value
