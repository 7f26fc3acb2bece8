"""From the tidy table of scores to means, curves, drifts and differences: pure functions, nothing is read or written.

A table has the columns run, sample, metric, version, t_start, t_end, value; a sample is called <prompt_id>-s<seed>; one
that is not (of a folder of any videos) is a prompt of its own. Where it has a column protocol too, scores of different
protocols are kept apart, and so have the results (`series`).
Prompts are the independent unit: samples of one prompt (its seeds) are averaged first, and every interval here is a
95 % interval over prompts (`mean_interval`): Student's t below 16 prompts, from 16 on a percentile bootstrap (2000
resamples, seeded, so that the same table gives the same interval). Missing scores are NaN and are left out; n says how
many prompts are behind each number; with fewer than two prompts the interval is NaN. A range of time takes what lies in
it: each window weighs as many seconds as it shares with the range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.metric import ROUNDING, FloatArray, Value, overlap

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0
# The .975 quantiles of Student's t with 1, 2, ... 14 degrees of freedom, for 2 to 15 prompts.
STUDENT_T = (
    12.7062,
    4.3027,
    3.1824,
    2.7764,
    2.5706,
    2.4469,
    2.3646,
    2.3060,
    2.2622,
    2.2281,
    2.2010,
    2.1788,
    2.1604,
    2.1448,
)
BOOTSTRAP_FROM = (
    len(STUDENT_T) + 2
)  # prompts; with fewer a bootstrap's interval is too narrow (4 prompts: 79 %, not 95)


@dataclass(frozen=True)
class Paired:
    """Mean of a - b over the prompts that both runs have, its 95 % interval (`mean_interval`), and the paired t value.

    t = mean / (standard deviation / sqrt(n)), the deviation with n - 1; NaN with fewer than two prompts or if all
    differences are 0, infinite if they are equal but not 0.
    """

    mean: float
    low: float
    high: float
    t: float
    n: int


def mean_interval(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.int_]]:
    """Mean over prompts and its 95 % interval: [prompts, K] -> mean, low, high, n, each [K]; NaN is left out.

    Column by column: with 2 to 15 values mean +- t_{n-1, .975} s / sqrt(n), which takes prompts to be normally
    distributed and may reach beyond a metric's range; from 16 on the percentile bootstrap; NaN with fewer than two.
    """
    valid = ~np.isnan(values)
    n = valid.sum(0)
    filled = np.where(valid, values, 0.0)
    mean = ratio(filled.sum(0), n)
    low, high = np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    few, many = (n >= 2) & (n < BOOTSTRAP_FROM), n >= BOOTSTRAP_FROM
    if few.any():
        deviations = np.where(valid[:, few], values[:, few] - mean[few], 0.0)
        error = np.sqrt((deviations**2).sum(0) / (n[few] - 1) / n[few])
        half = np.array(STUDENT_T)[n[few] - 2] * error
        low[few], high[few] = mean[few] - half, mean[few] + half
    if many.any():
        # A resample is how often each prompt is drawn; all columns share the draws, so a curve's band moves as one.
        prompts = len(values)
        draws = np.random.default_rng(SEED).multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES)
        resampled = ratio(draws @ filled[:, many], draws @ valid[:, many].astype(np.float64))
        tail = (1 - CONFIDENCE) / 2
        low[many], high[many] = np.nanquantile(resampled, [tail, 1 - tail], axis=0)
    return mean, low, high, n


def ratio(total: NDArray[Any], count: NDArray[Any]) -> FloatArray:
    """total / count, NaN where the count is 0."""
    return np.asarray(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0))


def series(table: pd.DataFrame) -> list[str]:
    """The columns that tell one series of scores from another: run, metric, and protocol where the table has it."""
    return ["run", "metric", *(["protocol"] if "protocol" in table else [])]


def one_protocol(table: pd.DataFrame, wanted_for: str) -> None:
    """Raises ValueError if the table holds several protocols: their numbers must not be mixed."""
    found = sorted(set(table["protocol"].astype(str))) if "protocol" in table else []
    if len(found) > 1:
        raise ValueError(
            f"{wanted_for} needs scores of one protocol, the table has {', '.join(found)}: keep one of them"
        )


def with_prompt(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `prompt_id`, from the sample's name, and with its types, which an empty one may lack."""
    words = dict.fromkeys([*series(table), "sample"], str)
    table = table.astype({**words, "t_start": float, "t_end": float, "value": float})
    return table.assign(prompt_id=table["sample"].str.replace(r"-s\d+$", "", regex=True).astype(str))


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over prompts in every window: run, metric (and protocol), t_start, t_end, mean, low, high, n."""
    parts = []
    keys = series(table)
    spans = ["t_start", "t_end"]
    per_prompt = with_prompt(table).groupby([*keys, "prompt_id", *spans], as_index=False)["value"].mean()
    for key, rows in per_prompt.groupby(keys):
        matrix = rows.pivot(index="prompt_id", columns=spans, values="value")
        mean, low, high, n = mean_interval(matrix.to_numpy(dtype=np.float64))
        part = matrix.columns.to_frame(index=False)
        parts.append(part.assign(**dict(zip(keys, key, strict=True)), mean=mean, low=low, high=high, n=n))
    columns = [*keys, "t_start", "t_end", "mean", "low", "high", "n"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def sample_means(table: pd.DataFrame, start: float = 0.0, end: float = math.inf) -> pd.DataFrame:
    """Mean of each sample over start .. end seconds: run, metric (and protocol), prompt_id, sample, value.

    Each window weighs the seconds that it shares with the range. NaN unless a window that lies in it wholly has a value:
    one that mostly lies elsewhere, or a number of the whole video, says too little of the range to stand for it. Every
    sample of the table keeps its row.
    """
    rows = with_prompt(table)
    starts, stops = (rows[column].to_numpy(dtype=np.float64) for column in ("t_start", "t_end"))
    known = rows["value"].notna().to_numpy()
    shared = np.where(known, overlap(starts, stops, start, end), 0.0)
    wholly = known & (starts >= start - ROUNDING) & (stops <= end + ROUNDING)
    rows = rows.assign(weight=shared, weighted=rows["value"].where(known, 0.0) * shared, wholly=wholly)
    parts = ["weight", "weighted", "wholly"]
    sums = rows.groupby([*series(rows), "prompt_id", "sample"], as_index=False)[parts].sum()
    value = ratio(sums["weighted"].to_numpy(), np.where(sums["wholly"] > 0, sums["weight"], 0.0))
    return sums.drop(columns=parts).assign(value=value)


def summarise(samples: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean of one number per sample over seeds, then prompts: run, metric (and protocol), mean, low, high, n."""
    keys = series(samples)
    per_prompt = samples.groupby([*keys, "prompt_id"], as_index=False)[column].mean()
    found = []
    for key, rows in per_prompt.groupby(keys):
        mean, low, high, n = mean_interval(rows[column].to_numpy(dtype=np.float64)[:, None])
        found.append((*key, mean[0], low[0], high[0], int(n[0])))
    return pd.DataFrame(found, columns=[*keys, "mean", "low", "high", "n"])


