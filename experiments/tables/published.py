"""Ours beside published numbers: what an experiment's yaml says, as rows and columns of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from eval.stats.drift import NUMBERS
from experiments.tables.layout import ours_and_paper, ours_and_papers_differences
from experiments.tables.render import markdown
from experiments.tables.table import FPS, KNOWN, NOT_COMPARED, Column, Row, Table, build, records


@dataclass(frozen=True)
class PaperRow(Row):
    """One line of an experiment. overrides: of experiments.rollout. at: its place in a sweep. paper: {metric: number}."""

    overrides: tuple[str, ...] = ()
    at: float | None = None
    paper: Mapping[str, float] = field(default_factory=dict)


def column(metric: str, number: str, protocol: str) -> Column:
    """A column of an experiment. Raises ValueError for an unknown metric or number; speed is of FPS alone."""
    if metric not in KNOWN:
        raise ValueError(f"metric {metric} is unknown; there are {', '.join(KNOWN)}")
    if number not in (*NUMBERS, "speed") or (number == "speed") != (metric == FPS.name):
        raise ValueError(f"{metric}: {number} is not one of {', '.join((*NUMBERS, 'speed'))}; speed is of fps alone")
    return Column(metric, number, protocol)


def compare(
    scores: pd.DataFrame,
    rows: Sequence[PaperRow],
    runs: Mapping[str, str],
    columns: Sequence[Column],
    baseline: str,
    seconds: float,
) -> Table:
    """runs: {row's name: the `run` of the scores} of those that were made."""
    made = build(
        scores, rows, columns, baseline, seconds, {row.name: runs[row.name] for row in rows if row.name in runs}
    )
    paper = {(row.name, c): row.paper[c.metric] for row in rows for c in columns if c.metric in row.paper}
    return replace(made, paper=paper)


def beside(table: Table) -> str:
    """Markdown: two lines per row, ours and the paper's."""
    return markdown(ours_and_paper(table))


def beside_differences(table: Table) -> str:
    """Row minus baseline, likewise; empty if nothing was measured that could be compared."""
    grid = ours_and_papers_differences(table, NOT_COMPARED)
    return markdown(grid) if grid else ""


def signs(table: Table) -> tuple[int, int, int]:
    """Of the differences that the paper has, FPS aside: (where ours has an interval without zero, the same sign there, all)."""
    clear = same = every = 0
    for row in table.rows:
        for each in table.columns:
            paper, ours = table.paper_difference(row.name, each), table.difference(row.name, each)
            if row.name == table.baseline or not math.isfinite(paper) or each.metric in NOT_COMPARED:
                continue
            every += 1
            if ours.excludes_zero and paper:
                clear += 1
                same += (ours.value > 0) == (paper > 0)
    return clear, same, every


def flat(tables: Sequence[Table], why: Mapping[str, str]) -> pd.DataFrame:
    """One line per row and column of all tables, for CSV; NaN where there is no number. why: {metric: it is absent}."""
    lines = pd.DataFrame([line for table in tables for line in records(table)])
    if not len(lines):
        return lines
    at = {row.name: row.at for table in tables for row in table.rows if isinstance(row, PaperRow)}
    lines = lines.rename(columns={"value": "ours", "n": "prompts"})
    lines = lines.assign(at=[at.get(name) for name in lines["row"]], absent=[why.get(m, "") for m in lines["metric"]])
    names = [
        "row",
        "label",
        "at",
        "metric",
        "number",
        "protocol",
        "scale",
        "ours",
        "low",
        "high",
        "prompts",
        "baseline",
    ]
    names += ["difference", "difference_low", "difference_high", "difference_p", "difference_p_holm", "comparisons"]
    return lines[[*names, "paper", "paper_difference", "absent"]]
