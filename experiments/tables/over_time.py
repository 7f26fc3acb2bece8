"""The numbers of a report over windows: first and last seconds, drift, slope and fluctuation, each a table of its own.

Rows are runs by their directories' names, columns the metrics. Pure functions of tidy scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import pandas as pd

from eval.measure.windows import overlap
from eval.stats.drift import of_videos
from eval.stats.means import paired_differences
from eval.stats.samples import with_prompt
from experiments.results.runs import Run
from experiments.tables.estimate import Estimate, decimals_for
from experiments.tables.layout import verdict
from experiments.tables.table import COST, KNOWN, Column, Row, Table, build

PROTOCOL = "windows"
SHOWN = ("first", "last", "drift", "slope", "fluctuation")
MOST_CHIEF = 8  # columns that a table has room for on a laptop
MOTION = ("flow_magnitude", "motion_magnitude")


@dataclass(frozen=True)
class OverTime:
    """metrics: those with a value, in the order in which they are shown. tables: one of SHOWN each, with all runs and metrics;
    that of the last seconds and that of the drift have differences from the baseline.

    best: {metric: the run that is better in its last seconds than every other (real video aside), each paired interval
    excluding zero}. shares: {(run, metric): of the windows of the last seconds, those that have a value}; below 1 the numbers
    are of what could be measured, as of frames that still have a sprite.
    """

    metrics: tuple[str, ...]
    tables: Mapping[str, Table]
    best: Mapping[str, str]
    shares: Mapping[tuple[str, str], float]

    def cell(self, number: str, run: str, metric: str) -> Estimate:
        return self.tables[number].cell(run, Column(metric, number, PROTOCOL))

    def difference(self, number: str, run: str, metric: str) -> Estimate:
        return self.tables[number].difference(run, Column(metric, number, PROTOCOL))

    def scored(self, run: str, metric: str) -> bool:
        """Whether there are scores, with or without a value in the last seconds."""
        return (run, Column(metric, "last", PROTOCOL)) in self.tables["last"].cells

    def share(self, run: str, metric: str) -> float:
        return self.shares.get((run, metric), math.nan)

    def decimals(self, metric: str) -> int:
        """That suit all numbers of a metric."""
        runs = [row.name for row in self.tables["last"].rows]
        levels = [self.cell(number, run, metric).value for number in ("first", "last") for run in runs]
        return decimals_for(levels, [self.cell("drift", run, metric).value for run in runs])


def over_time(table: pd.DataFrame, runs: Sequence[Run], baseline: str, ends: float) -> OverTime:
    """Of the windows of several runs. baseline: the run that differences are taken from. ends: seconds at either end."""
    table = with_prompt(table)  # once for all that follows
    measured = set(table.loc[table["value"].notna(), "metric"])
    metrics = tuple(name for name in in_order(table["metric"]) if name in measured)
    rows = [Row(run.name, run.label) for run in runs]
    tables = {}
    for number in SHOWN:
        columns = [Column(metric, number, PROTOCOL) for metric in metrics]
        of = baseline if number in ("last", "drift") else None
        tables[number] = build(table.assign(protocol=PROTOCOL), rows, columns, of, ends)
    best = {}
    for metric in metrics:
        run = best_run(table[table["metric"] == metric], tables["last"], [r.name for r in runs if not r.is_real], ends)
        if run is not None:
            best[metric] = run
    return OverTime(metrics, tables, best, value_shares(table, ends))


def in_order(metrics: pd.Series) -> list[str]:
    """The metrics that are there, known ones in the order in which they are shown, then strangers by name."""
    there = set(metrics.astype(str))
    return [name for name in KNOWN if name in there] + sorted(there - KNOWN.keys())


def chief_metrics(present: Sequence[str], chief: Sequence[str]) -> list[str]:
    """The metrics of the short tables: the first of `chief` that were scored, or of all if none of them was."""
    return ([name for name in chief if name in present] or list(present))[:MOST_CHIEF]


def best_run(table: pd.DataFrame, last: Table, runs: Sequence[str], ends: float) -> str | None:
    """The run that is better than all others beyond doubt, if there is one. table: of one metric."""
    (metric,) = set(table["metric"])
    column = Column(str(metric), "last", PROTOCOL)
    known = {run: value for run in runs if math.isfinite(value := last.cell(run, column).value)}
    if column.higher_is_better is None or len(known) < 2:
        return None
    first = (max if column.higher_is_better else min)(known, key=lambda run: known[run])
    end = float(table.groupby("run")["t_end"].max().min())
    others = paired_differences(of_videos(table[table["run"].isin(known)], "last", ends, end), first)
    found = [Estimate(line["mean"], line["low"], line["high"], int(line["n"])) for line in others.to_dict("records")]
    wanted = "worse"  # than the best, each of them
    return first if len(found) == len(known) - 1 and all(verdict(e, column) == wanted for e in found) else None


def value_shares(table: pd.DataFrame, ends: float) -> dict[tuple[str, str], float]:
    """(run, metric) -> share of the windows in the last `ends` seconds of each video that have a value.

    A window that lies there in part counts by that part.
    """
    end = table.groupby(["run", "sample"])["t_end"].transform("max").to_numpy(dtype=float)
    starts, stops = (table[column].to_numpy(dtype=float) - end for column in ("t_start", "t_end"))
    seconds = overlap(starts, stops, -ends, 0.0)
    weighed = table[["run", "metric"]].assign(all=seconds, known=seconds * table["value"].notna())
    sums = weighed.groupby(["run", "metric"])[["all", "known"]].sum()
    shares = sums["known"] / sums["all"].where(sums["all"] > 0)
    return {(str(run), str(metric)): float(share) for (run, metric), share in shares.items()}


def of_both_ends(windows: pd.DataFrame, wholes: pd.DataFrame, runs: Sequence[Run], ends: float) -> Table:
    """Numbers that take a video's end and its beginning together: the motion that is left, and what metrics say of whole
    videos. Columns without any value are left out. windows, wholes: see `windows_and_wholes`."""
    columns = [Column(name, "decay", PROTOCOL) for name in MOTION if name in set(windows["metric"])]
    decays = build(windows.assign(protocol=PROTOCOL), [Row(run.name, run.label) for run in runs], columns, None, ends)
    more = [Column(name, "mean", PROTOCOL) for name in in_order(wholes["metric"])]
    means = build(wholes.assign(protocol=PROTOCOL), decays.rows, more, None, ends)
    cells = {**decays.cells, **means.cells}
    both = Table(decays.rows, (*columns, *more), cells)
    return Table(decays.rows, tuple(column for column in both.columns if both.measured(column)), cells)


def of_samples(table: pd.DataFrame, wanted: Set[tuple[str, str]]) -> pd.DataFrame:
    """The rows of these (run, sample)."""
    keep = [pair in wanted for pair in zip(table["run"], table["sample"], strict=True)]
    return table[pd.Series(keep, index=table.index, dtype=bool)]


def windows_and_wholes(table: pd.DataFrame, window_seconds: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table's windows, and its rows of whole videos (as of clip_drift_first_last), which no curve goes through."""
    windows = table["t_end"] - table["t_start"] < 1.5 * window_seconds  # lengths are rounded to frames
    return table[windows], table[~windows]


