"""The data card: a short markdown file beside an episode file that says what is in it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from object_centric_ros.datasets.layout import ACTION_FORMATS
from object_centric_ros.datasets.store import EpisodeStore

SAID = ('format', 'fields', 'action_format', 'about')
"""Metadata that the card's other parts show."""


def facts(store: EpisodeStore) -> dict[str, Any]:
    """The numbers of a file that people ask for first."""
    height, width, channels = store.image_shape
    size = os.path.getsize(store.path)
    raw = sum(np.dtype(store.layout[k].type).itemsize * math.prod(shape) for k, shape in store.shapes.items())
    generator = f'{store.meta.get("generator", "unknown")}, version {store.meta.get("generator_version", "unknown")}'
    actions = ': '.join(filter(None, (store.action_format, ACTION_FORMATS.get(store.action_format))))
    return {'episodes': f'{len(store):,}', 'frames in each': f'{store.steps:,}',
            'image': f'{width} x {height} pixels, {"RGB" if channels == 3 else "gray"}',
            'actions': actions, 'generator': generator, 'seed': store.meta.get('seed', 'none'),
            'size': f'{size / 1e6:,.1f} MB on disk, {raw / 1e6:,.1f} MB in memory',
            'format': store.meta['format']}


def card(store: EpisodeStore) -> str:
    """The card as markdown."""
    lines = [f'# {Path(store.path).name}', '', str(store.meta.get('about', 'Episodes for object-centric models.')), '']
    lines += [f'- {name}: {value}' for name, value in facts(store).items()]
    lines += ['', '| field | type | shape | meaning |', '| --- | --- | --- | --- |']
    for name, field in store.layout.items():
        about = field.about.replace('|', '\\|')
        lines.append(f'| `{name}` | {field.type} | {list(store.shapes[name])} | {about} |')
    more = {k: v for k, v in store.meta.items() if k not in SAID}
    lines += ['', '## Metadata', '', '```json', json.dumps(more, indent=1), '```', '', '## Reading', '', '```python',
              'from object_centric_ros.datasets.episodes import EpisodeStore', '',
              f"with EpisodeStore('{Path(store.path).name}') as store:", '    arrays = store.read(slice(0, 8))', '```']
    return '\n'.join(lines) + '\n'


def write_card(path: str | os.PathLike[str]) -> Path:
    """Write the card of an episode file, ``FILE.md``."""
    out = Path(f'{os.fspath(path)}.md')
    with EpisodeStore(path) as store:
        out.write_text(card(store), encoding='utf-8')
    return out
