"""A sweep: one panel per metric, its mean against the swept value, with 95 % intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.figures.measured import measured, told
from experiments.figures.style import FAINT, LINE, PANEL, THIN, Ink, inks, inks_of, wrapped
from experiments.results.configs import differing, flatten
from experiments.results.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MOST_PANELS = 12
LEGEND = 0.2  # inches of a line of it
NEAR = 0.08  # of the axis' length: what two numbers below it need


@dataclass(frozen=True)
class Point:
    """A mean over prompts and its interval, at a value of the swept key; at=None: of a run without it, a level line. line: the
    name of the sweep that it is of, whose points are joined."""

    label: str
    ink: Ink
    at: float | None
    value: float
    low: float
    high: float
    line: str = ""


@dataclass(frozen=True)
class SweepPanel:
    title: str
    points: Sequence[Point]
    unit: str = ""


@dataclass(frozen=True)
class Swept:
    """title: of the swept value. caption: what was run, above the panels."""

    title: str
    caption: str
    panels: Sequence[SweepPanel]


@dataclass(frozen=True)
class Sweep:
    """metrics: a panel each; None: all that were scored under the protocol, at most 12. number: of every video, as in
    experiments.table; ends: seconds that first and last mean. key: the swept one, as the configs of the report page call it;
    None: the only key whose values are different numbers. window_seconds: of protocol=windows.

    A line joins runs that are one sweep (`lines`); others are points with their names."""

    metrics: str | tuple[str, ...] | None = None
    number: str = "mean"
    key: str | None = None
    protocol: str = "windows"
    ends: float = 5.0
    window_seconds: float | None = None

    def read(self, runs: Sequence[Path]) -> Swept:
        from eval.stats.drift import OF_THE_END

        found, columns, cells = measured(runs, self.metrics, self.number, self.protocol, self.ends, self.window_seconds)
        key = self.key or swept_key(found)
        places = {run.name: place(flatten(run.config).get(key)) for run in found}
        if all(at is None for at in places.values()):
            raise ValueError(f"figure.key={key} is a number in none of the runs")
        if len(columns) > MOST_PANELS:
            raise ValueError(f"{len(columns)} panels are too many, at most {MOST_PANELS}: choose figure.metrics=[a,b]")
        line = lines(found, key)
        ink = dict(zip([run.name for run in found], inks_of(found), strict=True))
        if len(names := list(dict.fromkeys(line.values()))) > 1:  # a colour a line, not a place in the sweep
            policies = {line[run.name]: str(run.record.get("name") or run.label) for run in found if run.name in line}
            of = dict(zip(names, inks(names, [False] * len(names), [policies[name] for name in names]), strict=True))
            ink |= {run: of[name] for run, name in line.items()}
        panels = []
        for column in columns:
            points = []
            for run in found:
                cell = cells.cell(run.name, column)
                points.append(
                    Point(
                        run.label,
                        ink[run.name],
                        places[run.name],
                        cell.value,
                        cell.low,
                        cell.high,
                        line.get(run.name, ""),
                    )
                )
            title = column.title + (", last" if self.number == "last" else "")
            panels.append(SweepPanel(title, points, column.unit))
        caption = told(found)
        if self.number in ("first", *OF_THE_END):
            caption += f"; first and last: {self.ends:g} s"
        return Swept(key.rsplit(".", 1)[-1].replace("_", " "), caption, panels)

    def draw(self, canvas: Canvas, data: Swept) -> None:
        columns = min(3, len(data.panels))
        rows = math.ceil(len(data.panels) / columns)
        across = 2 if columns == 3 else 1
        every = [point for each in data.panels for point in each.points]
        several = len({point.line for point in every if point.at is not None}) > 1
        levels = len(
            {point.label if point.at is None else point.line for point in every if several or point.at is None}
        )
        legend = LEGEND * math.ceil(levels / across)
        canvas.set_size_inches(PANEL[0] * max(columns, 1.45), PANEL[1] * rows + 0.45 + legend)
        heights = [legend or LEGEND, *[PANEL[1]] * rows][not levels :]
        places = canvas.add_gridspec(len(heights), columns, height_ratios=heights)
        first = len(heights) - rows
        drawn = [canvas.add_subplot(places[first + n // columns, n % columns]) for n in range(len(data.panels))]
        for axes, each in zip(drawn, data.panels, strict=True):
            panel(axes, each, several)
        if levels:  # in a line of its own: the names are the same in all panels
            above = canvas.add_subplot(places[0, :])
            above.set_axis_off()
            of = {label: line for axes in drawn for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
            above.legend(of.values(), of, loc="center left", ncols=across, borderpad=0, borderaxespad=0)
        canvas.supxlabel(data.title, fontsize="medium")
        canvas.suptitle(data.caption, x=0.01, ha="left")


def panel(axes: Axes, data: SweepPanel, several: bool = False) -> None:
    """Points in the order of the swept value, each in its own colour; level lines for what has no place in the sweep. several:
    sweeps, each in one colour and with its name."""
    from matplotlib.ticker import MaxNLocator

    there = [point for point in data.points if math.isfinite(point.value)]
    points = sorted(((p.at, p) for p in there if p.at is not None), key=lambda pair: pair[0])
    for name in dict.fromkeys(point.line for _, point in points):
        mine = [(at, point) for at, point in points if point.line == name]
        ink = mine[0][1].ink
        axes.plot([at for at, _ in mine], [p.value for _, p in mine], color=ink.light if several else FAINT, lw=THIN)
        for n, (at, point) in enumerate(mine):
            told = name if several and n == 0 else "_"  # matplotlib's for none
            axes.plot(
                [at], [point.value], point.ink.mark if several else "o", color=point.ink.light, ls="none", label=told
            )
            if math.isfinite(point.low) and math.isfinite(point.high):
                axes.vlines(at, point.low, point.high, color=point.ink.light, lw=LINE)
    for level in (point for point in there if point.at is None):
        axes.axhline(level.value, color=level.ink.light, ls=level.ink.line, lw=LINE, label=level.label)
    places = sorted({at for at, _ in points})
    if len(places) <= 8:
        axes.set_xticks(places, apart(places))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(y=0.08)
    axes.set_title(wrapped(data.title))
    axes.set_ylabel(data.unit)


def apart(places: Sequence[float]) -> list[str]:
    """What is written at ticks: nothing where it would touch the one before."""
    told, last = [], -math.inf
    for at in places:
        near = at - last < NEAR * (places[-1] - places[0])
        told.append("" if near else f"{at:g}")
        last = last if near else at
    return told


def place(value: Any) -> float | None:
    """A swept value on an axis; None: it has none."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if plain else None


