"""Drift over time: one small panel per metric, a line and a confidence band per run, as SVG in the page's theme.

Hand-made SVG and no picture: a panel is a few kilobytes, its text can be read and searched, colours come from the
page's CSS variables --run0, --run1, ... so that it is right on light and on dark paper, and a cursor can move in it.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.results.runs import TINY_DECODER

WIDTH, HEIGHT = 380, 216
LEFT, RIGHT, TOP, BOTTOM = 46, 104, 16, 26
LABEL_GAP = 12.5  # pixels between two labels at the end of lines
LABEL_LETTERS = 17
MOST_LABELS = 8

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Curve:
    """One run's curve: window middles in seconds, mean and interval per window; NaN where nothing was measured."""

    run: int  # index of the run: its colour is var(--run<index>)
    label: str
    dash: str
    t: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers inside [low, high], roughly `about` of them."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low] if math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / about))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - about))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    text = f"{value:.6g}"
    return text.replace("-", "−")


def y_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Room for every line and band, and a little around them."""
    values = [v for c in curves for v in (*c.mean, *c.low, *c.high) if math.isfinite(v)]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    flat = high - low <= 1e-9 * abs(high)  # such a line belongs in the middle of something
    pad = (0.1 * abs(high) or 1.0) if flat else 0.04 * (high - low)
    return low - pad, high + pad


def time_ticks(seconds: float) -> list[float]:
    """Ticks of the time axis in seconds, at clock-like steps."""
    steps = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
    step = next((s for s in steps if seconds / s <= 5), 7200)
    return [k * step for k in range(int(seconds / step + 1e-6) + 1)]


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions as little as needed so that neighbours are `gap` apart within [low, high]. Order is kept."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = list(positions)
    for _ in range(60):
        moved = False
        for a, b in itertools.pairwise(order):
            lack = gap - (placed[b] - placed[a])
            if lack > 1e-3:
                placed[a] -= lack / 2
                placed[b] += lack / 2
                moved = True
        for i in order:
            placed[i] = min(max(placed[i], low), high)
        if not moved:
            break
    return placed


def drift_panel(curves: Sequence[Curve], seconds: float, train_seconds: float | None, title: str) -> str:
    """SVG text of one panel. seconds: length of the time axis. train_seconds: where the dashed line is, if at all."""
    right, bottom = WIDTH - (RIGHT if len(curves) <= MOST_LABELS else 14), HEIGHT - BOTTOM
    y_low, y_high = y_range(curves)

    def x(t: float) -> float:
        return LEFT + (right - LEFT) * t / seconds

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * (value - y_low) / (y_high - y_low)

    out = [
        f'<svg class="panel" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)} over time" '
        f'data-x0="{LEFT}" data-x1="{right}" data-seconds="{seconds:.4f}">'
    ]
    for tick in nice_ticks(y_low, y_high):
        out.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        out.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick_text(tick)}</text>'
        )
    for tick in time_ticks(seconds):
        unit = " s" if tick == 0 else ""
        out.append(f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}{unit}</text>')
    out.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    if train_seconds is not None and 0 < train_seconds < seconds:
        at = x(train_seconds)
        out.append(f'<line class="trained" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 6}" y2="{bottom}"/>')
        out.append(f'<text class="trained-text" x="{at + 3:.1f}" y="{TOP - 4}">trained length</text>')
    for curve in curves:
        for points in _pieces(curve):
            up = [f"{x(curve.t[i]):.1f},{y(curve.high[i]):.1f}" for i in points if math.isfinite(curve.high[i])]
            down = [
                f"{x(curve.t[i]):.1f},{y(curve.low[i]):.1f}" for i in reversed(points) if math.isfinite(curve.low[i])
            ]
            if len(up) > 1:
                out.append(f'<polygon class="band" fill="var(--run{curve.run})" points="{" ".join(up + down)}"/>')
    for curve in curves:
        for points in _pieces(curve):
            path = " ".join(f"{x(curve.t[i]):.1f},{y(curve.mean[i]):.1f}" for i in points)
            style = f'stroke="var(--run{curve.run})" stroke-dasharray="{curve.dash}"'
            if len(points) == 1:
                at = points[0]
                dot = f'cx="{x(curve.t[at]):.1f}" cy="{y(curve.mean[at]):.1f}" r="2.2"'
                out.append(f'<circle fill="var(--run{curve.run})" {dot}/>')
            else:
                out.append(f'<polyline class="line" {style} points="{path}"/>')
    if len(curves) <= MOST_LABELS:
        out += _end_labels(curves, x, y, right, bottom)
    out.append(f'<line class="cursor" x1="{LEFT}" x2="{LEFT}" y1="{TOP - 4}" y2="{bottom}"/></svg>')
    return "".join(out)


def _pieces(curve: Curve) -> list[list[int]]:
    """Index runs without gaps: a missing window breaks the line, it is not bridged."""
    pieces: list[list[int]] = [[]]
    for i, value in enumerate(curve.mean):
        if math.isfinite(value):
            pieces[-1].append(i)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _end_labels(curves: Sequence[Curve], x: Scale, y: Scale, right: float, bottom: float) -> list[str]:
    ends = [(c, max((i for i, v in enumerate(c.mean) if math.isfinite(v)), default=None)) for c in curves]
    shown = [(c, c.t[i], y(c.mean[i])) for c, i in ends if i is not None]
    places = spread([at for _, _, at in shown], LABEL_GAP, TOP + 2, bottom - 2)
    out = []
    for (curve, t, at), place in zip(shown, places, strict=True):
        colour = f"var(--run{curve.run})"
        out.append(
            f'<polyline class="leader" stroke="{colour}" points="{x(t) + 1:.1f},{at:.1f} {right + 4:.1f},{at:.1f} '
            f'{right + 9:.1f},{place:.1f}"/>'
        )
        at_end = f'x="{right + 11:.1f}" y="{place + 3.6:.1f}"'
        out.append(f'<text class="label" fill="{colour}" {at_end}>{html.escape(shortened(curve.label))}</text>')
    return out


def shortened(label: str) -> str:
    """A label cut to what fits at the end of a line; that a tiny decoder was used stays."""
    name, mark, _ = label.partition(TINY_DECODER)
    mark = mark and " (tiny)"
    room = LABEL_LETTERS - len(mark)
    return (name if len(name) <= room else f"{name[: room - 1]}…") + mark
