"""`object-centric report`: one self-contained page about a training run, with learning curves and pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from object_centric_ros.datasets.held_out import Episodes, as_image
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.charts import Series, line_chart
from object_centric_ros.evaluation.pictures import data_url
from object_centric_ros.evaluation.report import STYLE, html_table
from object_centric_ros.evaluation.slot_pictures import (
    Film,
    Row,
    refinement_steps,
    roll_out,
    slots_over_time,
    traversals,
)
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.tracking.settings import TrackerConfig
from object_centric_ros.training.runlog import read_log

COLOURS = ('#3778c2', '#e08a2e', '#1f8a5b', '#c23b32', '#7a52b3', '#5b6877')
CURVES = {
    'Foreground ARI on held-out episodes': ('ari_f_first', 'ari_f_last', 'ari_f_alone'),
    'ARI on held-out episodes': ('ari_first', 'ari_last'),
    'Reconstruction error on held-out episodes (MSE)': ('mse_first', 'mse_last'),
    'Open-loop prediction on held-out episodes (MSE)': ('open_1', 'copy_1', 'open_4', 'copy_4'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `object-centric report`."""
    parser.add_argument('folder', metavar='RUN', help='folder of a training run')
    parser.add_argument('--data', help='HDF5 file of held-out episodes to show; without one there are curves only')
    parser.add_argument('--episodes', type=int, default=2, help='how many of them')
    parser.add_argument('--observed', type=int, default=1, help='frames that are seen before a roll-out')
    parser.add_argument('--out', help='the page; default RUN/report.html')


def run(args: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    folder = Path(args.folder)
    entries = read_log(folder)
    if not entries or not (folder / 'model.safetensors').is_file():
        raise InputError('run', 'a folder of `object-centric train`, with log.jsonl and model.safetensors', args.folder)
    if args.episodes < 1 or args.observed < 1:
        raise InputError('--episodes, --observed', 'positive numbers', (args.episodes, args.observed))
    model, record = load_model(folder / 'model.safetensors')
    parts = [_head(record), _curves(entries)]
    if args.data:
        parts += [_film(model, film, n, args.observed) for n, film in enumerate(films(model, args.data, args.episodes))]
    out = Path(args.out or folder / 'report.html')
    out.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(record["model_id"])}</title><style>{STYLE}</style></head>\n<body><main>\n'
        + '\n'.join(parts) + '\n</main></body></html>\n', encoding='utf-8')
    print(out)
    return 0


def films(model: CycleModel, path: str, count: int) -> list[Film]:
    """The first episodes of a file, as the model takes them."""
    data = Episodes(path, TrackerConfig().object_height, count, model.action_format)
    size, given = model.config.image_size, data.frames.shape[2:4]
    if given != (size, size):
        raise InputError(f'{path}: frames', f'{size}x{size} pixels, the image_size of the model', given)
    images = as_image(data.frames)
    images = model.observe(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    actions, labels = torch.from_numpy(data.actions(slice(None))), data.arrays.get('labels')
    return [Film(images[n:n + 1], actions[n:n + 1], None if labels is None else labels[n]) for n in range(len(data))]


def _head(record: dict[str, Any]) -> str:
    facts = {k: record.get(k) for k in ('steps', 'minutes', 'device', 'processes', 'threads', 'episodes', 'version')}
    facts |= {f'validation: {k}': v for k, v in record.get('validation', {}).items()}
    config = escape(json.dumps(record.get('training', {}), indent=1))
    return (f'<h1>{escape(record["model_id"])}</h1><p class="soft">object_centric_ros: a training run.</p>'
            f'<section class="card"><h2>The run</h2>{html_table(("fact", "value"), list(facts.items()))}'
            f'<details><summary>Configuration</summary><pre>{config}</pre></details></section>')


def _curves(entries: Sequence[dict[str, Any]]) -> str:
    """Losses, terms and metrics over the optimisation steps; a line where a stage begins."""
    def series(kind: str, keys: Sequence[str]) -> list[Series]:
        found = []
        for colour, key in zip(COLOURS, keys, strict=False):
            points = [(e['step'], e[key]) for e in entries if e['kind'] == kind and key in e]
            if points:
                x, y = (np.array(values, float) for values in zip(*points, strict=True))
                found.append(Series(key, x, y, colour, dots=len(x) < 30))
        return found
    charts = []
    skip = {'kind', 'stage', 'step', 'seconds', 'steps_per_second'}
    terms = list(dict.fromkeys(k for e in entries if e['kind'] == 'train' for k in e if k not in skip))
    for key in terms:
        charts.append(line_chart(series('train', [key]), f'Training: {key}', 'step', key, from_zero=False))
    for title, keys in CURVES.items():
        if found := series('validation', keys):
            charts.append(line_chart(found, title, 'step', ''))
    if held := series('held_out', ['loss']):
        charts.append(line_chart(held, 'Held-out loss', 'step', 'loss', from_zero=False))
    begun = {e['stage']: e['step'] for e in reversed(entries)}
    stages = ', '.join(f'stage {s} from step {step}' for s, step in sorted(begun.items()))
    return (f'<section class="card"><h2>Learning curves</h2><p class="soft">First logged steps of the stages: {stages}.'
            f'</p><div class="row">{"".join(charts)}</div></section>')


def _film(model: CycleModel, film: Film, number: int, observed: int) -> str:
    steps = [str(t) for t in range(film.images.shape[1])]
    moved = [f'{v:+.1f}' for v in np.linspace(-2, 2, 7)]
    pictures = [
        ('Slots over time', 'The filter sees every frame.', steps, slots_over_time(model, film)),
        ('Refinement of the first frame', 'The image, then the belief after each refinement.',
         ['image', *map(str, range(1, 1 + max(model.config.first_iterations, 1)))], refinement_steps(model, film)),
        ('Latent traversals', 'The dimensions of one slot that change the picture most, with the variance that each '
         'makes.', moved, traversals(model, film))]
    if film.images.shape[1] > 1:
        pictures.insert(1, ('Roll-out beside what happened', f'{observed} observed frames, then actions alone.', steps,
                            roll_out(model, film, observed)))
    body = ''.join(f'<h3>{escape(title)}</h3><p class="soft">{escape(note)}</p>{film_strip(head, rows)}'
                   for title, note, head, rows in pictures)
    opened = ' open' if number == 0 else ''
    return (f'<details class="card"{opened}><summary><h2 style="display:inline">Episode {number}</h2></summary>{body}'
            '</details>')


def film_strip(head: Sequence[str], rows: Sequence[Row], size: int = 96) -> str:
    """A table of pictures, as many columns as the longest row."""
    columns = max(len(images) for _, images in rows)
    lines = ['<tr><th></th>' + ''.join(f'<th>{escape(h)}</th>' for h in list(head)[:columns]) + '</tr>']
    for name, images in rows:
        cells = ''.join('<td></td>' if i is None else
                        f'<td><img src="{data_url(i)}" width="{size}" height="{size}" alt=""></td>' for i in images)
        lines.append(f'<tr><td class="name">{escape(name)}</td>{cells}</tr>')
    return f'<div class="scroll pixels"><table class="film">{"".join(lines)}</table></div>'
