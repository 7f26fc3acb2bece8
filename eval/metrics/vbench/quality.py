"""VBench's Quality: seven of its dimensions as one number, made of their scores and never measured itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from eval.measure.metric import Value

# Dimension: least, greatest (of its range), weight; scripts/constant.py of VBench at 45e79ec.
RANGES = {
    "subject_consistency": (0.1462, 1.0, 1.0),
    "background_consistency": (0.2615, 1.0, 1.0),
    "temporal_flickering": (0.6293, 1.0, 1.0),
    "motion_smoothness": (0.706, 0.9975, 1.0),
    "dynamic_degree": (0.0, 1.0, 0.5),
    "aesthetic_quality": (0.0, 1.0, 1.0),
    "imaging_quality": (0.0, 1.0, 1.0),
}
QUALITY = Value("vbench_quality", "0..1", True, "VBench's seven quality dimensions, weighted")
REWARD = (
    "VBench Quality rewards standing still: flickering, smoothness and both consistencies are best in a frozen video, and "
    "dynamic degree has half a dimension's weight."
)
VERSION = 1
WITHOUT_NETWORK = "temporal_flickering"


def quality(scores: Mapping[str, float]) -> float:
    """sum of w (x - least) / (greatest - least) over the seven dimensions, divided by the sum of w, 6.5.

    scores: 0..1 by dimension; others are not looked at. NaN if one is NaN. Nothing is cut off at a range's ends, as in the
    published script. Raises KeyError if one is not there.
    """
    parts = [weight * (scores[name] - low) / (high - low) for name, (low, high, weight) in RANGES.items()]
    return float(sum(parts) / sum(weight for _, _, weight in RANGES.values()))


def with_quality(table: pd.DataFrame) -> pd.DataFrame:
    """A tidy table with a row of `vbench_quality` for every clip that has all seven dimensions, in place of any it has.

    The quality is linear in the dimensions, so the mean over clips, videos and prompts that have all seven is the quality
    of the means. NaN where a dimension is. weights_sha256, where the table has it, is a digest of the dimensions' own, so
    that other weights of any of them are other weights of the quality; NaN where one that has a network does not say.
    Other columns are those of the first dimension.
    """
    table = table[table["metric"] != QUALITY.name]
    parts = table[table["metric"].isin(RANGES)]
    clip = [c for c in ("run", "sample", "protocol", "t_start", "t_end", "window_seconds") if c in table]
    parts = parts.drop_duplicates([*clip, "metric"], keep="last")
    counts = parts.groupby(clip, dropna=False)["metric"].transform("size") if len(parts) else pd.Series(dtype=int)
    parts = parts[counts == len(RANGES)]
    if not len(parts):
        return table
    of = {name: rows.set_index(clip) for name, rows in parts.groupby("metric")}
    first = of[next(iter(RANGES))]
    values = {name: of[name]["value"].reindex(first.index).to_numpy(dtype=np.float64) for name in RANGES}
    made = first.assign(
        metric=QUALITY.name,
        value=[quality(dict(zip(values, row, strict=True))) for row in zip(*values.values(), strict=True)],
    )
    if "version" in table:
        made = made.assign(version=VERSION)
    if "weights_sha256" in table:
        known = [of[name]["weights_sha256"].reindex(first.index) for name in RANGES if name != WITHOUT_NETWORK]
        made = made.assign(weights_sha256=[digest(row) for row in zip(*known, strict=True)])
    return pd.concat([table, made.reset_index()[table.columns]], ignore_index=True)


def digest(weights: tuple[object, ...]) -> object:
    """sha256 of the dimensions' weights; NaN where one does not say."""
    if any(not isinstance(one, str) for one in weights):
        return float("nan")
    return hashlib.sha256(",".join(map(str, weights)).encode()).hexdigest()
