"""A sweep as a figure: one panel per metric, its mean against the swept value, with 95 % intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from deepforcing.runs import atomic_path
from experiments.figures.colours import GREY, LIGHT
from experiments.tables.published import PaperRow
from experiments.tables.table import Column, Table

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

matplotlib.rcParams["text.parse_math"] = False  # a dollar sign in a label or prompt is one

REFERENCE_DASHES = ("--", ":", "-.")


def draw_sweep(panels: Sequence[tuple[Table, Column]], title: str, caption: str, out: Path) -> None:
    """Rows with a place in the sweep are points; rows without one (a policy without the swept key) are level lines.

    title: of the swept value. caption: what was run, above the panels.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.2), layout="constrained", squeeze=False)
    for axis, (table, column) in zip(axes[0], panels, strict=True):
        draw_panel(axis, table, column)
    if axes[0, 0].get_legend_handles_labels()[0]:  # the lines are the same in all panels
        axes[0, 0].legend(fontsize=7, frameon=False)
    figure.supxlabel(title, fontsize=9)
    figure.suptitle(caption, fontsize=9, x=0.01, ha="left")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as partial:
        figure.savefig(partial, dpi=130, format="png")
    plt.close(figure)


def draw_panel(axis: Axes, table: Table, column: Column) -> None:
    found = [(row, table.cell(row.name, column)) for row in table.rows if isinstance(row, PaperRow)]
    found = [(row, estimate) for row, estimate in found if math.isfinite(estimate.value)]
    points = sorted((row.at, e.value, e.low, e.high) for row, e in found if row.at is not None)
    x, y = [p[0] for p in points], [p[1] for p in points]
    axis.plot(x, y, "o-", color=LIGHT[1], lw=1.3, ms=4)
    low, high = ([p[i] if math.isfinite(p[i]) else p[1] for p in points] for i in (2, 3))
    axis.vlines(x, low, high, color=LIGHT[1], lw=1.1, alpha=0.7)
    level = [(row, estimate) for row, estimate in found if row.at is None]
    for (row, estimate), dashes in zip(level, REFERENCE_DASHES, strict=False):
        axis.axhline(estimate.value, color=GREY[0], lw=1, ls=dashes, label=row.label)
    axis.set_xticks(x)
    axis.set_title(column.title + (", last" if column.number == "last" else ""), fontsize=10, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
