"""What figures of many runs draw: means over prompts with their intervals, beside what the runs cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.results.cost import costs
from experiments.results.runs import Run
from experiments.results.scores import read_scores
from experiments.results.sources import read_sources
from experiments.tables.table import COST, Column, Row, Table, build
from experiments.tables.words import plural


def measured(
    runs: Sequence[Path],
    metrics: str | tuple[str, ...] | None,
    number: str = "mean",
    protocol: str = "windows",
    ends: float = 5.0,
    window_seconds: float | None = None,
) -> tuple[list[Run], tuple[Column, ...], Table]:
    """The runs, the columns of the metrics (None: all that have this number), and a table that has these and the costs.

    number: of every video, as in experiments.table. Raises ValueError for metrics that nobody scored.
    """
    from experiments.tables.comparisons import choose_number

    found = read_sources(runs)
    scores = read_scores(found, window_seconds)
    if protocol == "windows" and scores.other:
        raise ValueError(scores.other[0])
    table = scores.table[scores.table["protocol"] == protocol]
    there = sorted(set(table.loc[table["value"].notna(), "metric"]))
    wanted = [metrics] if isinstance(metrics, str) else list(metrics or there)
    for metric in wanted or ["all"]:
        if metric not in there:
            raise ValueError(f"metrics={metric} has no scores under protocol={protocol}; {known(there, scores.table)}")
    columns = tuple(Column(metric, choose_number(number), protocol) for metric in wanted)
    every = pd.concat([table, costs(found).table], ignore_index=True)
    table = build(every, [Row(run.name, run.label) for run in found], (*columns, *COST), None, ends)
    columns = tuple(column for column in columns if metrics or table.measured(column))
    if not columns:
        raise ValueError(f"number={number} is known of none of the metrics under protocol={protocol}")
    return found, columns, table


def known(metrics: Sequence[str], scores: pd.DataFrame) -> str:
    """What was scored, for who asked for something else: the metrics, or where there are none the protocols that have some."""
    if metrics:
        return f"there are {', '.join(metrics)}"
    protocols = sorted(set(scores.loc[scores["value"].notna(), "protocol"]))
    return f"there are scores under {', '.join(protocols)}" if protocols else "run experiments.evaluate first"


def told(runs: Sequence[Run], count: int | None = None) -> str:
    """ "3 runs, 48 prompts each" for a caption: the fewest of a run, where records say them. count: of the runs drawn."""
    prompts = [len({s["prompt_id"] for s in run.samples}) for run in runs if run.samples]
    each = f", {plural(min(prompts), 'prompt')} each" if prompts else ""
    return plural(len(runs) if count is None else count, "run") + each
