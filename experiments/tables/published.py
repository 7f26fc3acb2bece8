"""Ours beside published numbers: a pure function of the tidy table and of what an experiment's yaml says.

A column is one number per video, of a metric under a protocol; means and intervals are those of `eval.stats`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from eval.measure.metric import Value
from eval.metrics import VALUES as MEASURED
from eval.stats.drift import of_videos
from eval.stats.means import paired_difference, summarise
from experiments.tables.estimate import MISSING, Estimate, adjusted, comparisons, decimals_for, interval, number
from experiments.tables.summary import arrow, metric_infos
from experiments.tables.text import markdown_text
from experiments.tables.vbench import PERCENT

FPS = Value("fps", "frames a second", None, "pixel frames a second, once the window is full")
VALUES = {FPS.name: FPS, **{value.name: value for value in MEASURED}}
NUMBERS = {"mean": "", "first": "", "last": "", "drift": " drift", "abs_drift": " absolute drift", "speed": ""}


@dataclass(frozen=True)
class Column:
    """One number per video: the mean over it, its first or last seconds, or their difference (`number`, of NUMBERS).

    protocol: of eval.protocol; "speed" for FPS. Raises ValueError for an unknown metric or number.
    """

    metric: str
    number: str
    protocol: str

    def __post_init__(self) -> None:
        if self.metric not in VALUES:
            raise ValueError(f"metric {self.metric} is unknown; there are {', '.join(VALUES)}")
        if self.number not in NUMBERS or (self.number == "speed") != (self.metric == FPS.name):
            raise ValueError(f"{self.metric}: {self.number} is not one of {', '.join(NUMBERS)}; speed is of fps alone")

    @property
    def scale(self) -> float:
        return 100.0 if self.metric in PERCENT else 1.0

    @property
    def title(self) -> str:
        if self.metric == FPS.name:
            return "FPS"
        (info,) = metric_infos([self.metric], [VALUES[self.metric]])
        mark = "↓" if self.number == "abs_drift" else "" if self.number == "drift" else arrow(info)
        return f"{info.title}{NUMBERS[self.number]} {mark}".strip()


@dataclass(frozen=True)
class Row:
    """One line of an experiment. overrides: of experiments.rollout. at: its place in a sweep. paper: {metric: number}."""

    name: str
    label: str
    overrides: tuple[str, ...] = ()
    at: float | None = None
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows by columns, scaled. cells, differences: by (row's name, column); differences: row - baseline, by sample."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    baseline: str
    cells: Mapping[tuple[str, Column], Estimate]
    differences: Mapping[tuple[str, Column], Estimate]

    def paper(self, row: Row, column: Column) -> float:
        return row.paper.get(column.metric, math.nan)

    def paper_difference(self, row: Row, column: Column) -> float:
        base = next((r for r in self.rows if r.name == self.baseline), None)
        return math.nan if base is None else self.paper(row, column) - self.paper(base, column)

    @property
    def has_paper(self) -> bool:
        """Whether the paper has any of the columns."""
        return any(column.metric in row.paper for row in self.rows for column in self.columns)

    @property
    def comparisons(self) -> int:
        """How many differences were tested, for which Holm's adjustment is."""
        return comparisons(self.differences.values())

    def measured(self, column: Column) -> bool:
        return any(math.isfinite(self.cells[row.name, column].value) for row in self.rows)


def per_video(table: pd.DataFrame, column: Column, seconds: float) -> pd.DataFrame:
    """A tidy table with one value per video of this column's metric and protocol. seconds: of the first and the last."""
    rows = table[(table["metric"] == column.metric) & (table["protocol"] == column.protocol)]
    return of_videos(rows, "mean" if column.number == "speed" else column.number, seconds)


def compare(
    table: pd.DataFrame,
    rows: Sequence[Row],
    runs: Mapping[str, str],
    columns: Sequence[Column],
    baseline: str,
    seconds: float,
) -> Table:
    """runs: {row's name: the `run` of the table} of those that were made."""
    cells: dict[tuple[str, Column], Estimate] = {}
    differences: dict[tuple[str, Column], Estimate] = {}
    for column in columns:
        videos = per_video(table, column, seconds)
        means = {str(found["run"]): found for _, found in summarise(videos, "value").iterrows()}
        for row in rows:
            found, base = means.get(runs.get(row.name, "")), runs.get(baseline, "")
            cells[row.name, column] = differences[row.name, column] = MISSING
            if found is None:
                continue
            one = Estimate(float(found["mean"]), float(found["low"]), float(found["high"]), int(found["n"]))
            cells[row.name, column] = one.times(column.scale)
            if base in means and row.name != baseline:
                paired = paired_difference(videos, runs[row.name], base, column.metric)
                p = math.nan if column.metric == FPS.name else paired.p  # which is not a comparison of models
                one = Estimate(paired.mean, paired.low, paired.high, paired.n, p)
                differences[row.name, column] = one.times(column.scale)
    return Table(tuple(rows), tuple(columns), baseline, cells, adjusted(differences))


