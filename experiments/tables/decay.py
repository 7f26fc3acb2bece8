"""Numbers that take a video's end and its beginning together: motion decay, and what metrics say of whole videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from eval.measure.metric import Value
from eval.stats.drift import motion_decay
from eval.stats.means import overall
from experiments.tables.estimate import Estimate, decimals_for
from experiments.tables.summary import arrow, metric_infos

MOTION = ("flow_magnitude", "motion_magnitude")


@dataclass(frozen=True)
class EndsRow:
    """One number per run, keyed by run directory name; a run without it is not there."""

    title: str
    unit: str
    cells: Mapping[str, Estimate]
    decimals: int


def ends_rows(windows: pd.DataFrame, wholes: pd.DataFrame, values: Sequence[Value], ends: float) -> list[EndsRow]:
    """Motion decay of every magnitude that was scored, then the metrics of `wholes`; none without any value.

    windows, wholes: see summary.windows_and_wholes.
    """
    found = []
    for name in MOTION:
        if name in set(windows["metric"]):
            title = f"{name.replace('_', ' ')}, last / first {ends:g} s"
            found.append(_row(title, "motion decay: 1 is as much as at first", motion_decay(windows, name, ends)))
    for info in metric_infos(sorted(set(wholes["metric"])), values):
        rows = overall(wholes[wholes["metric"] == info.name])
        found.append(_row(f"{info.title} {arrow(info)}".strip(), info.description, rows))
    return [row for row in found if row.cells]


def _row(title: str, unit: str, summary: pd.DataFrame) -> EndsRow:
    known = summary[summary["mean"].notna()]
    cells = {
        str(row["run"]): Estimate(float(row["mean"]), float(row["low"]), float(row["high"]), int(row["n"]))
        for _, row in known.iterrows()
    }
    return EndsRow(title, unit, cells, decimals_for([cell.value for cell in cells.values()]))
