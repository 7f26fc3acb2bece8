"""How scores move over a video, from the tidy table: slope, fluctuation, motion decay, BlockVid's video drift error.

Pure functions of the table that `eval.stats.samples` describes, with its conventions: one number per video, of its
windows that have a value, in order of time; then means over seeds, then prompts, with a 95 % interval over prompts. Each
gives the columns of `eval.stats.means.summarise`; n counts the prompts behind a number. First-against-last drift is
`eval.stats.means.first_last`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from eval.measure.windows import ROUNDING, FloatArray, overlap
from eval.stats.intervals import ratio
from eval.stats.means import summarise
from eval.stats.samples import ANY, ends, sample_means, series, with_prompt

CHUNKS = 10  # BlockVid's N
OfVideo = Callable[[FloatArray, FloatArray, FloatArray, float], float]


def slope(table: pd.DataFrame) -> pd.DataFrame:
    """Least-squares slope of the score over the windows' middles, per minute and video: unit of the metric / minute.

    Our addition to the published measures: where first-against-last drift sees two ends, this uses all windows. NaN with
    fewer than two windows that have a value.
    """
    return summarise(of_videos(table, "slope"), "value")


def fluctuation(table: pd.DataFrame) -> pd.DataFrame:
    """Population standard deviation of the score over a video's windows, as LongVideoEvalKit takes imaging quality's.

    Source: shared by the long-video papers that report it, formula second-hand. NaN with fewer than two windows that
    have a value.
    """
    return summarise(of_videos(table, "fluctuation"), "value")


# One number of a video and metric: what it says, and whether more of it is better (None: as of the metric itself).
NUMBERS: dict[str, tuple[str, bool | None]] = {
    "mean": ("the mean over the video", None),
    "first": ("the mean over the first {ends:g} s", None),
    "last": ("the mean over the last {ends:g} s", None),
    "drift": ("the last {ends:g} s minus the first {ends:g} s", None),
    "abs_drift": ("the distance between the first and the last {ends:g} s of each video", False),
    "slope": ("the least-squares slope over the video, per minute", None),
    "fluctuation": ("the standard deviation over the video's windows", False),
    "decay": ("the last {ends:g} s over the first {ends:g} s: 1 is as much as at first", None),
}


OF_THE_END = ("last", "drift", "abs_drift", "decay")


def of_videos(table: pd.DataFrame, number: str, seconds: float = 5.0, end: float | None = None) -> pd.DataFrame:
    """A tidy table with one row per video and metric whose value is a number of NUMBERS. seconds: of first and last.

    end: where the last seconds end, in every video; None: with each video.
    """
    if number in ("slope", "fluctuation"):
        samples = _movement(table, number)
    elif number == "mean" or not len(table):
        samples = sample_means(table)
    else:
        samples = ends(table, seconds, end)
        drift = samples["last"] - samples["first"]
        left = samples["last"] / samples["first"].where(samples["first"] > 0)
        both = samples.assign(drift=drift, abs_drift=drift.abs(), decay=left)
        samples = both.assign(value=both[number])
    # What the number of a share can be, where a video's own scores lie between 0 and 1.
    least, greatest = {"slope": ANY, "decay": ANY, "drift": (-1.0, 1.0), "fluctuation": (0.0, 0.5)}.get(
        number, (0.0, 1.0)
    )
    share = samples["least"].notna()
    samples = samples.assign(least=np.where(share, least, np.nan), greatest=np.where(share, greatest, np.nan))
    return samples.assign(version=0, t_start=0.0, t_end=1.0)


def _movement(table: pd.DataFrame, number: str) -> pd.DataFrame:
    """Slope per minute or population deviation of each video's windows that have a value; the columns of `sample_means`.

    NaN with fewer than two of them. By sums over all videos at once: reports have ten thousands.
    """
    rows = with_prompt(table)
    keys = [*series(rows), "prompt_id", "sample"]
    known = rows["value"].notna()
    minutes = ((rows["t_start"] + rows["t_end"]) / 120).where(known)
    of = [rows[key] for key in keys]
    t, v = (each - each.groupby(of).transform("mean") for each in (minutes, rows["value"]))
    parts = rows[[*keys, "least", "greatest"]].assign(n=known, tt=t**2, tv=t * v, vv=v**2)
    sums = {**dict.fromkeys(("n", "tt", "tv", "vv"), "sum"), "least": "first", "greatest": "first"}
    found = parts.groupby(keys, as_index=False).agg(sums)
    if number == "slope":
        value = ratio(found["tv"].to_numpy(), found["tt"].to_numpy())
    else:
        value = np.sqrt(ratio(found["vv"].to_numpy(), found["n"].to_numpy()))
    return found.assign(value=np.where(found["n"] > 1, value, np.nan)).drop(columns=["n", "tt", "tv", "vv"])


def motion_decay(table: pd.DataFrame, metric: str, seconds: float = 5.0) -> pd.DataFrame:
    """How much of a video's motion is left at its end: mean over the last `seconds` / mean over the first, of a magnitude.

    metric: a magnitude of motion that is 0 in a still video, such as flow_magnitude. There is no standard; motion that
    dies down is how sinks fail. The ends are those of all other drift; seconds=2 compares VBench-Long's first and last
    clip. 1: as much as at first. NaN where the first seconds have no motion at all, and for
    videos shorter than twice `seconds`. Raises ValueError if the table does not have the metric.
    """
    if metric not in set(table["metric"]):
        raise ValueError(f"no metric {metric!r} in the table; it has {', '.join(sorted(set(table['metric'])))}")
    # The duration is that of all metrics: this one may lack the last windows' rows.
    decays = of_videos(table, "decay", seconds)
    return summarise(decays[decays["metric"] == metric], "value")


def video_drift_error(table: pd.DataFrame, chunks: int = CHUNKS) -> pd.DataFrame:
    """VDE of every metric: sum over chunks i = 2 .. N of (N - i + 1) |m_i - m_1| / m_1, with N equal chunks per video.

    Source: LV-Bench of BlockVid (arXiv 2511.22973). m_i is the metric's mean over chunk i, here of windows, each
    weighing the seconds that it shares with the chunk, so windows of a tenth of the video give BlockVid's numbers and
    shorter ones come near. The weights favour the chunks that follow the first and the sum is not normalised: only values
    of the same N compare. NaN where a chunk has no value (a sum over fewer would be smaller), where a window is longer
    than a chunk, or m_1 is not positive. Raises ValueError for chunks < 2.
    """
    if chunks < 2:
        raise ValueError(f"chunks={chunks}: drift from the first chunk needs at least 2")

    def of_video(starts: FloatArray, stops: FloatArray, values: FloatArray, duration: float) -> float:
        length = duration / chunks
        shared = np.array([overlap(starts, stops, i * length, (i + 1) * length) for i in range(chunks)])
        if not shared.any(1).all() or (stops - starts).max() > length + ROUNDING:
            return math.nan
        means = shared @ values / shared.sum(1)
        if means[0] <= 0:
            return math.nan
        weights = np.arange(chunks - 1, 0, -1)
        return float((weights * np.abs(means[1:] - means[0])).sum() / means[0])

    return summarise(per_video(table, of_video).assign(least=math.nan, greatest=math.nan), "value")


def per_video(table: pd.DataFrame, of_video: OfVideo) -> pd.DataFrame:
    """of_video(starts and ends of the windows in seconds, their values, the video's duration) of every sample and metric.

    The columns of `eval.stats.samples.sample_means`. Only windows that have a value are passed, in order of time; there may
    be none.
    """
    keys = [*series(table), "prompt_id", "sample"]
    rows = with_prompt(table)
    rows = rows.assign(duration=rows.groupby(["run", "sample"])["t_end"].transform("max")).sort_values("t_start")
    found = []
    for key, video in rows.groupby(keys):
        known = video[video["value"].notna()]
        starts, stops, values = (known[column].to_numpy(dtype=np.float64) for column in ("t_start", "t_end", "value"))
        bounds = (video["least"].iloc[0], video["greatest"].iloc[0])
        found.append((*key, of_video(starts, stops, values, float(video["duration"].iloc[0])), *bounds))
    columns = ["value", "least", "greatest"]
    return pd.DataFrame(found, columns=[*keys, *columns]).astype(dict.fromkeys(columns, float))
