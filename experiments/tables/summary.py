"""The numbers of a report: first and last seconds, drift and paired differences per run and metric.

Pure functions of the tidy table (run, sample, metric, version, t_start, t_end, value); the statistics are those of
`eval.stats`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import pandas as pd

from eval.measure.metric import Value
from eval.measure.windows import overlap
from eval.stats.drift import fluctuation, slope
from eval.stats.means import Paired, first_last, paired_difference
from eval.stats.samples import sample_means
from experiments.tables.estimate import Estimate, adjusted, comparisons, decimals_for, interval, number
from experiments.tables.text import markdown_text


@dataclass(frozen=True)
class Cell:
    """One run and one metric. versus, versus_drift: last seconds and drift, run minus baseline, paired by sample.

    They are None for the baseline and where nothing is shared with it. best: better in the last seconds than every
    other run (real video aside), each paired interval excluding zero. share: of the windows of the last seconds, those
    that have a value; below 1 the numbers are of what could be measured, as of frames that still have a sprite. slope,
    fluctuation: of all windows, per minute and as a deviation (eval.stats.drift).
    """

    first: Estimate
    last: Estimate
    drift: Estimate
    versus: Estimate | None
    versus_drift: Estimate | None
    best: bool
    share: float
    slope: Estimate
    fluctuation: Estimate


@dataclass(frozen=True)
class MetricInfo:
    """How to speak of a metric's value; higher_is_better None: neither direction is better by itself."""

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    description: str


@dataclass(frozen=True)
class MetricRow:
    """All runs' cells for one metric, keyed by run directory name. `decimals` suits the size of all its numbers."""

    info: MetricInfo
    cells: Mapping[str, Cell]
    decimals: int


# Numbers of a cell that are tests against zero: all metrics and runs of a report are one family each.
FAMILIES = ("drift", "versus", "versus_drift", "slope")
MOST_CHIEF = 8  # columns that a table has room for on a laptop


def chief_metrics(present: Sequence[str], chief: Sequence[str]) -> list[str]:
    """The metrics of the short tables: the first of `chief` that were scored, or of all if none of them was."""
    return ([name for name in chief if name in present] or list(present))[:MOST_CHIEF]


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


def metric_infos(present: Sequence[str], values: Sequence[Value]) -> list[MetricInfo]:
    """One per metric in the table: those of `values` in their order, then unknown ones by name, without unit."""
    known = [value for value in values if value.name in present]
    strangers = sorted(set(present) - {value.name for value in known})
    found = [MetricInfo(v.name, _title(v.name, v.floor), v.unit, v.higher_is_better, v.description) for v in known]
    return found + [MetricInfo(name, _title(name), "", None, "") for name in strangers]


def _title(name: str, floor: str = "") -> str:
    return name.replace("_", " ") + (f" ({floor})" if floor else "")


def metric_rows(
    table: pd.DataFrame,
    infos: Sequence[MetricInfo],
    runs: Sequence[str],
    baseline: str,
    real: Sequence[str],
    ends: float,
) -> list[MetricRow]:
    """One row per metric with a cell per run that was scored, in the order of `runs`.

    baseline: the run that differences are taken from. real: runs that cannot be "best". ends: seconds at either end.
    """
    if not len(table):
        return []
    summary = first_last(table, ends).set_index(["run", "metric"])
    last, drift = paired_tables(table, ends)
    shares = value_shares(table, ends)
    slopes, fluctuations = (measure(table).set_index(["run", "metric"]) for measure in (slope, fluctuation))
    rows = []
    for info in infos:
        scored = [run for run in runs if (run, info.name) in summary.index]
        last_one, drift_one = (part[part["metric"] == info.name] for part in (last, drift))
        numbers = {run: summary.loc[(run, info.name)] for run in scored}
        best = _best(last_one, info, {run: numbers[run]["last"] for run in scored if run not in real})
        cells = {}
        for run in scored:
            other = baseline if run != baseline and baseline in scored else None
            cells[run] = Cell(
                first=_estimate(numbers[run], "first", "n_first"),
                last=_estimate(numbers[run], "last", "n_last"),
                drift=_estimate(numbers[run], "drift", "n"),
                versus=_versus(last_one, run, other, info.name),
                versus_drift=_versus(drift_one, run, other, info.name),
                best=run == best,
                share=shares.get((run, info.name), math.nan),
                slope=_estimate(slopes.loc[(run, info.name)], "", "n"),
                fluctuation=_estimate(fluctuations.loc[(run, info.name)], "", "n"),
            )
        shown = [v for cell in cells.values() for v in (cell.first.value, cell.last.value)]
        drifts = [cell.drift.value for cell in cells.values()]
        rows.append(MetricRow(info, cells, decimals_for(shown, drifts)))
    for name in FAMILIES:
        rows = _with_adjusted(rows, name)
    return rows


def _with_adjusted(rows: Sequence[MetricRow], name: str) -> list[MetricRow]:
    found = {(row.info.name, run): e for row in rows for run, cell in row.cells.items() if (e := getattr(cell, name))}
    new = adjusted(found)
    return [
        replace(
            row,
            cells={
                run: replace(cell, **{name: new.get((row.info.name, run), getattr(cell, name))})
                for run, cell in row.cells.items()
            },
        )
        for row in rows
    ]


def family(rows: Sequence[MetricRow], name: str) -> int:
    """How many comparisons Holm's adjustment of one of FAMILIES is for."""
    return comparisons(getattr(cell, name) for row in rows for cell in row.cells.values())


