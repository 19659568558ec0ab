"""Charts as inline SVG: no script, no library, no link."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

LEFT, RIGHT, TOP, BOTTOM = 66, 12, 26, 36


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        name: for the legend.
        x, y: the points [N].
        colour: CSS colour.
        band: draw the median of neighbouring points and, around it, what lies between the 5th and 95th percentile.
        dots: mark the points.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: str
    band: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Bar:
    """A span of a timeline: row, start, end (s), colour and what to say about it."""

    row: str
    start: float
    end: float
    colour: str
    label: str


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that cover [low, high], about `count` of them."""
    span = max(high - low, 1e-9)
    raw = span / count
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    return [float(v) + 0.0 for v in np.arange(np.ceil(low / step - 1e-9) * step, high + 1e-9 * span, step)]


def line_chart(series: Sequence[Series], title: str, x_label: str, y_label: str, width: int = 534, height: int = 220,
               limit: float | None = None, limit_name: str = '', from_zero: bool = True) -> str:
    """A line chart, from y = 0 or from the lowest value; `limit` draws a dashed line."""
    shown = [s for s in series if len(s.x)]
    if not shown:
        return f'<p class="none">{escape(title)}: nothing was recorded.</p>'
    x0, x1 = min(float(s.x.min()) for s in shown), max(float(s.x.max()) for s in shown)
    tops = [float(np.nanpercentile(s.y, 99 if s.band else 100)) for s in shown]
    y0 = 0.0 if from_zero else min(float(np.nanpercentile(s.y, 1)) for s in shown)
    y1 = y0 + 1.12 * max(max([*tops, limit or 0.0]) - y0, 1e-9)
    x1 = x1 if x1 > x0 else x0 + 1

    def px(x: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * (x - x0) / (x1 - x0)

    def py(y: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (1 - (min(max(y, y0), y1) - y0) / (y1 - y0))

    parts = _frame(width, height, title, x_label, y_label)
    for v in ticks(y0, y1):
        parts.append(f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{py(v):.1f}" y2="{py(v):.1f}" class="grid"/>'
                     f'<text x="{LEFT - 6}" y="{py(v) + 4:.1f}" class="tick" text-anchor="end">{v:g}</text>')
    for v in ticks(x0, x1, 8):
        parts.append(f'<text x="{px(v):.1f}" y="{height - BOTTOM + 15}" class="tick" text-anchor="middle">{v:g}</text>')
    if limit is not None:
        parts.append(f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{py(limit):.1f}" y2="{py(limit):.1f}" class="limit"/>'
                     f'<text x="{width - RIGHT - 4}" y="{py(limit) - 4:.1f}" class="tick" text-anchor="end">'
                     f'{escape(limit_name)}</text>')
    for s in shown:
        parts += _curve(s, px, py)
    return '\n'.join([*parts, *_legend([(s.name, s.colour) for s in shown if s.name], width), '</svg>'])


def timeline(bars: Sequence[Bar], title: str, legend: Sequence[tuple[str, str]], width: int = 534) -> str:
    """Spans in rows over time (s); hovering shows their labels."""
    if not bars:
        return f'<p class="none">{escape(title)}: nothing was recorded.</p>'
    rows = list(dict.fromkeys(b.row for b in bars))
    height = TOP + 24 * len(rows) + BOTTOM
    end = max(b.end for b in bars) or 1.0

    def px(x: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * x / end

    parts = _frame(width, height, title, 'time since the goal was sent, s', '')
    for v in ticks(0, end, 8):
        parts.append(f'<line x1="{px(v):.1f}" x2="{px(v):.1f}" y1="{TOP}" y2="{height - BOTTOM}" class="grid"/>'
                     f'<text x="{px(v):.1f}" y="{height - BOTTOM + 15}" class="tick" text-anchor="middle">{v:g}</text>')
    for i, row in enumerate(rows):
        y = TOP + 24 * i
        parts.append(f'<text x="{LEFT - 6}" y="{y + 16}" class="tick" text-anchor="end">{escape(row)}</text>')
        for b in bars:
            if b.row == row:
                wide = max(px(b.end) - px(b.start), 1)
                parts.append(f'<rect x="{px(b.start):.1f}" y="{y + 4}" width="{wide:.1f}" height="16" rx="2" '
                             f'fill="{b.colour}"><title>{escape(b.label)}</title></rect>')
    return '\n'.join([*parts, *_legend(legend, width), '</svg>'])


def _frame(width: int, height: int, title: str, x_label: str, y_label: str) -> list[str]:
    middle = (TOP + height - BOTTOM) / 2
    return [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" class="chart" role="img">',
            f'<text x="{LEFT}" y="15" class="title">{escape(title)}</text>',
            f'<text x="{(LEFT + width - RIGHT) / 2}" y="{height - 5}" class="axis" text-anchor="middle">'
            f'{escape(x_label)}</text>',
            f'<text x="13" y="{middle}" class="axis" text-anchor="middle" transform="rotate(-90 13 {middle})">'
            f'{escape(y_label)}</text>']


def _legend(entries: Sequence[tuple[str, str]], width: int) -> list[str]:
    parts, x = [], float(width - RIGHT)
    for name, colour in reversed(entries):
        x -= 6.4 * len(name)
        parts.append(f'<text x="{x:.0f}" y="15" class="tick">{escape(name)}</text>'
                     f'<rect x="{x - 14:.0f}" y="6" width="10" height="10" rx="2" fill="{colour}"/>')
        x -= 26
    return parts


def _curve(s: Series, px: Callable[[float], float], py: Callable[[float], float]) -> list[str]:
    def points(pairs: Iterable[tuple[float, float]]) -> str:
        return ' '.join(f'{px(a):.1f},{py(b):.1f}' for a, b in pairs)

    order = np.argsort(s.x, kind='stable')
    x, y, parts = s.x[order], s.y[order], []
    if s.band:
        bins = [b for b in np.array_split(np.arange(len(x)), max(1, min(160, len(x) // 4))) if len(b)]
        low, mid, high = np.array([np.percentile(y[b], [5, 50, 95]) for b in bins]).T
        x, y = np.array([x[b].mean() for b in bins]), mid
        outline = [*zip(x, high, strict=True), *reversed(list(zip(x, low, strict=True)))]
        parts.append(f'<polygon points="{points(outline)}" fill="{s.colour}" opacity="0.18"/>')
    pairs = list(zip(x, y, strict=True))
    parts.append(f'<polyline points="{points(pairs)}" fill="none" stroke="{s.colour}" stroke-width="1.6"/>')
    if s.dots:
        parts += [f'<circle cx="{px(a):.1f}" cy="{py(b):.1f}" r="3.2" fill="{s.colour}"/>' for a, b in pairs]
    return parts
