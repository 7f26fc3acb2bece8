"""Scores against what passes read: a panel per metric, a line per policy, 95 % intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments.figures.drift import legend
from experiments.figures.measured import measured, told
from experiments.figures.style import LINE, PANEL, Ink, inks, wrapped
from experiments.results.runs import Run
from experiments.tables.table import COST

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MOST_PANELS = 12
WIDEST = 0.02  # of the axis: how far apart policies that read the same are drawn
MARGIN = 0.06  # of the axis, on either side


@dataclass(frozen=True)
class Line:
    """One policy: (what a pass reads, value, low, high) at every budget, in the order of what it reads."""

    policy: str
    ink: Ink
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class AtBudgets:
    """panels: (title, unit, its lines). read: title of the horizontal axis. caption: what was run."""

    panels: tuple[tuple[str, str, tuple[Line, ...]], ...]
    read: str
    caption: str


@dataclass(frozen=True)
class Budget:
    """metrics: a panel each; None: all that were scored under the protocol. number: of every video, as in experiments.table;
    ends: seconds that first and last mean. cost: the horizontal axis. Runs of one policy (of one name, whatever their label)
    are one line, through what each reads, as measured: mean over chunks."""

    metrics: str | tuple[str, ...] | None = None
    number: str = "last"
    cost: Literal["kv_frames", "kv_tokens", "kv_stored", "chunk_time"] = "kv_frames"
    protocol: str = "windows"
    ends: float = 5.0
    window_seconds: float | None = None

    def read(self, runs: Sequence[Path]) -> AtBudgets:
        found, columns, table = measured(runs, self.metrics, self.number, self.protocol, self.ends, self.window_seconds)
        if len(columns) > MOST_PANELS:
            raise ValueError(f"{len(columns)} panels are too many, at most {MOST_PANELS}: choose figure.metrics=[a,b]")
        cost = next((column for column in COST if column.metric == self.cost), None)
        if cost is None:
            raise ValueError(f"figure.cost={self.cost}: choose among {', '.join(column.metric for column in COST)}")
        if not table.measured(cost):
            raise ValueError(f"figure.cost={self.cost} is known of none of the runs")
        policies = list(dict.fromkeys(policy_of(run) for run in found if not run.is_real))
        ink = dict(zip(policies, inks(policies, [False] * len(policies)), strict=True))
        panels = []
        for column in columns:
            lines = []
            for policy in policies:
                mine = [run.name for run in found if policy_of(run) == policy]
                cells = [(table.cell(name, cost).value, table.cell(name, column)) for name in mine]
                known = sorted(
                    (x, e.value, e.low, e.high) for x, e in cells if math.isfinite(x) and math.isfinite(e.value)
                )
                lines.append(Line(policy, ink[policy], tuple(known)))
            title = f"{column.title}{', last' if column.number == 'last' else ''} {column.arrow}".strip()
            panels.append((title, column.unit, tuple(lines)))
        caption = f"{told(found)}; lines: 95 % intervals over prompts"
        return AtBudgets(tuple(panels), cost.heading.removesuffix(f" {cost.arrow}"), caption)

    def draw(self, canvas: Canvas, data: AtBudgets) -> None:
        from matplotlib.ticker import MaxNLocator

        columns = min(3, len(data.panels))
        rows = math.ceil(len(data.panels) / columns)
        drawn = {line.policy: line for *_, of in data.panels for line in of if line.points}
        canvas.set_size_inches(PANEL[0] * max(columns, 1.45), PANEL[1] * rows + 0.5)
        grid = canvas.subplots(rows, columns, squeeze=False)
        reads = [point[0] for *_, of in data.panels for line in of for point in line.points] or [0.0]
        wide = max(reads) - min(reads) or 1.0
        aside = {policy: WIDEST * wide * (i / max(len(drawn) - 1, 1) - 0.5) for i, policy in enumerate(drawn)}
        for axes, (title, unit, of) in zip(grid.flat, data.panels, strict=False):
            for line in (line for line in of if line.points):
                x = [point[0] + aside[line.policy] for point in line.points]  # so that intervals can be told apart
                look: Any = {"ls": line.ink.line, "color": line.ink.light, "marker": line.ink.mark}
                axes.plot(x, [point[1] for point in line.points], label=line.policy, **look)
                for at, (_, _, low, high) in zip(x, line.points, strict=True):
                    if math.isfinite(low) and math.isfinite(high):
                        axes.vlines(at, low, high, color=line.ink.light, lw=LINE, alpha=0.6)
            axes.set_xlim(min(reads) - MARGIN * wide, max(reads) + MARGIN * wide)  # panels compare: one axis for all
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axes.margins(y=0.08)
            axes.set_title(wrapped(title))
            axes.set_ylabel(unit)
        for axes in [*grid.flat][len(data.panels) :]:
            axes.set_axis_off()
        for axes in grid.flat[max(0, len(data.panels) - columns) : len(data.panels)]:
            axes.set_xlabel(data.read)
        canvas.suptitle(data.caption, x=0.01, ha="left")
        legend(canvas, grid.flat)


def policy_of(run: Run) -> str:
    return str(run.record.get("name") or run.label)
