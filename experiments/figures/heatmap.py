"""A score over two swept keys: a panel per metric, a field per pair of values, with its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.figures.measured import measured, told
from experiments.figures.pareto import heading
from experiments.figures.style import INK, NOTE, PANEL, PAPER, wrapped
from experiments.results.configs import flatten
from experiments.tables.estimate import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Field:
    """values[y][x], NaN where no run is. decimals: of the numbers. better: whether more is."""

    title: str
    values: tuple[tuple[float, ...], ...]
    decimals: int
    better: bool | None


@dataclass(frozen=True)
class Fields:
    x: tuple[str, tuple[float, ...]]
    y: tuple[str, tuple[float, ...]]
    fields: tuple[Field, ...]
    caption: str


@dataclass(frozen=True)
class Heatmap:
    """x, y: keys of the runs' configs whose values are numbers, as cache.retention.sink_frames. metrics: a panel each; None:
    all that were scored. number: of every video, as in experiments.table; ends: seconds that first and last mean."""

    x: str = "cache.retention.sink_frames"
    y: str = "cache.retention.budget_frames"
    metrics: str | tuple[str, ...] | None = None
    number: str = "last"
    protocol: str = "windows"
    ends: float = 5.0
    window_seconds: float | None = None

    def read(self, runs: Sequence[Path]) -> Fields:
        found, columns, table = measured(runs, self.metrics, self.number, self.protocol, self.ends, self.window_seconds)
        at: dict[tuple[float, float], str] = {}
        for run in found:
            flat = flatten(run.config)
            place = (flat.get(self.x), flat.get(self.y))
            if run.is_real or not all(is_number(value) for value in place):
                continue
            x, y = (float(value) for value in place)  # type: ignore[arg-type]
            if (x, y) in at:
                raise ValueError(
                    f"two runs have {self.x}={x:g} and {self.y}={y:g}: choose runs that differ in nothing else"
                )
            at[x, y] = run.name
        if not at:
            raise ValueError(f"no run has numbers as {self.x} and {self.y}: say figure.x=KEY figure.y=KEY")
        xs, ys = (tuple(sorted({pair[i] for pair in at})) for i in (0, 1))
        fields = []
        for column in columns:
            values = tuple(
                tuple(table.cell(at[x, y], column).value if (x, y) in at else math.nan for x in xs) for y in ys
            )
            title = heading(column)
            fields.append(Field(title, values, table.decimals(column), column.higher_is_better))
        names = (key.rpartition(".")[2].replace("_", " ") for key in (self.x, self.y))
        caption = f"{told(found, len(at))}; means, light is better"
        return Fields((next(names), xs), (next(names), ys), tuple(fields), caption)

    def draw(self, canvas: Canvas, data: Fields) -> None:
        import numpy as np

        columns = min(3, len(data.fields))
        rows = math.ceil(len(data.fields) / columns)
        canvas.set_size_inches(PANEL[0] * max(columns, 1.45), PANEL[1] * rows + 0.45)
        grid = canvas.subplots(rows, columns, squeeze=False)
        for axes, field in zip(grid.flat, data.fields, strict=False):
            values = np.array(field.values)
            colours = "viridis" if field.better is not False else "viridis_r"
            shown = axes.imshow(values, origin="lower", aspect="auto", cmap=colours)
            middle = (np.nanmin(values) + np.nanmax(values)) / 2 if np.isfinite(values).any() else 0.0
            for row, line in enumerate(field.values):
                for at, value in enumerate(line):
                    if math.isfinite(value):
                        bright = (value > middle) == (field.better is not False)
                        axes.text(
                            at, row, number(value, field.decimals), ha="center", va="center", fontsize=NOTE,
                            color=INK if bright else PAPER,
                        )  # fmt: skip
            axes.grid(False)
            axes.set_xticks(range(len(data.x[1])), [f"{x:g}" for x in data.x[1]])
            axes.set_yticks(range(len(data.y[1])), [f"{y:g}" for y in data.y[1]])
            axes.set_title(wrapped(field.title))
            shown.set_rasterized(True)
        for axes in [*grid.flat][len(data.fields) :]:
            axes.set_axis_off()
        canvas.supxlabel(data.x[0], fontsize="medium")
        canvas.supylabel(data.y[0], fontsize="medium")
        canvas.suptitle(data.caption, x=0.01, ha="left")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