def paired_tables(table: pd.DataFrame, ends: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tidy tables of one number per sample: the last seconds' mean, and its difference from the first seconds' mean.

    Paired values must belong to the same time: where lengths differ, "last" is the end of the shortest run's videos.
    Both NaN where that is shorter than twice `ends`, as in `eval.stats.means.first_last`.
    """
    end = float(table.groupby("run")["t_end"].max().min())
    keys = ["run", "metric", "prompt_id", "sample"]
    first, last = sample_means(table, 0.0, ends), sample_means(table, end - ends, end)
    both = first.merge(last, on=keys, suffixes=("_first", "_last")).assign(version=0, t_start=0.0, t_end=1.0)
    if end < 2 * ends - 1e-9:
        both["value_last"] = math.nan
    return both.assign(value=both["value_last"]), both.assign(value=both["value_last"] - both["value_first"])


def value_shares(table: pd.DataFrame, ends: float) -> dict[tuple[str, str], float]:
    """(run, metric) -> share of the windows in the last `ends` seconds of each video that have a value.

    A window that lies there in part counts by that part.
    """
    end = table.groupby(["run", "sample"])["t_end"].transform("max").to_numpy(dtype=float)
    seconds = overlap(
        table["t_start"].to_numpy(dtype=float) - end, table["t_end"].to_numpy(dtype=float) - end, -ends, 0.0
    )
    weighed = table[["run", "metric"]].assign(all=seconds, known=seconds * table["value"].notna())
    sums = weighed.groupby(["run", "metric"])[["all", "known"]].sum()
    shares = sums["known"] / sums["all"].where(sums["all"] > 0)
    return {(str(run), str(metric)): float(share) for (run, metric), share in shares.items()}


def percent_of_windows(share: float) -> str:
    """ "87 % of windows", or nothing for all of them; rounded down, so that it never says 100 % of less."""
    return f"{math.floor(100 * share)} % of windows" if share < 1 else ""


def _estimate(numbers: pd.Series, name: str, count: str) -> Estimate:
    columns = (name, f"{name}_low", f"{name}_high") if name else ("mean", "low", "high")
    value, low, high = (float(numbers[column]) for column in columns)
    p = numbers.get("p" if not name else f"{name}_p", math.nan)
    return Estimate(value, low, high, int(numbers[count]), float(p))


def _versus(part: pd.DataFrame, run: str, other: str | None, metric: str) -> Estimate | None:
    if other is None:
        return None
    paired: Paired = paired_difference(part, run, other, metric)
    return Estimate(paired.mean, paired.low, paired.high, paired.n, paired.p) if paired.n else None


def _best(part: pd.DataFrame, info: MetricInfo, last: Mapping[str, float]) -> str | None:
    """The run that is better than all others beyond doubt, if there is one."""
    finite = {run: value for run, value in last.items() if math.isfinite(value)}
    if info.higher_is_better is None or len(finite) < 2:
        return None
    best = (max if info.higher_is_better else min)(finite, key=lambda run: finite[run])
    differences = [_versus(part, best, other, info.name) for other in finite if other != best]
    sign = 1 if info.higher_is_better else -1
    clear = all(d is not None and d.excludes_zero and d.value * sign > 0 for d in differences)
    return best if clear else None


def flat_table(rows: Sequence[MetricRow], labels: Mapping[str, str], window_seconds: float) -> pd.DataFrame:
    """All numbers of the report, one line per run and metric, for csv: estimates with interval and n, their prompts.

    window_seconds: of the protocol `windows`, which all of them follow. last_share: share of the windows of the last
    seconds that have a value. slope: per minute.
    """
    lines = []
    for row in rows:
        for run, cell in row.cells.items():
            line: dict[str, object] = {"run": run, "label": labels[run], "metric": row.info.name, "unit": row.info.unit}
            line |= {
                "higher_is_better": row.info.higher_is_better,
                "protocol": "windows",
                "window_seconds": window_seconds,
            }
            for name in ("first", "last", "drift", "versus", "versus_drift", "slope", "fluctuation"):
                estimate: Estimate | None = getattr(cell, name)
                line |= {name: estimate and estimate.value, f"{name}_low": estimate and estimate.low}
                line |= {f"{name}_high": estimate and estimate.high, f"{name}_n": estimate and estimate.n}
                if name in FAMILIES:
                    line |= {f"{name}_p": estimate and estimate.p, f"{name}_p_holm": estimate and estimate.holm}
            lines.append(line | {"last_share": cell.share})
    return pd.DataFrame(lines)


def markdown_table(
    rows: Sequence[MetricRow], runs: Sequence[str], labels: Mapping[str, str], ends: float, notes: Sequence[str]
) -> str:
    """The same for a README: one line per metric and run, and below a paragraph for each of `notes`."""
    lines = [
        f"| metric | run | first {ends:g} s | last {ends:g} s | drift | 95 % interval "
        "| last minus baseline | 95 % interval | measured in |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for run in runs:
            if (cell := row.cells.get(run)) is None:
                continue
            last = number(cell.last.value, row.decimals)
            texts = [
                markdown_text(f"{row.info.title} {arrow(row.info)}".strip()), markdown_text(labels[run]),
                number(cell.first.value, row.decimals),
                f"**{last}**" if cell.best else last, number(cell.drift.value, row.decimals, sign=True),
                _marked(cell.drift, row.decimals),
                number(cell.versus.value, row.decimals, sign=True) if cell.versus else "",
                _marked(cell.versus, row.decimals) if cell.versus else "",
                percent_of_windows(cell.share),
            ]  # fmt: skip
            lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n" + "".join(f"\n{markdown_text(note)}\n" for note in notes)


def _marked(estimate: Estimate, decimals: int) -> str:
    around = interval(estimate, decimals, sign=True)
    return (f"**{around}**" if estimate.excludes_zero else around) + ("\\*" if estimate.star else "")


def arrow(info: MetricInfo) -> str:
    return {None: "", True: "↑", False: "↓"}[info.higher_is_better]