def beside(table: Table) -> str:
    """Two lines per row, ours and the paper's; one where the paper has none of the columns."""
    both = table.has_paper
    lines = header(["row", *([""] if both else []), "prompts", *(column.title for column in table.columns)])
    for row in table.rows:
        ours = [table.cells[row.name, column] for column in table.columns]
        texts = [with_interval(e, decimals(table, c)) for c, e in zip(table.columns, ours, strict=True)]
        lines.append(line([row.label, *(["ours"] if both else []), prompts(ours), *texts]))
        if both and row.paper:
            lines.append(line(["", "paper", "", *(number(table.paper(row, column), 2) for column in table.columns)]))
    return "\n".join(lines)


def beside_differences(table: Table) -> str:
    """Row minus baseline, ours and the paper's, of the rows and columns that were measured; empty if there are none."""
    columns = [c for c in table.columns if any(table.differences[row.name, c].n for row in table.rows)]
    columns = [column for column in columns if column.metric != FPS.name]  # of other devices, and of how busy they were
    others = [row for row in table.rows if any(table.differences[row.name, column].n for column in columns)]
    if not others:
        return ""
    both = table.has_paper
    lines = header(["minus the baseline", *([""] if both else []), *(column.title for column in columns)])
    for row in others:
        ours = [with_interval(table.differences[row.name, c], decimals(table, c), sign=True) for c in columns]
        lines.append(line([row.label, *(["ours"] if both else []), *ours]))
        if both and row.paper:
            paper = [number(table.paper_difference(row, column), 2, sign=True) for column in columns]
            lines.append(line(["", "paper", *paper]))
    return "\n".join(lines)


def signs(table: Table) -> tuple[int, int, int]:
    """Of the differences that the paper has, FPS aside: (where ours has an interval without zero, the same sign there, all)."""
    clear = same = every = 0
    for row in table.rows:
        for column in table.columns:
            paper, ours = table.paper_difference(row, column), table.differences[row.name, column]
            if row.name == table.baseline or not math.isfinite(paper) or column.metric == FPS.name:
                continue
            every += 1
            if ours.excludes_zero and paper:
                clear += 1
                same += (ours.value > 0) == (paper > 0)
    return clear, same, every


def decimals(table: Table, column: Column) -> int:
    if column.scale != 1 or column.metric == FPS.name:
        return 2
    values = [table.cells[row.name, column].value for row in table.rows]
    return decimals_for(values, [table.differences[row.name, column].value for row in table.rows])


def with_interval(estimate: Estimate, places: int, sign: bool = False) -> str:
    value = number(estimate.value, places, sign)
    bold = f"**{value}**" if sign and estimate.excludes_zero else value
    star = estimate.star if sign else ""
    return f"{bold} {interval(estimate, places, sign)}{star}".strip()


def prompts(estimates: Sequence[Estimate]) -> str:
    counts = sorted({estimate.n for estimate in estimates if estimate.n})
    return "–".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "–"


def header(cells: Sequence[str]) -> list[str]:
    return [line(cells), f"|{'---|' * len(cells)}"]


def line(cells: Sequence[str]) -> str:
    bold = [cell.replace("**", "\0") for cell in cells]
    return f"| {' | '.join(markdown_text(cell).replace(chr(0), '**') for cell in bold)} |"


def flat(tables: Sequence[Table], why: Mapping[str, str]) -> pd.DataFrame:
    """One line per row and column of all tables, for CSV; NaN where there is no number. why: {metric: it is absent}."""
    lines = []
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                cell, difference = table.cells[row.name, column], table.differences[row.name, column]
                values: dict[str, object] = {"row": row.name, "label": row.label, "at": row.at, "metric": column.metric}
                values |= {"number": column.number, "protocol": column.protocol, "scale": column.scale}
                values |= {"ours": cell.value, "low": cell.low, "high": cell.high, "prompts": cell.n}
                values |= {"baseline": table.baseline, "difference": difference.value}
                values |= {"difference_low": difference.low, "difference_high": difference.high}
                values |= {"difference_p": difference.p, "difference_p_holm": difference.holm}
                values |= {"comparisons": table.comparisons}
                values |= {"paper": table.paper(row, column), "paper_difference": table.paper_difference(row, column)}
                lines.append({**values, "absent": why.get(column.metric, "")})
    return pd.DataFrame(lines)
