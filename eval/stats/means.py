"""Means over prompts with their intervals, and paired differences of two runs.

Prompts are the independent unit: samples of one prompt (its seeds) are averaged first, and every interval here is a
95 % interval over prompts (eval.stats.intervals). n says how many prompts are behind each number; with fewer than two
the interval is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eval.measure.metric import Value
from eval.stats.intervals import Bounds, mean_interval, of_difference, p_values, student_t
from eval.stats.samples import bounds_of, ends, one_protocol, sample_means, series, with_bounds, with_prompt


@dataclass(frozen=True)
class Paired:
    """Mean of a - b over the prompts that both runs have, its 95 % interval, the paired t value and the p-value.

    t = mean / (standard deviation / sqrt(n)), the deviation with n - 1; NaN with fewer than two prompts or if all
    differences are 0, infinite if they are equal but not 0. p: of the test that belongs to the interval, which is
    Student's t but for shares.
    """

    mean: float
    low: float
    high: float
    t: float
    n: int
    p: float


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over prompts in every window: run, metric (and protocol), t_start, t_end, mean, low, high, p10, p90, n.

    p10, p90: percentiles of the prompts themselves, between which four fifths of them lie.
    """
    parts = []
    keys = series(table)
    spans = ["t_start", "t_end"]
    known = with_prompt(table)
    bounds = {metric: bounds_of(rows) for metric, rows in known.groupby("metric")}
    per_prompt = known.groupby([*keys, "prompt_id", *spans], as_index=False)["value"].mean()
    for key, rows in per_prompt.groupby(keys):
        matrix = rows.pivot(index="prompt_id", columns=spans, values="value")
        of = bounds[rows["metric"].iloc[0]]
        mean, low, high, n = mean_interval(matrix.to_numpy(dtype=np.float64), of)
        part = matrix.columns.to_frame(index=False)
        part = part.assign(p10=matrix.quantile(0.1).to_numpy(), p90=matrix.quantile(0.9).to_numpy())
        parts.append(part.assign(**dict(zip(keys, key, strict=True)), mean=mean, low=low, high=high, n=n))
    columns = [*keys, "t_start", "t_end", "mean", "low", "high", "p10", "p90", "n"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def summarise(samples: pd.DataFrame, column: str, bounds: Bounds = None) -> pd.DataFrame:
    """Mean of one number per sample over seeds, then prompts: run, metric (and protocol), mean, low, high, n, p.

    p: that the mean is 0, where the number can be negative. bounds: of the number where the samples' own are a share's,
    whose it is a function of; None: those of the samples.
    """
    keys = series(samples)
    found = []
    for key, rows in samples.groupby(keys):
        of = bounds_of(rows)
        of = bounds if bounds is not None and of is not None else of
        values = rows.groupby("prompt_id")[column].mean().to_numpy(dtype=np.float64)[:, None]
        mean, low, high, n = mean_interval(values, of)
        found.append((*key, mean[0], low[0], high[0], int(n[0]), p_values(values, of)[0]))
    return pd.DataFrame(found, columns=[*keys, "mean", "low", "high", "n", "p"])


def overall(table: pd.DataFrame, start: float = 0.0, end: float = math.inf) -> pd.DataFrame:
    """Mean over start .. end seconds with its interval over prompts; the columns of `summarise`."""
    return summarise(sample_means(table, start, end), "value")


def first_last(table: pd.DataFrame, seconds: float = 5.0) -> pd.DataFrame:
    """The first against the last `seconds` of each video: four numbers, each with _low and _high, and counts of prompts.

    first, last: the means over them, each window weighing the seconds that it shares with them: 2 s windows reach over
    the fifth second with half their weight, and for VBench's dimensions a mean of windows is not the score of one 5 s
    clip. drift: last - first, signed (a fall is negative; some write first - last). abs_drift: mean over samples of
    |last - first|, which differences of opposite sign do not cancel in: the first/last drift of Rolling Forcing and its
    kin, |Q(first 5 s) - Q(last 5 s)| averaged over videos (LongVideoEvalKit). Videos shorter than twice `seconds` count
    as missing. n_first and n_last: prompts behind first and last; n: those behind drift and abs_drift, which need both
    ends of a video. drift_p: the p-value of the drift.
    """
    samples = ends(table, seconds)
    samples = samples.assign(drift=samples["last"] - samples["first"])
    samples = samples.assign(abs_drift=samples["drift"].abs())
    counts = {"first": "n_first", "last": "n_last", "drift": "n"}
    result = None
    for name in ("first", "last", "drift", "abs_drift"):
        part = summarise(samples, name, (-1.0, 1.0) if name == "drift" else None)
        part = part.rename(columns={"mean": name, "low": f"{name}_low", "high": f"{name}_high", "p": f"{name}_p"})
        part = part if name == "drift" else part.drop(columns=f"{name}_p")
        part = part.drop(columns="n") if name == "abs_drift" else part.rename(columns={"n": counts[name]})
        result = part if result is None else result.merge(part, on=series(samples))
    assert result is not None
    return result[[*(c for c in result.columns if c not in counts.values()), *counts.values()]]


def paired_difference(
    table: pd.DataFrame, run_a: str, run_b: str, metric: str, start: float = 0.0, end: float = math.inf
) -> Paired:
    """a - b of a metric over start .. end seconds, paired by prompt and seed; only samples both runs have count.

    Raises ValueError if the table does not know a run or the metric, or has the metric under several protocols.
    """
    for column, name in (("run", run_a), ("run", run_b), ("metric", metric)):
        if name not in set(table[column]):
            raise ValueError(f"no {column} {name!r} in the table; it has {', '.join(sorted(set(table[column])))}")
    rows = with_bounds(table[table["metric"] == metric])
    rows = rows[rows["run"].isin([run_a, run_b])]
    one_protocol(rows, "a paired difference")
    means = sample_means(rows, start, end)
    a, b = (means[means["run"] == run] for run in (run_a, run_b))
    both = a.merge(b, on=["prompt_id", "sample"], suffixes=("_a", "_b"))
    both = both.assign(difference=both["value_a"] - both["value_b"])
    values = both.groupby("prompt_id")["difference"].mean().dropna().to_numpy(dtype=np.float64)
    bounds = of_difference(bounds_of(rows))
    mean, low, high, _ = mean_interval(values[:, None], bounds)
    p = p_values(values[:, None], bounds)
    return Paired(float(mean[0]), float(low[0]), float(high[0]), student_t(values), len(values), float(p[0]))


def paired_differences(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """All runs but the baseline minus it, as `paired_difference` over the whole length: the columns of `summarise`.

    Runs and metrics that share no sample with the baseline are not there; n is 0 where no shared one has a value. Raises
    ValueError for scores of several protocols.
    """
    one_protocol(table, "paired differences")
    means = sample_means(table)
    base, others = means[means["run"] == baseline], means[means["run"] != baseline]
    keys = [*(key for key in series(means) if key != "run"), "prompt_id", "sample"]
    both = others.merge(base[[*keys, "value"]], on=keys, suffixes=("", "_baseline"))
    least, greatest = both["least"] - both["greatest"], both["greatest"] - both["least"]
    return summarise(both.assign(value=both["value"] - both["value_baseline"], least=least, greatest=greatest), "value")


def pivot(summary: pd.DataFrame, values: Sequence[Value] = (), column: str = "mean") -> pd.DataFrame:
    """One row per run, one column per metric, from `overall` or `first_last`; `column` may also be n, low, drift ...

    Columns follow the order of `values` (others come after) and are marked with an arrow up where higher is better and
    down where lower is, by the values' own `higher_is_better`. Raises ValueError for scores of several protocols.
    """
    one_protocol(summary, "a table of runs by metrics")
    wide = summary.pivot(index="run", columns="metric", values=column)
    known = {value.name: value for value in values}
    order = [name for name in known if name in wide.columns]
    wide = wide[order + [name for name in wide.columns if name not in known]]
    marks = {None: "", True: " ↑", False: " ↓"}
    names = [f"{name}{marks[known[name].higher_is_better]}" if name in known else name for name in wide.columns]
    return wide.set_axis(names, axis=1)
