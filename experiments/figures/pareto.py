"""What can be had together: motion against drift, shaded by what passes read, with the front of what no other run beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.figures.drift import legend
from experiments.figures.measured import measured, told
from experiments.figures.style import COLUMN, FAINT, INK, LINE, NOTE, THIN
from experiments.tables.table import COST, Column

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Run:
    """One run. front: no other run is as good in all three and better in one."""

    label: str
    x: float
    y: float
    cost: float
    front: bool


@dataclass(frozen=True)
class Runs:
    x: str
    y: str
    cost: str
    caption: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Pareto:
    """x, y: metrics, of number, of every video, as in experiments.table; cost: shades the points and is the third of what is
    wanted. Each is better in the direction that it has; one that has none is better where it is more (as motion is)."""

    x: str = "colour_drift"
    y: str = "motion_magnitude"
    cost: str = "kv_frames"
    number: str = "last"
    protocol: str = "windows"
    ends: float = 5.0
    window_seconds: float | None = None

    def read(self, runs: Sequence[Path]) -> Runs:
        found, (x, y), table = measured(
            runs, (self.x, self.y), self.number, self.protocol, self.ends, self.window_seconds
        )
        cost = next((column for column in COST if column.metric == self.cost), None)
        if cost is None:
            raise ValueError(f"figure.cost={self.cost}: choose among {', '.join(column.metric for column in COST)}")
        places = []
        for run in found:
            at, up, spent = (table.cell(run.name, column).value for column in (x, y, cost))
            if not run.is_real and all(map(math.isfinite, (at, up, spent))):
                places.append((run.label, (at, up, spent)))
        if not places:
            raise ValueError(f"none of the runs has {self.x}, {self.y} and {self.cost}")
        signs = [1 if column.higher_is_better is not False else -1 for column in (x, y, cost)]
        best = front([[sign * value for sign, value in zip(signs, place, strict=True)] for _, place in places])
        caption = f"{told(found, len(places))}; ringed and numbered: the front of all three"
        return Runs(
            heading(x), heading(y), cost.heading, caption,
            tuple(Run(label, *place, on) for (label, place), on in zip(places, best, strict=True)),
        )  # fmt: skip

    def draw(self, canvas: Canvas, data: Runs) -> None:
        canvas.set_size_inches(COLUMN * 1.5, COLUMN * 1.1)
        axes = canvas.subplots()
        ordered = sorted(data.runs, key=lambda run: run.front)
        rings = [INK if run.front else FAINT for run in ordered]
        shown = axes.scatter(
            [run.x for run in ordered], [run.y for run in ordered], c=[run.cost for run in ordered], cmap="viridis",
            edgecolors=rings, linewidths=[LINE if run.front else THIN for run in ordered], s=26,
        )  # fmt: skip
        for n, run in enumerate(sorted((run for run in data.runs if run.front), key=lambda run: run.x), start=1):
            axes.annotate(f"{n}", (run.x, run.y), (4, 3), textcoords="offset points", fontsize=NOTE, weight="bold")
            axes.plot([], [], " ", label=f"{n}  {run.label}")  # names find no room beside points
        canvas.colorbar(shown, label=data.cost)
        axes.set_xlabel(data.x)
        axes.set_ylabel(data.y)
        axes.margins(0.1)
        legend(canvas, [axes])
        canvas.suptitle(data.caption, x=0.01, ha="left")


def heading(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.title}{', last' if column.number == 'last' else ''}{unit} {column.arrow}".strip()


def front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which of the points, more being better in everything, no other point beats: is as good in all and better in one."""

    def beats(a: Sequence[float], b: Sequence[float]) -> bool:
        return all(p >= q for p, q in zip(a, b, strict=True)) and any(p > q for p, q in zip(a, b, strict=True))

    return [not any(beats(other, point) for other in points) for point in points]
