"""The demo's report: one HTML file with everything inside."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from object_centric_ros.evaluation.charts import Bar, Series, line_chart, timeline
from object_centric_ros.evaluation.pictures import (
    Image,
    data_url,
    entity_colour,
    entity_picture,
    label_picture,
    resize,
)
from object_centric_ros.evaluation.tables import Spread, cell
from object_centric_ros.evaluation.trials import HEADER, TOLERANCE, Seen, Trial, row, summary
from object_centric_ros.geometry import model_image

SLACK = 0.5
"""A plan's picture may come later than the command that it belongs to, by this (s); no command takes less."""
STAGES = {'observe': ('look, plan', '#3778c2'), 'act': ('act', '#e08a2e')}
STYLE = """
:root { color-scheme: light; --ink: #1d2733; --soft: #5b6877; --line: #dfe4ea; --good: #1f8a5b; --bad: #c23b32; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; } h2 { font-size: 19px; margin: 0; } h3 { font-size: 15px; margin: 22px 0 4px; }
p { margin: 4px 0 10px; max-width: 82ch; } .soft, .none { color: var(--soft); }
.card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin-top: 18px; }
.chip { display: inline-block; padding: 1px 10px; border-radius: 99px; color: #fff; font-size: 13px; font-weight: 600;
  margin-left: 8px; vertical-align: 2px; }
.good { background: var(--good); } .bad { background: var(--bad); }
table { border-collapse: collapse; margin: 8px 0; } th, td { padding: 4px 12px 4px 0; text-align: left;
  vertical-align: top; }
th { font-size: 12.5px; color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
td { border-bottom: 1px solid #eef1f4; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } .row { display: flex; flex-wrap: wrap; gap: 14px; }
figure { margin: 0; } figcaption { font-size: 12.5px; color: var(--soft); margin-bottom: 3px; }
img { display: block; border-radius: 5px; border: 1px solid var(--line); max-width: 100%; }
table.film td, table.film th { border: 0; padding: 3px 8px 3px 0; font-size: 12.5px; }
table.film td.name { white-space: nowrap; vertical-align: middle; color: var(--soft); }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 5px; vertical-align: -1px; }
.pixels img { image-rendering: pixelated; } summary { cursor: pointer; }
.chart { max-width: 100%; height: auto; }
.chart .grid { stroke: #e6eaef; } .chart .limit { stroke: #c23b32; stroke-dasharray: 5 4; }
.chart text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #5b6877; }
.chart .title { font-size: 13px; font-weight: 600; fill: #1d2733; }
code { background: #eef1f4; padding: 1px 5px; border-radius: 4px; font-size: 13px; }
"""


def write_report(path: str | os.PathLike[str], trials: Sequence[Trial], facts: Mapping[str, object]) -> None:
    """Write the report.

    Args:
        path: the HTML file.
        trials: in order; the first and every one that failed are shown open.
        facts: lines about the run, name -> value.
    """
    body = [_head(trials, facts)]
    body += [_trial(i, t, i == 0 or not t.reached) for i, t in enumerate(trials)]
    Path(path).write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>object_centric_ros: demo</title>'
        f'<style>{STYLE}</style></head>\n<body><main>\n' + '\n'.join(body) + '\n</main></body></html>\n',
        encoding='utf-8')


def _head(trials: Sequence[Trial], facts: Mapping[str, object]) -> str:
    lines = ''.join(f'<tr><td>{escape(k)}</td><td>{escape(cell(v))}</td></tr>' for k, v in facts.items())
    table = html_table(HEADER, [row(t) for t in trials])
    return (
        '<h1>From a goal picture to pick-and-place</h1><p class="soft">object_centric_ros: entities discovered and '
        'tracked by a learned model, actions planned in its imagination and carried out by a simulated arm.</p>'
        f'<section class="card"><h2>{escape(summary(trials))}</h2><div class="scroll">{table}</div>'
        f'<p class="soft">Reached: every moved block within {1000 * TOLERANCE:.0f} mm of its goal along x, y and z, '
        'by the simulator\'s state. Perception and planner see camera images alone, never that state.</p>'
        f'<details><summary>About this run</summary><table>{lines}</table></details></section>')


