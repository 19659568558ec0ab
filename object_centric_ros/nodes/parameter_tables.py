"""The README's tables of parameters, from the descriptors: ``python -m object_centric_ros.nodes.parameter_tables``."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from object_centric_ros.nodes.entity_perception import PerceptionSettings
from object_centric_ros.nodes.interaction_collector import CollectorSettings
from object_centric_ros.nodes.parameters import descriptors
from object_centric_ros.nodes.pick_place_planner import PlannerSettings
from object_centric_ros.nodes.tabletop_sim import SimSettings

NODES: dict[str, type[Any]] = {
    'entity_perception': PerceptionSettings, 'pick_place_planner': PlannerSettings, 'tabletop_sim': SimSettings,
    'interaction_collector': CollectorSettings}
WORDS = {'live': 'any time', 'inactive': 'inactive', 'never': 'start'}
BLOCK = re.compile(r'(<!-- parameters of (\w+) -->\n).*?(<!-- end -->)', re.DOTALL)


def table(settings: type[Any]) -> str:
    """The parameters of a settings dataclass as a Markdown table."""
    hints, told = get_type_hints(settings), descriptors(settings)
    lines = ['| parameter | type | default | allowed | change | meaning |', '| --- | --- | --- | --- | --- | --- |']
    for field in dataclasses.fields(settings):
        lines.append(f'| `{field.name}` | {_kind(hints[field.name], field.metadata)} | {_default(field.default)} | '
                     f'{_allowed(field.metadata)} | {WORDS[field.metadata["change"]]} | '
                     f'{told[field.name].description} |')
    return '\n'.join(lines) + '\n'


def _kind(kind: Any, meta: Any) -> str:
    if get_origin(kind) is not tuple:
        return {'str': 'string', 'bool': 'bool'}.get(kind.__name__, kind.__name__)
    return f'{get_args(kind)[0].__name__}[{" or ".join(map(str, meta["lengths"]))}]'


def _default(value: Any) -> str:
    if value in ('', ()):
        return 'empty'
    if isinstance(value, tuple):
        return ', '.join(map(str, value))
    return f'`{value}`' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _allowed(meta: Any) -> str:
    if meta['choices']:
        return ', '.join(f'`{choice}`' for choice in meta['choices'])
    low, high = meta['low'], meta['high']
    return '' if low is None and high is None else f'{low} to {high}' if high is not None else f'{low} or more'


def filled(text: str) -> str:
    """A Markdown text with every block `<!-- parameters of NODE --> ... <!-- end -->` written anew."""
    return BLOCK.sub(lambda m: m[1] + table(NODES[m[2]]) + m[3], text)


def main(argv: list[str] | None = None) -> int:
    """Rewrite the tables of a file, or say whether they are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', type=Path, nargs='?', default=Path('README.md'))
    parser.add_argument('--check', action='store_true', help='change nothing; status 1 if the tables are out of date')
    args = parser.parse_args(argv)
    text = args.file.read_text()
    new = filled(text)
    if new == text:
        return 0
    if args.check:
        print(f'{args.file}: the tables of parameters are out of date: say '
              'python -m object_centric_ros.nodes.parameter_tables', file=sys.stderr)
        return 1
    args.file.write_text(new)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
