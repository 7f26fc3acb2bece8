"""A drift curve of the page: the panel of `experiments.figure figure=drift`, as wide as the page has room."""

from __future__ import annotations

from experiments.figures.drift import BANDS, Panel, panel
from experiments.figures.end_labels import MOST_LABELS, end_labels
from experiments.figures.figure import styled
from experiments.figures.style import COLUMN, NOTE, SOFT
from experiments.figures.svg import inline

WIDTH, HEIGHT = COLUMN, 1.95  # inches; in a browser letters of 7 points are about 10 pixels high
LEFT, RIGHT, TOP, BOTTOM = 0.46, 1.02, 0.14, 0.26  # inches around the axes: those of panels in a column are in line
BARE = 0.14  # to the right of axes without names


def drift_svg(data: Panel, index: int) -> str:
    """SVG text; index: of the panel in its page. Its colours are the page's --run0, --run1, ..."""
    from matplotlib.figure import Figure as Canvas

    labelled = len(data.curves) <= MOST_LABELS
    with styled():
        canvas = Canvas(figsize=(WIDTH, HEIGHT))
        right = RIGHT if labelled else BARE
        box = (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + right) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT)
        axes = canvas.add_axes(box)
        panel(axes, data, BANDS)
        if data.train_seconds and data.train_seconds < data.seconds:
            at, above = (data.train_seconds, 1), axes.get_xaxis_transform()
            axes.text(*at, " trained length", style="italic", size=NOTE, color=SOFT, transform=above, va="bottom")
        if labelled:
            end_labels(axes, data.curves)
    colours = {curve.ink.light: f"var(--run{curve.run})" for curve in reversed(data.curves)}
    return inline(canvas, axes, data.title, f"c{index}", colours)
