"""What figures of many runs draw: means over prompts with their intervals, beside what the runs cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.results.cost import costs
from experiments.results.runs import Run, read_runs
from experiments.results.scores import read_scores
from experiments.tables.table import COST, Column, Row, Table, build


def measured(
    runs: Sequence[Path],
    metrics: str | tuple[str, ...] | None,
    number: str = "mean",
    protocol: str = "windows",
    ends: float = 5.0,
    window_seconds: float | None = None,
) -> tuple[list[Run], tuple[Column, ...], Table]:
    """The runs, the columns of the metrics (None: all that were scored), and a table that has these and the costs.

    number: of every video, as in experiments.table. Raises ValueError for metrics that nobody scored.
    """
    from experiments.tables.comparisons import choose_number

    found = read_runs(runs)
    scores = read_scores(found, window_seconds)
    if protocol == "windows" and scores.other:
        raise ValueError(scores.other[0])
    table = scores.table[scores.table["protocol"] == protocol]
    there = sorted(set(table.loc[table["value"].notna(), "metric"]))
    wanted = [metrics] if isinstance(metrics, str) else list(metrics or there)
    for metric in wanted or ["all"]:
        if metric not in there:
            known = f"there are {', '.join(there)}" if there else "run experiments.evaluate first"
            raise ValueError(f"metrics={metric} has no scores under protocol={protocol}; {known}")
    columns = tuple(Column(metric, choose_number(number), protocol) for metric in wanted)
    every = pd.concat([table, costs(found).table], ignore_index=True)
    return found, columns, build(every, [Row(run.name, run.label) for run in found], (*columns, *COST), None, ends)
