"""A report's tables over time as grids: for its page, its Markdown and the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from experiments.figures.interval import interval_mark
from experiments.results.runs import Run
from experiments.tables.estimate import Estimate, interval, number
from experiments.tables.layout import Cell, Grid, Head, Piece, value_and_interval, verdict, words
from experiments.tables.over_time import PROTOCOL, OverTime
from experiments.tables.render import page
from experiments.tables.table import Column, Table
from experiments.tables.words import plural


def in_colours(grid: Grid, runs: Sequence[Run]) -> Grid:
    """With the heads that are labels of runs known as such."""
    numbers = {run.label: i for i, run in enumerate(runs)}
    heads = tuple(replace(head, run=numbers.get(head.text)) for head in grid.heads)
    rows = tuple((replace(head, run=numbers.get(head.text)), cells) for head, cells in grid.rows)
    return Grid(grid.corner, heads, rows)


def drawn(grid: Grid, runs: Sequence[Run], kind: str = "") -> Markup:
    return page(in_colours(grid, runs), kind)


def first_and_last(numbers: OverTime, runs: Sequence[Run], metrics: Sequence[str]) -> Grid:
    """Runs by metrics: "first → last", below the drift with its interval, and how many windows have a value."""

    def cell(run: str, metric: str) -> Cell:
        if not numbers.scored(run, metric):
            return Cell()
        drift, decimals = numbers.cell("drift", run, metric), numbers.decimals(metric)
        around = interval(drift, decimals, sign=True)
        below = [Piece(number(drift.value, decimals, sign=True), small=True)]
        below += [Piece(around, small=True, star=bool(drift.star))] if around else []
        below += [Piece(share, small=True)] if (share := percent_of_windows(numbers.share(run, metric))) else []
        return Cell((*_first_to_last(numbers, run, metric, " → "), *below))

    heads = tuple(
        Head(Column(metric).words, f"{Column(metric).unit} {Column(metric).arrow}".strip(), metric=metric)
        for metric in metrics
    )
    rows = tuple((Head(run.label), tuple(cell(run.name, metric) for metric in metrics)) for run in runs)
    return Grid("run", heads, rows)


def in_short(numbers: OverTime, runs: Sequence[Run], metrics: Sequence[str]) -> Grid:
    """Runs by metrics, for the terminal: "first→last" and below it the drift."""

    def cell(run: str, metric: str) -> Cell:
        if not numbers.scored(run, metric):
            return Cell()
        drift = number(numbers.cell("drift", run, metric).value, numbers.decimals(metric), sign=True)
        return Cell((*_first_to_last(numbers, run, metric, "→"), Piece(drift, small=True)))

    rows = [(Head(run.label), tuple(cell(run.name, metric) for metric in metrics)) for run in runs]
    return Grid("run", tuple(Head(_with_arrow(metric)) for metric in metrics), tuple(rows))


def _first_to_last(numbers: OverTime, run: str, metric: str, to: str) -> tuple[Piece, Piece]:
    first, last = (
        number(numbers.cell(which, run, metric).value, numbers.decimals(metric)) for which in ("first", "last")
    )
    best = numbers.best.get(metric) == run
    return Piece(f"{first}{to}"), Piece(last, bold=best, kind="best" if best else "")


def _with_arrow(metric: str) -> str:
    return f"{Column(metric).words} {Column(metric).arrow}".strip()


def line_by_line(numbers: OverTime, runs: Sequence[Run], ends: float) -> Grid:
    """The same and the differences for a README: one line per metric and run."""
    lines = []
    for metric in numbers.metrics:
        decimals = numbers.decimals(metric)
        for run in runs:
            if not numbers.scored(run.name, metric):
                continue
            first, last = _first_to_last(numbers, run.name, metric, "")
            drift, versus = numbers.cell("drift", run.name, metric), numbers.difference("last", run.name, metric)
            told = [Cell((first,)), Cell((last,)), *_test(drift, decimals)]
            told += _test(versus, decimals) if versus.n else words("", "")
            share = percent_of_windows(numbers.share(run.name, metric))
            lines.append((Head(_with_arrow(metric)), (*words(run.label), *told, *words(share))))
    names = ["run", f"first {ends:g} s", f"last {ends:g} s", "drift", "95 % interval"]
    names += ["last minus baseline", "95 % interval", "measured in"]
    return Grid("metric", tuple(map(Head, names)), tuple(lines))


def _test(estimate: Estimate, decimals: int) -> list[Cell]:
    around = Piece(interval(estimate, decimals, sign=True), bold=estimate.excludes_zero, star=bool(estimate.star))
    return [Cell((Piece(number(estimate.value, decimals, sign=True)),)), Cell((around,))]


def percent_of_windows(share: float) -> str:
    """ "87 % of windows", or nothing for all of them; rounded down, so that it never says 100 % of less."""
    return f"{math.floor(100 * share)} % of windows" if share < 1 else ""


def paired(numbers: OverTime, which: str, runs: Sequence[Run], metrics: Sequence[str], prompts: int) -> Grid:
    """Metrics by runs: differences from the baseline with a mark each, all of a line at one scale.

    which: of the last seconds or of the drift. A place that fewer than `prompts` prompts are behind says how many.
    """
    lines = []
    for metric in metrics:
        found = [numbers.difference(which, run.name, metric) for run in runs]
        known = [abs(v) for e in found for v in (e.value, e.low, e.high) if math.isfinite(v)]
        cells = [
            _paired_cell(e, Column(metric, "last", PROTOCOL), numbers.decimals(metric), known, prompts) for e in found
        ]
        lines.append((Head(_with_arrow(metric), metric=metric), tuple(cells)))
    return Grid("metric", tuple(Head(run.label) for run in runs), tuple(lines))


def _paired_cell(e: Estimate, column: Column, decimals: int, known: Sequence[float], prompts: int) -> Cell:
    if not math.isfinite(e.value):
        return Cell()
    pieces = [Piece(number(e.value, decimals, sign=True))]
    pieces.append(Piece(interval(e, decimals, sign=True), small=True, star=bool(e.star)))
    pieces += [Piece(f"{e.n} of {plural(prompts, 'prompt')}", small=True)] if e.n < prompts else []
    return Cell(tuple(pieces), verdict(e, column), interval_mark(e.value, e.low, e.high, max(known)))


def both_ends(table: Table, ends: float) -> Grid:
    """Numbers that take a video's end and its beginning together, by runs."""
    lines = []
    for column in table.columns:
        decay = column.number == "decay"
        title = f"{Column(column.metric).words}, last / first {ends:g} s" if decay else _with_arrow(column.metric)
        unit = "motion decay: 1 is as much as at first" if decay else column.value.description
        cells = [value_and_interval(table.cell(row.name, column), table.decimals(column)) for row in table.rows]
        lines.append((Head(title, unit, metric=column.metric), tuple(cells)))
    return Grid("", tuple(Head(row.label) for row in table.rows), tuple(lines))