def html_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; yes and no get colours."""
    def td(value: object) -> str:
        if isinstance(value, (bool, np.bool_)):
            return f'<td style="color:var(--{"good" if value else "bad"});font-weight:600">{cell(value)}</td>'
        return f'<td>{escape(cell(value))}</td>'

    head = ''.join(f'<th>{escape(h)}</th>' for h in header)
    return f'<table><tr>{head}</tr>' + ''.join(f'<tr>{"".join(map(td, r))}</tr>' for r in rows) + '</table>'


def _trial(index: int, trial: Trial, opened: bool) -> str:
    verdict = ('good', 'reached') if trial.reached else ('bad', 'not reached')
    chip = '<span class="chip {}">{}</span>'.format(*verdict)
    errors = ', '.join(f'{1000 * e:.0f} mm' for e in trial.errors) or 'not measured'
    parts = [
        f'<details class="card"{" open" if opened else ""}><summary><h2 style="display:inline">Trial {index + 1}: '
        f'{escape(trial.description)}</h2>{chip}</summary>',
        f'<p>{trial.blocks} blocks, {trial.moved} to be moved, seed {trial.seed}. {trial.steps} pick-and-places in '
        f'{cell(trial.seconds)} s; errors of the moved blocks: {errors}. {escape(trial.message)}</p>',
        _pictures(trial), _tracking(trial), _imagination(trial), _charts(trial), '</details>']
    return '\n'.join(p for p in parts if p)


def figure(image: Image, caption: str, width: int, height: int | None = None) -> str:
    """A picture with a caption, stored at the size at which it is shown or smaller."""
    h = height or round(image.shape[0] * width / image.shape[1])
    shown = image if image.shape[1] <= width else resize(image, width, h)
    return (f'<figure><figcaption>{escape(caption)}</figcaption><img src="{data_url(shown)}" width="{width}" '
            f'height="{h}" alt="{escape(caption)}"></figure>')


def _pictures(trial: Trial) -> str:
    shown = [figure(trial.goal_image, 'Goal, as given to the planner', 350)]
    if trial.seen:
        shown += [figure(trial.seen[0].image, 'Before', 350), figure(trial.seen[-1].image, 'After', 350)]
    return f'<div class="row">{"".join(shown)}</div>'


def pick(seen: Sequence[Seen], most: int) -> list[Seen]:
    """At most so many moments, evenly spread, first and last included."""
    if len(seen) <= most:
        return list(seen)
    return [seen[round(i * (len(seen) - 1) / (most - 1))] for i in range(most)]


def _tracking(trial: Trial) -> str:
    """Camera, overlay, label image and each entity's pixels, over time."""
    seen = pick([s for s in trial.seen if s.labels is not None], 8)
    if not seen:
        return ''
    size = max(118, min(140, 940 // len(seen)))
    often = Counter(e.id for s in seen for e in s.entities)
    ids = sorted(i for i, _ in often.most_common(8))
    lines = ['<tr><th></th>' + ''.join(f'<th>{escape(s.label)}<br>{s.seconds:.0f} s</th>' for s in seen) + '</tr>']

    def line(name: str, images: Sequence[Image | None]) -> None:
        cells = ''.join('<td></td>' if i is None else
                        f'<td><img src="{data_url(i)}" width="{size}" height="{size}" alt=""></td>' for i in images)
        lines.append(f'<tr><td class="name">{name}</td>{cells}</tr>')

    small = [model_image(s.image, s.labels.shape[0]) for s in seen if s.labels is not None]
    line('camera', [model_image(s.image, 2 * size) for s in seen])
    line('overlay', [None if s.overlay is None else model_image(s.overlay, 2 * size) for s in seen])
    line('slot masks', [label_picture(s.labels) for s in seen if s.labels is not None])
    for i in ids:
        dot = '<span class="dot" style="background:rgb({},{},{})"></span>'.format(*entity_colour(i))
        line(f'{dot}entity {i}', [
            None if s.labels is None or i not in [e.id for e in s.entities] else entity_picture(image, s.labels, i)
            for s, image in zip(seen, small, strict=True)])
    return ('<h3>What the tracker saw</h3><p class="soft">The square of the camera image that the model sees. Each '
            'entity keeps its colour and its id; its row shows the pixels that its slot explains.</p>'
            f'<div class="scroll pixels"><table class="film">{"".join(lines)}</table></div>')


def _imagination(trial: Trial) -> str:
    """Each plan's frames, and what the camera saw when its first command was done."""
    if not trial.plans:
        return ''
    size, lines = 128, []
    longest = max(len(p.frames) for p in trial.plans)
    for n, plan in enumerate(trial.plans):
        after = trial.plans[n + 1].seconds if n + 1 < len(trial.plans) else float('inf')
        commands = [p for p in trial.progress if p.stage == 'act' and plan.seconds - SLACK <= p.seconds < after - SLACK]
        command = commands[0] if commands else None
        begun = max(plan.seconds, command.seconds if command else 0.0) + SLACK
        seen = next((s for s in sorted(trial.seen, key=lambda s: s.seconds) if s.seconds > begun), None)
        images = [data_url(f) for f in plan.frames]
        cells = ''.join(f'<td><img src="{u}" width="{size}" height="{size}" alt=""></td>' for u in images)
        cells += '<td></td>' * (longest - len(images))
        happened, gap = '', ''
        if command is not None and seen is not None and len(plan.frames) > 1:
            real = model_image(seen.image, plan.frames.shape[1])
            happened = f'<img src="{data_url(real)}" width="{size}" height="{size}" alt="">'
            error = np.abs(real.astype(float) - plan.frames[1]).mean() / 255
            gap = f'mean difference<br>{error:.3f}'
        idle = 'the goal holds' if trial.believed and n == len(trial.plans) - 1 else 'no command'
        text = idle if command is None else (
            f'entity {command.entity}<br>({command.pick[0]:+.2f}, {command.pick[1]:+.2f}) m to<br>'
            f'({command.place[0]:+.2f}, {command.place[1]:+.2f}) m')
        lines.append(f'<tr><td class="name">plan {n + 1}, {plan.seconds:.0f} s<br>{text}</td>{cells}<td>{happened}</td>'
                     f'<td class="name">{gap}</td></tr>')
    head = ''.join(f'<th>{"now" if i == 0 else f"imagined +{i}"}</th>' for i in range(longest))
    return ('<h3>What the planner imagined, and what happened</h3><p class="soft">Only the first command of a plan is '
            'carried out; then the planner looks again. The last picture is the camera image after that command.</p>'
            '<div class="scroll pixels"><table class="film"><tr><th></th>' + head + '<th>happened</th><th></th></tr>' +
            ''.join(lines) + '</table></div>')


def _charts(trial: Trial) -> str:
    t, total, model = (trial.latency[:, i] for i in range(3)) if len(trial.latency) else (np.zeros(0),) * 3
    all_of, of_model = Spread.of(1000 * total), Spread.of(1000 * model)
    latency = line_chart([Series('image to entities', t, 1000 * total, '#3778c2', band=True),
                          Series('in the model', t, 1000 * model, '#e08a2e', band=True)],
                         'Latency of perception', 'time since the goal was sent, s', 'ms')
    note = (f'{len(t)} frames; image stamp to arrival of its entities: median {cell(all_of.p50)} ms, 95 % below '
            f'{cell(all_of.p95)} ms; in the model: median {cell(of_model.p50)} ms, 95 % below {cell(of_model.p95)} ms.')
    bars, ends = [], [*[p.seconds for p in trial.progress[1:]], trial.seconds]
    for p, following in zip(trial.progress, ends, strict=False):
        if p.stage in STAGES and following > p.seconds:
            name, colour = STAGES[p.stage]
            bars.append(Bar(name, p.seconds, following, colour, f'{name}: {following - p.seconds:.1f} s'))
    costs = {p.step: (p.seconds, p.cost) for p in trial.progress if np.isfinite(p.cost) and p.stage == 'act'}
    points = [*costs.values(), (trial.seconds, trial.cost)]
    points = [p for p in points if np.isfinite(p).all()]
    x, y = (np.array(c, float) for c in zip(*points, strict=True)) if points else (np.zeros(0), np.zeros(0))
    cost = line_chart([Series('', x, y, '#1f8a5b', dots=True)], 'Distance to the goal, as the planner sees it',
                      'time since the goal was sent, s', 'cost')
    return (f'<h3>Time</h3><p class="soft">{note}</p><div class="row">{latency}'
            f'{timeline(bars, "What the planner was doing", list(STAGES.values()))}{cost}</div>')
