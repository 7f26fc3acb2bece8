"""One number per metric and protocol out of the rows of many videos: the number that a table prints.

`rows` is the tidy table: sample, metric, protocol, value, and frames, how many frames a row was measured on; one row per
clip, whose samples are the videos of one generator. NaN is left out; where nothing is left the number is NaN.

vbench              mean of videos. For subject and background consistency all pairs of neighbouring frames of all
                    videos count alike, so that a long video weighs more (VBench 0.1.5 on one GPU; the same where videos
                    are equally long).
vbench_long         mean of all clips of all videos. VBench-Long means to average videos, but files each clip as a video
vbench_long_memory  of its own (vbench2_beta_long.utils.reorganize_clips_results); equal where videos are equally long.
vbench_last         mean of videos.
windows             mean over a video's windows, weighted by their frames, then mean of videos.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from eval.protocol import NAMES

COLUMNS = ["metric", "protocol", "value", "videos"]
PAIRWISE = ("subject_consistency", "background_consistency")  # sum over frame pairs / their number, under `vbench`


def overall(rows: pd.DataFrame) -> pd.DataFrame:
    """COLUMNS, one row per metric and protocol, sorted; videos: how many have a value that is not NaN.

    Raises ValueError if a column is missing or a protocol unknown.
    """
    lacking = {"sample", "metric", "protocol", "value", "frames"} - set(rows.columns)
    if lacking:
        raise ValueError(f"the table of scores lacks the columns {', '.join(sorted(lacking))}")
    unknown = set(rows["protocol"]) - set(NAMES)
    if unknown:
        raise ValueError(f"protocol={min(unknown)!r} is unknown; there are {', '.join(NAMES)}")
    found = []
    for (metric, protocol), group in rows.groupby(["metric", "protocol"]):
        measured = group[group["value"].notna()]
        number = _number(measured, str(metric), str(protocol))
        found.append((metric, protocol, number, measured["sample"].nunique()))
    return pd.DataFrame(found, columns=COLUMNS)


def _number(rows: pd.DataFrame, metric: str, protocol: str) -> float:
    if protocol == "vbench" and metric in PAIRWISE:
        return _weighted(rows["value"], rows["frames"] - 1)
    if protocol == "windows":
        videos = [_weighted(video["value"], video["frames"]) for _, video in rows.groupby("sample")]
        return float(np.mean(videos)) if videos else math.nan
    return float(rows["value"].mean()) if len(rows) else math.nan


def _weighted(values: pd.Series, weights: pd.Series) -> float:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total else math.nan
