"""From the tidy table of scores to one number per video: pure functions, nothing is read or written.

A table has the columns run, sample, metric, version, t_start, t_end, value; a sample is called <prompt_id>-s<seed>; one
that is not (of a folder of any videos) is a prompt of its own. Where it has a column protocol too, scores of different
protocols are kept apart, and so have the results (`series`). Missing scores are NaN and are left out. A range of time
takes what lies in it: each window weighs as many seconds as it shares with the range.

least and greatest, which every table here gets, are what a value can be, NaN where it has no such ends: intervals of
shares are others than those of any real numbers (eval.stats.intervals).
"""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd

from eval.measure.windows import ROUNDING, overlap
from eval.metrics import VALUES
from eval.stats.intervals import Bounds, ratio

ANY: tuple[float, float] = (math.nan, math.nan)  # least and greatest of real numbers
SHARES = (0.0, 1.0)
DECLARED = {value.name: SHARES if value.share else ANY for value in VALUES}


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
    """The table with columns `prompt_id`, from the sample's name, least and greatest, and with its types, which an empty
    one may lack."""
    if "prompt_id" in table:
        return table
    words = dict.fromkeys([*series(table), "sample"], str)
    table = table.astype({**words, "t_start": float, "t_end": float, "value": float})
    prompts = {sample: re.sub(r"-s\d+$", "", sample) for sample in table["sample"].unique()}
    return with_bounds(table.assign(prompt_id=table["sample"].map(prompts).astype(str)))


def with_bounds(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns least and greatest, unless it has them: 0 and 1 of the metrics that say so of themselves,
    and of those that nobody knows and whose values are all 0 or 1. Values beyond 0 to 1 are no shares, whatever is said."""
    if "least" in table:
        return table
    known = table[["metric", "value"]].dropna()
    facts = known.assign(binary=known["value"].isin([0.0, 1.0])).groupby("metric")
    facts = facts.agg(low=("value", "min"), high=("value", "max"), binary=("binary", "all"))
    found = {}
    for metric, low, high, binary in facts.itertuples():
        share = DECLARED.get(str(metric), SHARES if binary else ANY)
        found[metric] = share if low >= 0 and high <= 1 else ANY
    ends = {metric: found.get(metric, DECLARED.get(str(metric), ANY)) for metric in table["metric"].unique()}
    least, greatest = (table["metric"].map({m: end[i] for m, end in ends.items()}).astype(float) for i in (0, 1))
    return table.assign(least=least, greatest=greatest)


def bounds_of(rows: pd.DataFrame) -> Bounds:
    """Of rows that all have the same."""
    least, greatest = rows["least"].iloc[0], rows["greatest"].iloc[0]
    return None if math.isnan(least) else (float(least), float(greatest))


def sample_means(table: pd.DataFrame, start: float = 0.0, end: float = math.inf) -> pd.DataFrame:
    """Mean of each sample over start .. end seconds: run, metric (and protocol), prompt_id, sample, value, least, greatest.

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
    grouped = rows.groupby([*series(rows), "prompt_id", "sample"], as_index=False)
    sums = grouped.agg({**dict.fromkeys(parts, "sum"), "least": "first", "greatest": "first"})
    value = ratio(sums["weighted"].to_numpy(), np.where(sums["wholly"] > 0, sums["weight"], 0.0))
    rounded = np.clip(value, sums["least"].fillna(-np.inf), sums["greatest"].fillna(np.inf))  # sums of shares
    return sums.drop(columns=parts).assign(value=np.asarray(rounded))


def ends(table: pd.DataFrame, seconds: float = 5.0, end: float | None = None) -> pd.DataFrame:
    """Each sample's mean over its first and over its last `seconds`: the columns of `sample_means`, first and last.

    Missing (NaN) for videos shorter than twice `seconds`, whose two ends would overlap, and for windows longer than that.
    end: where the last seconds end, for all videos alike, so that they are of one time; None: with each video.
    """
    table = with_prompt(table)
    keys = [*series(table), "prompt_id", "sample"]
    duration = table.groupby(["run", "sample"])["t_end"].transform("max")
    timed = table.assign(duration=duration if end is None else duration.clip(upper=end))
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
        part = part.rename(columns={"value": name}).drop(columns=["least", "greatest"])
        samples = samples.merge(part, on=keys, how="left")
    return samples