def slopes(numbers: OverTime, runs: Sequence[Run]) -> Grid:
    """Metrics by runs: the slope, and below it how much the metric fluctuates."""

    def cell(run: str, metric: str) -> Cell:
        slope, decimals = numbers.cell("slope", run, metric), numbers.decimals(metric)
        if not math.isfinite(slope.value):
            return Cell()
        fluctuation = number(numbers.cell("fluctuation", run, metric).value, decimals)
        told = value_and_interval(slope, decimals, test=True)
        return Cell((*told.pieces, Piece(f"fluctuation {fluctuation}", small=True)))

    lines = [
        (Head(_with_arrow(m), Column(m).value.unit, metric=m), tuple(cell(run.name, m) for run in runs))
        for m in numbers.metrics
    ]
    return Grid("", tuple(Head(run.label) for run in runs), tuple(lines))


def movement(numbers: OverTime, ends_table: Table, runs: Sequence[Run], ends: float) -> list[dict[str, object]]:
    """Two blocks of lines by runs: numbers of both ends together, and every metric's slope and fluctuation."""
    found: list[dict[str, object]] = []
    if ends_table.columns:
        table = drawn(both_ends(ends_table, ends), runs, "told")
        found.append({"title": "The end against the beginning", "table": table})
    if any(math.isfinite(numbers.cell("slope", run.name, m).value) for run in runs for m in numbers.metrics):
        found.append(
            {"title": "Slope per minute, and fluctuation", "table": drawn(slopes(numbers, runs), runs, "told")}
        )
    return found


def compared(numbers: OverTime, runs: Sequence[Run], metrics: Sequence[str]) -> list[Run]:
    """The runs that share scored videos with the baseline."""
    return [run for run in runs if any(numbers.difference("last", run.name, m).n for m in metrics)]
