"""A paired difference as a mark: a dot with its interval on an axis through zero, small enough for a table cell."""

from __future__ import annotations

import math

WIDTH, HEIGHT = 92, 14


def interval_mark(value: float, low: float, high: float, scale: float) -> str:
    """SVG text; `scale` is the difference drawn at the edge (shared by a table row, so that its marks compare)."""
    middle = WIDTH / 2

    def x(v: float) -> float:
        return middle + (middle - 3) * min(max(v / scale, -1.0), 1.0) if scale > 0 else middle

    parts = [
        f'<svg class="mark" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">',
        f'<line class="zero" x1="{middle}" x2="{middle}" y1="0" y2="{HEIGHT}"/>',
    ]
    if math.isfinite(low) and math.isfinite(high):
        parts.append(f'<line class="bar" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{HEIGHT / 2}" y2="{HEIGHT / 2}"/>')
    if math.isfinite(value):
        parts.append(f'<circle class="dot" cx="{x(value):.1f}" cy="{HEIGHT / 2}" r="2.6"/>')
    return "".join([*parts, "</svg>"])
