"""What a folder of scored videos holds: videos.csv before the scores, scores.parquet and summary.json after them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepforcing.records import SCHEMA
from deepforcing.runs import atomic_path, atomic_write_json, check_writable
from deepforcing.video import VideoInfo, probe
from eval.csv_cells import guarded
from eval.measure.metric import Metric, applies
from eval.metrics.vbench.quality import QUALITY, RANGES, quality, with_quality
from eval.protocol import NAMES, Protocol
from eval.score import Scored
from eval.score_files import write_scores
from eval.stats.vbench import overall
from eval.store import COLUMNS, stored
from eval.videos import Video, Videos

VIDEOS, SCORES, SUMMARY = "videos.csv", "scores.parquet", "summary.json"  # in out=DIR


def prepare(group: Videos) -> None:
    """Before long work: make sure that the results can be written, and write out/videos.csv, see `write_videos`."""
    check_writable(group.home, key="out")
    for name in (VIDEOS, SCORES, SUMMARY):
        if (group.home / name).is_dir():
            raise ValueError(
                f"{group.home / name} is a folder, and a file of this name is to be written: give another out=DIR"
            )
    write_videos(group.home / VIDEOS, group)


def write_videos(file: Path, group: Videos) -> None:
    """A row per video: its name in the tables, its file, the prompt that it got, and what its header says.

    Made before the scores, so that a person can see whether every file got its own caption.
    """
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\r\n")  # so that a name with either of them is quoted
    rows.writerow(["sample", "file", "prompt", "frames", "fps", "sha256"])
    for video in group.videos:
        info = header(video)
        told = ("", "") if info is None else (str(info.frames), f"{info.fps:.6g}")
        texts = (guarded(text) for text in (video.name, video.path.name, video.prompt or ""))
        rows.writerow([*texts, *told, video.sha256])
    text = table.getvalue().encode()
    if not file.exists() or file.read_bytes() != text:
        with atomic_path(file) as partial:
            partial.write_bytes(text)


def write_out(out: Path, group: Videos, scored: Scored, metrics: Sequence[Metric], protocol: Protocol) -> None:
    """out/scores.parquet: all that is known of the videos; out/summary.json: {metric asked for: overall value or null, ...}.

    A metric whose weights are absent has a row with NaN for each video that has no earlier score, spanning all of it. VBench's
    Quality is that of the overall values of its dimensions in summary.json, and of each clip's in the scores.
    """
    table = scored.table
    measured = set(zip(table["sample"], table["metric"], strict=True))  # also while the weights were there
    nothing = pd.DataFrame(
        [
            (group.name, video.name, metric.name, metric.version, protocol.name, 0.0, seconds(video), math.nan)
            for metric in metrics
            if metric.name in scored.absent
            for video in group.videos
            if not math.isnan(seconds(video))  # a file that is none has no row
            if not any((video.name, value.name) in measured for value in metric.values)
        ],
        columns=COLUMNS,
    )
    # Whatever else is known of these videos: other metrics, other protocols.
    kept = [stored([group], None, Protocol(name, protocol.window_seconds)) for name in NAMES]
    asked = {metric.name for metric in metrics} | {value.name for metric in metrics for value in metric.values}
    others = [
        part[~((part["protocol"] == protocol.name) & part["metric"].isin(asked | set(table["metric"])))]
        for part in kept
    ]
    parts = [part[COLUMNS] for part in (table, nothing, *others) if len(part)]
    rows = with_quality(pd.concat(parts, ignore_index=True)) if parts else nothing
    names = ["sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
    with atomic_path(out / SCORES) as partial, open(partial, "wb") as file:
        write_scores(rows[names], file)
    values = overall(table).set_index("metric")["value"].to_dict()
    if values.keys() >= RANGES.keys():
        values[QUALITY.name] = quality(values)
    summary: dict[str, Any] = {}
    applying = [metric for metric in metrics if applies(metric, group.world)]
    names = [value.name for metric in applying for value in metric.values]
    for name in [*names, *(name for name in values if name not in names)]:
        number = values.get(name, math.nan)
        summary[name] = None if math.isnan(number) else number
    summary["about"] = {
        "schema": SCHEMA,
        "protocol": protocol.name,
        "window_seconds": protocol.length_key or None,
        "videos": len(group.videos),
        "videos_scored": int(table["sample"].nunique()),
        "versions": {metric.name: metric.version for metric in applying},
        "weights": weights_sha256(pd.concat([table, *others])),
        "absent": {name: as_utf8(why) for name, why in scored.absent.items()},
        "problems": [as_utf8(problem) for problem in scored.problems],
    }
    atomic_write_json(out / SUMMARY, summary)


def as_utf8(text: str) -> str:
    """Paths may have bytes that are not UTF-8, and messages name paths."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def weights_sha256(rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """{protocol: {metric: sha256 of its weights}}, several joined by "+", without those that need none."""
    known = rows[rows["weights_sha256"].notna() & (rows["weights_sha256"] != "") & rows["value"].notna()]
    found: dict[str, dict[str, str]] = {}
    for (protocol, metric), each in known.groupby(["protocol", "metric"])["weights_sha256"]:
        found.setdefault(str(protocol), {})[str(metric)] = "+".join(sorted(set(each)))
    return found


def header(video: Video) -> VideoInfo | None:
    """What the file says of itself; None if it is no video."""
    try:
        return probe(video.path)
    except ValueError:
        return None


def seconds(video: Video) -> float:
    """Duration by the file's header; NaN if it has none."""
    info = header(video)
    return info.frames / info.fps if info is not None and info.fps else math.nan
