"""A report's numbers in the terminal: as many runs side by side as there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from experiments.results.runs import Run
from experiments.tables.estimate import number
from experiments.tables.summary import MetricRow, arrow
from experiments.tables.vbench import Comparison


def terminal_tables(rows: Sequence[MetricRow], runs: Sequence[Run], width: int) -> Iterator[Table]:
    """Metrics by runs: "first → last" and below it the drift; as many runs side by side as there is room for."""
    name = max(len(row.info.title) for row in rows) + 4  # and an arrow
    column = max(13, *(len(run.label) for run in runs)) + 1
    at_once = max(1, (width - name) // column)
    for start in range(0, len(runs), at_once):
        part = runs[start : start + at_once]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("metric", no_wrap=True)
        for run in part:
            table.add_column(Text(run.label), justify="right", no_wrap=True)
        for row in rows:
            table.add_row(f"{row.info.title} {arrow(row.info)}", *(_terminal_cell(row, run) for run in part))
        yield table


def _terminal_cell(row: MetricRow, run: Run) -> Text:
    cell = row.cells.get(run.name)
    if cell is None:
        return Text("–")
    text = Text(f"{number(cell.first.value, row.decimals)}→")
    text.append(number(cell.last.value, row.decimals), style="bold" if cell.best else "")
    return text.append(f"\n{number(cell.drift.value, row.decimals, sign=True)}", style="dim")


def comparison_tables(comparisons: Sequence[Comparison], width: int) -> Iterator[Table]:
    """VBench's dimensions x 100 by runs, for each protocol; as many runs side by side as there is room for."""
    for comparison in comparisons:
        name = max(len(column.title) for column in comparison.columns) + 1
        parts: list[list[str]] = [[]]
        for run in comparison.runs:
            if parts[-1] and name + sum(len(comparison.labels[r]) + 1 for r in [*parts[-1], run]) > width:
                parts.append([])
            parts[-1].append(run)
        for part in parts:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
            table.add_column(comparison.protocol, no_wrap=True)
            for run in part:
                table.add_column(Text(comparison.labels[run]), justify="right", no_wrap=True)
            for column in comparison.columns:
                cells = (comparison.cells[run, column.info.name].value for run in part)
                table.add_row(column.title, *(number(value, column.decimals) for value in cells))
            yield table