def scored_samples(table: pd.DataFrame) -> dict[str, int]:
    """How many samples of each run have scores."""
    return {str(run): int(count) for run, count in table.groupby("run")["sample"].nunique().items()}


def flat(numbers: OverTime, cost: Table, window_seconds: float) -> pd.DataFrame:
    """All numbers of the report, one line per run and metric, for csv: estimates with interval and n, their prompts.

    last_share: share of the windows of the last seconds that have a value. slope: per minute. versus: run - baseline in the
    last seconds, versus_drift: in the drift. p_holm: adjusted for all of a kind. cost: of the runs, repeated in their lines.
    """
    lines = []
    for metric in numbers.metrics:
        value = Column(metric).value
        for row in numbers.tables["last"].rows:
            run = row.name
            if not numbers.scored(run, metric):
                continue
            line: dict[str, object] = {"run": run, "label": row.label, "metric": metric, "unit": value.unit}
            line |= {"higher_is_better": value.higher_is_better, "protocol": PROTOCOL, "window_seconds": window_seconds}
            named = {name: numbers.cell(name, run, metric) for name in ("first", "last", "drift")}
            named |= {"versus": numbers.difference("last", run, metric)}
            named |= {"versus_drift": numbers.difference("drift", run, metric)}
            named |= {name: numbers.cell(name, run, metric) for name in ("slope", "fluctuation")}
            for name, estimate in named.items():
                there = estimate.n > 0 or not name.startswith("versus")
                line |= {name: estimate.value if there else None, f"{name}_low": estimate.low if there else None}
                line |= {f"{name}_high": estimate.high if there else None, f"{name}_n": estimate.n if there else None}
                if name not in ("first", "last", "fluctuation"):
                    line |= {
                        f"{name}_p": estimate.p if there else None,
                        f"{name}_p_holm": estimate.holm if there else None,
                    }
            spent = {column.metric: cost.cell(run, column).value for column in COST}
            lines.append(line | {"last_share": numbers.share(run, metric)} | spent)
    return pd.DataFrame(lines)
