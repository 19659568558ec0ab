"""Parameters of a node as a frozen dataclass: one place for name, default, meaning, unit and range."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from object_centric_ros.errors import InputError

T = TypeVar('T')


CHANGE = {'live': 'at any time', 'inactive': 'while the node is not active', 'never': 'only at the start'}
"""When a parameter may be changed, in words."""


def parameter(default: Any, text: str, low: float | None = None, high: float | None = None,
              choices: Sequence[str] = (), lengths: Sequence[int] = (), change: str = 'inactive') -> Any:
    """A field of a parameter dataclass.

    Args:
        default: its type is the parameter's: bool, int, float, str or a tuple of ints or floats.
        text: description with the unit; becomes the descriptor's.
        low, high: bounds, included, of a number or of each number of a list.
        choices: of a string.
        lengths: allowed numbers of values of a list.
        change: when it may be changed, one of `CHANGE`.
    """
    return dataclasses.field(default=default, metadata={
        'text': text, 'low': low, 'high': high, 'choices': tuple(choices), 'lengths': tuple(lengths),
        'change': change})


def declare(node: Node, settings: type[T]) -> T:
    """Declare every field of `settings` as a parameter and return what they are set to.

    Raises:
        InputError: a value of the wrong type or out of bounds; names the node, the parameter and what was expected.
    """
    for name, descriptor in descriptors(settings).items():
        default = settings.__dataclass_fields__[name].default  # type: ignore[attr-defined]
        try:
            node.declare_parameter(name, list(default) if isinstance(default, tuple) else default, descriptor)
        except (ParameterException, TypeError) as e:
            expected = descriptor.additional_constraints.partition(';')[0]
            raise InputError(f'{node.get_name()}: parameter {name}', expected, e) from e
    return read(node, settings)


def read(node: Node, settings: type[T], instead: Sequence[Parameter] = ()) -> T:
    """What the declared parameters are set to, or would be with those of `instead`.

    Raises:
        InputError: a value that does not fit; names the node, the parameter and what was expected.
    """
    hints, other = get_type_hints(settings), {p.name: p.value for p in instead}
    values = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        value = other[field.name] if field.name in other else node.get_parameter(field.name).value
        values[field.name] = _checked(hints[field.name], value, field.metadata,
                                      f'{node.get_name()}: parameter {field.name}')
    return settings(**values)


def from_file(settings: type[T], path: Path, names: Sequence[str], given: Mapping[str, Any]) -> T:
    """Parameters of a node called one of `names`, from its parameter file; what is `given` counts before the file.

    Raises:
        InputError: no such file, not a parameter file, or a value that does not fit.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as e:
        raise InputError(f'{path}', 'a parameter file (YAML)', e) from e
    if not isinstance(content, dict):
        raise InputError(f'{path}', 'a parameter file: a mapping of nodes', type(content).__name__)
    values: dict[str, Any] = {}
    for node in ('/**', *names):
        section = content.get(node)
        found = section.get('ros__parameters') if isinstance(section, dict) else None
        values |= found if isinstance(found, dict) else {}
    return from_values(settings, values | dict(given), str(path))


def from_values(settings: type[T], values: Mapping[str, Any], where: str) -> T:
    """Parameters of which some are set to `values`; other names do not matter.

    Raises:
        InputError: a value that does not fit; names `where` it comes from.
    """
    hints = get_type_hints(settings)
    return settings(**{f.name: _checked(hints[f.name], values[f.name], f.metadata, f'{where}: parameter {f.name}')
                       for f in dataclasses.fields(settings) if f.name in values})  # type: ignore[arg-type]


def watch(node: Node, settings: type[T], changed: Callable[[T], None], busy: Callable[[], str] = lambda: '') -> None:
    """Check every change of declared parameters before it is taken; a refusal carries the reason.

    Args:
        node, settings: as for `declare`.
        changed: told the new values.
        busy: the state in which only parameters of change='live' may be changed, empty in others.
    """
    fields = {f.name: f.metadata['change'] for f in dataclasses.fields(settings)}  # type: ignore[arg-type]

    def check(parameters: list[Parameter]) -> SetParametersResult:
        mine = [p for p in parameters if p.name in fields]
        try:
            read(node, settings, mine)
            fixed = [p.name for p in mine if fields[p.name] != 'live']
            if fixed and busy():
                raise InputError(f'{node.get_name()}: parameter {fixed[0]}', 'a node that is inactive or unconfigured '
                                 '(deactivate it first)', f'state {busy()}')
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def take(parameters: list[Parameter]) -> None:
        if any(p.name in fields for p in parameters):
            changed(read(node, settings))

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(take)


def changes_only_at_rest(settings: Any) -> dict[str, Any]:
    """The values of `settings` that cannot be changed at any time."""
    return {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.metadata['change'] != 'live'}


@contextmanager
def qos_from_parameters(topic: str) -> Iterator[QoSOverridingOptions]:
    """Options with which a publisher or subscription takes history, depth and reliability from parameters.

    Raises:
        InputError: from the block, for a policy that does not exist.
    """
    try:
        yield QoSOverridingOptions.with_default_policies()
    except (InvalidQosOverridesError, ParameterException, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f'qos_overrides of {topic}', 'history keep_last or keep_all, depth 1 or more, reliability '
                         'reliable or best_effort', error) from error


def descriptors(settings: type[Any]) -> dict[str, ParameterDescriptor]:
    """The descriptor of each parameter."""
    hints = get_type_hints(settings)
    return {f.name: _descriptor(f.name, hints[f.name], f.metadata) for f in dataclasses.fields(settings)}


def _descriptor(name: str, kind: Any, meta: Any) -> ParameterDescriptor:
    """The descriptor; typed dynamically, so that 2 is taken for 2.0 and an empty list for a list of numbers."""
    d = ParameterDescriptor(name=name, description=meta['text'], read_only=meta['change'] == 'never',
                            dynamic_typing=True)
    d.additional_constraints = f'{_expected(kind, meta)}; may be changed {CHANGE[meta["change"]]}'
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