def overall(table: pd.DataFrame, start: float = 0.0, end: float = math.inf) -> pd.DataFrame:
    """Mean over start .. end seconds with its interval over prompts; the columns of `summarise`."""
    return summarise(sample_means(table, start, end), "value")


def ends(table: pd.DataFrame, seconds: float = 5.0) -> pd.DataFrame:
    """Each sample's mean over its first and over its last `seconds`: the columns of `sample_means`, first and last.

    Missing (NaN) for videos shorter than twice `seconds`, whose two ends would overlap, and for windows longer than that.
    """
    keys = [*series(table), "prompt_id", "sample"]
    timed = table.assign(duration=table.groupby(["run", "sample"])["t_end"].transform("max"))
    long_enough = timed[timed["duration"] >= 2 * seconds - 1e-9]
    shifted = long_enough.assign(
        t_start=long_enough["t_start"] - long_enough["duration"],
        t_end=long_enough["t_end"] - long_enough["duration"],
    )
    samples = sample_means(table).drop(columns="value")
    for name, part in (
        ("first", sample_means(long_enough, 0.0, seconds)),
        ("last", sample_means(shifted, -seconds, 0.0)),
    ):
        samples = samples.merge(part.rename(columns={"value": name}), on=keys, how="left")
    return samples


def first_last(table: pd.DataFrame, seconds: float = 5.0) -> pd.DataFrame:
    """The first against the last `seconds` of each video: four numbers, each with _low and _high, and counts of prompts.

    first, last: the means over them, each window weighing the seconds that it shares with them: 2 s windows reach over
    the fifth second with half their weight, and for VBench's dimensions a mean of windows is not the score of one 5 s
    clip. drift: last - first, signed (a fall is negative; some write first - last). abs_drift: mean over samples of
    |last - first|, which differences of opposite sign do not cancel in: the first/last drift of Rolling Forcing and its
    kin, |Q(first 5 s) - Q(last 5 s)| averaged over videos (LongVideoEvalKit). Videos shorter than twice `seconds` count
    as missing. n_first and n_last: prompts behind first and last; n: those behind drift and abs_drift, which need both
    ends of a video.
    """
    samples = ends(table, seconds)
    samples = samples.assign(drift=samples["last"] - samples["first"])
    samples = samples.assign(abs_drift=samples["drift"].abs())
    counts = {"first": "n_first", "last": "n_last", "drift": "n"}
    result = None
    for name in ("first", "last", "drift", "abs_drift"):
        part = summarise(samples, name).rename(columns={"mean": name, "low": f"{name}_low", "high": f"{name}_high"})
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
    rows = table[(table["metric"] == metric) & table["run"].isin([run_a, run_b])]
    one_protocol(rows, "a paired difference")
    means = sample_means(rows, start, end)
    a, b = (means[means["run"] == run] for run in (run_a, run_b))
    both = a.merge(b, on=["prompt_id", "sample"], suffixes=("_a", "_b"))
    both = both.assign(difference=both["value_a"] - both["value_b"])
    values = both.groupby("prompt_id")["difference"].mean().dropna().to_numpy(dtype=np.float64)
    mean, low, high, _ = mean_interval(values[:, None])
    return Paired(float(mean[0]), float(low[0]), float(high[0]), paired_t(values), len(values))


def paired_t(differences: FloatArray) -> float:
    """t value of the mean of the differences [n] against 0; see Paired."""
    n = len(differences)
    if n < 2:
        return math.nan
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(n)
    if error > 0:
        return mean / error
    return math.copysign(math.inf, mean) if mean else math.nan


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
