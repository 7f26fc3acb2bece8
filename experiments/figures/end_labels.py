"""Names at the ends of lines: a reader need not look from line to legend and back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.figures.style import NOTE, THIN
from experiments.results.marks import TINY, split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.figures.drift import Curve

LABEL_LETTERS = 17
FEWEST_LETTERS = 6  # of a name, beside what the run left out
MOST_LABELS = 8  # more find no room
GAP = 8.0  # points between two


def end_labels(axes: Axes, curves: Sequence[Curve]) -> None:
    """Each run's name at the end of its line, moved up or down as little as needed. The axes' limits and place are final."""
    axes.get_ylim()  # matplotlib makes limits when they are asked for
    canvas = axes.get_figure(root=True)
    inches = canvas.dpi_scale_trans  # type: ignore[union-attr]
    ends = [(c, max((i for i, v in enumerate(c.mean) if math.isfinite(v)), default=None)) for c in curves]
    shown = [(curve, (curve.t[i], curve.mean[i])) for curve, i in ends if i is not None]
    at = [inches.inverted().transform(axes.transData.transform(point)) for _, point in shown]
    (_, low), (right, high) = inches.inverted().transform(axes.bbox)
    places = spread([float(y) for _, y in at], GAP / 72, float(low), float(high))
    for (curve, _), (x, y), place in zip(shown, at, places, strict=True):
        look: Any = {"color": curve.ink.light, "transform": inches, "clip_on": False}
        axes.plot([x, right + 0.03, right + 0.1], [y, y, place], lw=THIN, alpha=0.5, scalex=False, scaley=False, **look)
        name = shortened(curve.label)
        axes.text(right + 0.12, place, name, va="center_baseline", weight="bold", size=NOTE, **look).set_gid("label")


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


def shortened(label: str) -> str:
    """A label cut to what fits at the end of a line; that the run was a lossy one stays."""
    name, words = split(label)
    mark = f" ({'tiny' if words == [TINY] else ', '.join(words)})" if words else ""
    if len(mark) > LABEL_LETTERS - FEWEST_LETTERS:
        mark = " (lossy)"
    room = LABEL_LETTERS - len(mark)
    return (name if len(name) <= room else f"{name[: room - 1]}…") + mark