def lines(runs: Sequence[Run], key: str) -> dict[str, str]:
    """{run: the name of its sweep} of the runs whose value of the key is a number.

    Runs are one sweep if they differ in numbers alone, and no two have one value of the key (a window may follow a sink);
    where two have, those are that differ in nothing else. A run by itself is a sweep of its label.
    """
    flat = {run.name: flatten(run.config) for run in runs}
    swept = [run for run in runs if place(flat[run.name].get(key)) is not None]

    def parted(some: Sequence[Run], numbers: bool) -> list[list[Run]]:
        """By everything else, or but for what is a number."""
        groups: dict[str, list[Run]] = {}
        for run in some:
            rest = {
                name: value
                for name, value in flat[run.name].items()
                if name not in (key, "prompts", "seeds") and (numbers or place(value) is None)
            }
            groups.setdefault(repr((run.record.get("name"), sorted(rest.items()))), []).append(run)
        return list(groups.values())

    groups: list[list[Run]] = []
    for group in parted(swept, numbers=False):
        alone = len({place(flat[run.name].get(key)) for run in group}) == len(group)
        groups += [group] if alone else parted(group, numbers=True)
    found: dict[str, str] = {}
    for group in groups:
        others = [run.label.split(" ") for run in group[1:]]
        shared = " ".join(word for word in group[0].label.split(" ") if all(word in other for other in others))
        name = shared or group[0].label
        while name in found.values():  # two sweeps of one policy, told apart by their first runs
            name = f"{name} ({group[0].name.rsplit('-', 1)[-1]})"
        found |= {run.name: name for run in group}
    return found


def swept_key(runs: Sequence[Run]) -> str:
    """The key whose values are at least two numbers. Raises ValueError if there is none or there are several."""
    configs = [run.config for run in runs if not run.is_real]
    flat = [flatten(config) for config in configs]
    keys = [
        key
        for key in differing(configs)
        if key not in ("prompts", "seeds") and len({place(one.get(key)) for one in flat} - {None}) > 1
    ]
    if len(keys) != 1:
        which = f"several do: {', '.join(keys)}; choose with figure.key=..." if keys else "none does"
        raise ValueError(f"the runs must differ in one key that is a number, and {which}")
    return keys[0]
