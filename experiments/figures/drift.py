"""Drift over time: a panel per metric, in it a line and a band of the 95 % interval over prompts per run."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.figures.style import BAND, FAINT, PAGE, PANEL, SOFT, THIN, Ink, inks_of, sweeps, wrapped
from experiments.results.runs import Run
from experiments.results.sources import read_sources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MOST_PANELS = 60
MOST_COLUMNS = 4  # of a legend
SAMPLE, LETTER, NAMES = (
    0.55,
    0.054,
    0.135,
)  # inches of a legend: a line's sample with its margins, a letter, a row of names
# What a band around a mean can be: the mean's 95 % interval, or where four fifths of the prompts are.
BANDS = {"interval": ("low", "high"), "spread": ("p10", "p90")}


@dataclass(frozen=True)
class Curve:
    """One run's curve: window middles in seconds, mean and bands per window; NaN where nothing was measured."""

    run: int  # index of the run among those that are drawn together
    label: str
    ink: Ink
    t: Sequence[float]
    mean: Sequence[float]
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]]  # of BANDS: low and high


@dataclass(frozen=True)
class Panel:
    """One metric. seconds: length of the time axis. train_seconds: where the dotted line is, if at all."""

    title: str
    curves: Sequence[Curve]
    seconds: float
    train_seconds: float | None = None
    unit: str = ""


def panel(axes: Axes, data: Panel, bands: Collection[str] = ("interval",)) -> None:
    """Lines and bands; a missing window breaks a line, it is not bridged. bands: of BANDS. Of several, of which a reader sees
    one at a time, wide ones run out of the axes, so that curves stay curves."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, data.seconds)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 1.5, 2, 3, 5, 10]))  # of minutes and of tens
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(y=0.06)
    for curve in data.curves:
        colour = curve.ink.light
        for band in bands:
            low, high = curve.bands[band]
            if any(map(math.isfinite, low)):
                axes.fill_between(curve.t, low, high, color=colour, alpha=BAND, lw=0).set_gid(band)
        (line,) = axes.plot(curve.t, curve.mean, color=colour, ls=curve.ink.line, label=curve.label)
        line.set_gid("line")
        alone = lonely(curve.mean)
        if alone:
            axes.plot([curve.t[i] for i in alone], [curve.mean[i] for i in alone], ".", color=colour)
    if len(bands) > 1 and (limits := near(data.curves)):
        below, above = axes.get_ylim()
        axes.set_ylim(max(below, limits[0]), min(above, limits[1]))
    if data.train_seconds and data.train_seconds < data.seconds:
        axes.axvline(data.train_seconds, color=FAINT, lw=THIN, ls=":", label="trained length").set_gid("trained")


def near(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Values at most as far from the curves as these go up and down; None for level ones."""
    values = [value for curve in curves for value in curve.mean if math.isfinite(value)]
    reach = max(values) - min(values) if values else 0.0
    return (min(values) - reach, max(values) + reach) if reach > 0 else None


def lonely(values: Sequence[float]) -> list[int]:
    """Where a value has no neighbour: a line through one point is not seen."""
    there = [False, *(math.isfinite(value) for value in values), False]
    return [i - 1 for i in range(1, len(there) - 1) if there[i] and not there[i - 1] and not there[i + 1]]


def panels(
    runs: Sequence[Run], windows: pd.DataFrame, metrics: Sequence[str], seconds: float | None = None
) -> list[Panel]:
    """One panel per metric, out of eval.stats.means.curves. seconds: of the time axis; None: as far as there are windows."""
    from experiments.tables.table import Column

    ink = inks_of(runs)
    lengths = {run.train_seconds for run in runs if run.train_seconds}
    train = lengths.pop() if len(lengths) == 1 else None
    if seconds is None:
        seconds = float(windows["t_end"].max())
    of = {key: rows.sort_values("t_start") for key, rows in windows.groupby(["run", "metric"])}
    names = short_labels([run.label for run in runs])
    found = []
    for metric in metrics:
        curves = []
        for i, run in enumerate(runs):
            rows = of.get((run.name, metric))
            if rows is not None and rows["mean"].notna().any():
                t = ((rows["t_start"] + rows["t_end"]) / 2).tolist()
                bands = {band: (rows[low].tolist(), rows[high].tolist()) for band, (low, high) in BANDS.items()}
                curves.append(Curve(i, names[i], ink[i], t, rows["mean"].tolist(), bands))
        found.append(Panel(Column(metric).words, curves, seconds, train, Column(metric).unit))
    return found


def short_labels(labels: Sequence[str]) -> list[str]:
    """ "deep_sink sink_frames=3" beside its like is "sink_frames=3": there is little room at the end of a line. Of other words
    none is left out: "Deep Sink" is not what "Deep Forcing" is beside it."""
    parts = [re.fullmatch(r"(.*?) (\S+=\S+(?: \S+=\S+)*)(| \(.*\))", label) for label in labels]
    heads = [part[1] if part else label for part, label in zip(parts, labels, strict=True)]
    return [
        part[2] + part[3] if part and heads.count(part[1]) > 1 else label
        for part, label in zip(parts, labels, strict=True)
    ]


def read_panels(runs: Sequence[Run], metrics: str | Sequence[str] | None, window_seconds: float | None) -> list[Panel]:
    """metrics: names, or None for all that were scored over windows. Raises ValueError if one has no value, or a run has
    windows of another length only."""
    from eval.stats.means import curves
    from experiments.figures.measured import known
    from experiments.results.scores import read_scores

    scores = read_scores(runs, window_seconds)
    if scores.other:
        raise ValueError(scores.other[0])
    table = scores.table[scores.table["protocol"] == "windows"]
    there = sorted(set(table.loc[table["value"].notna(), "metric"]))
    wanted = there if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    for metric in wanted or ["all"]:
        if metric not in there:
            raise ValueError(f"metrics={metric} has no scores over windows; {known(there, scores.table)}")
    return panels(runs, curves(table[table["metric"].isin(wanted)].drop(columns="protocol")), wanted)


def in_order(paths: Sequence[Path]) -> list[Run]:
    """The runs as they are given, but that those of a sweep are in the order of the swept number."""
    runs = read_sources(paths)
    found = [*runs]
    for group in sweeps([run.label for run in runs]):
        for place, i in zip(sorted(group), sorted(group, key=lambda i: group[i]), strict=True):
            found[place] = runs[i]
    return found


def legend(canvas: Canvas, panels: Iterable[Axes]) -> None:
    """One for all panels, below them, in as many columns as the names leave room for; the canvas grows by its height."""
    found: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if not found:
        return
    width, height = canvas.get_size_inches()
    columns = max(1, min(MOST_COLUMNS, len(found), int(width / (SAMPLE + LETTER * max(map(len, found))))))
    canvas.set_size_inches(width, height + NAMES * math.ceil(len(found) / columns))
    canvas.legend([*found.values()], [*found], loc="outside lower center", ncols=columns)


@dataclass(frozen=True)
class Drift:
    """metrics: a panel each; None: all. window_seconds: of the curves; None: the length that the runs were scored with. band:
    around the lines, "interval" of the mean, "spread" of the prompts (their 10th to 90th percentile), or null for none.

    Raises ValueError for another band.
    """

    metrics: str | tuple[str, ...] | None = None
    window_seconds: float | None = None
    band: str | None = "interval"

    def __post_init__(self) -> None:
        if self.band is not None and self.band not in BANDS:
            raise ValueError(f"figure.band={self.band!r} must be {', '.join(BANDS)} or null")

    def read(self, runs: Sequence[Path]) -> list[Panel]:
        found = read_panels(in_order(runs), self.metrics, self.window_seconds)
        if len(found) > MOST_PANELS:
            raise ValueError(f"{len(found)} panels are too many, at most {MOST_PANELS}: choose figure.metrics=[a,b]")
        return found

    def draw(self, canvas: Canvas, data: Sequence[Panel]) -> None:
        columns = min(3, len(data))
        rows = math.ceil(len(data) / columns)
        canvas.set_size_inches(max(PAGE * columns / 3, 1.45 * PANEL[0]), PANEL[1] * rows + 0.15)
        grid = canvas.subplots(rows, columns, squeeze=False)
        for axes, each in itertools.zip_longest(grid.flat, data):
            if each is None:
                axes.set_axis_off()
                continue
            panel(axes, each, [self.band] if self.band else [])
            axes.set_title(wrapped(each.title))
            axes.set_ylabel(each.unit)
        for axes in grid.flat[max(0, len(data) - columns) : len(data)]:
            axes.set_xlabel("seconds", color=SOFT)
        legend(canvas, grid.flat[: len(data)])
