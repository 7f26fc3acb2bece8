"""Scoring run directories: decode each video once, score only what is missing, lose nothing to a kill.

Scores of one metric lie in <run>/scores/<metric>@<version>.parquet, a tidy table of COLUMNS and KEYS. The file is
replaced as a whole after each sample, under a lock, so readers see old or new but never half, and several processes
can score one run. Rows are kept per sample, video and window length; rows of a video that has since been made anew are
scored again and left out on reading. A value that could not be measured in a decoded video is a row with NaN; a sample
that could not be scored has no rows.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepforcing.script import is_schedule
from deepforcing.video import iter_frames, probe, sha256_file
from eval.metric import Clip, FloatArray, Metric, Video, Window, applies, windows
from eval.watch import Watch

COLUMNS = ["run", "sample", "metric", "version", "t_start", "t_end", "value"]
KEYS = ["video_sha256", "window_seconds"]  # what a row was measured on and how; not part of the tidy table

Progress = Callable[[int, int, str], None]


@dataclass
class Scored:
    """What `score_run` found. table: COLUMNS, of every sample that has scores, for the metrics asked for.

    problems: one line for each sample or score that is missing, and why. decoded: videos decoded by this call.
    """

    table: pd.DataFrame
    problems: list[str] = field(default_factory=list)
    decoded: int = 0


def score_run(
    run_dir: str | os.PathLike[str],
    metrics: Sequence[Metric],
    window_seconds: float = 1.0,
    progress: Progress | None = None,
) -> Scored:
    """Score every finished sample of a run for which a metric is missing.

    Metrics for another world are skipped. progress(done, total, sample) is called after each sample that needed work.
    Videos that cannot be read or are not those that their records describe end up in `problems`, without rows.
    Raises ValueError if the directory is no run or a scores file is unreadable.
    """
    run = Path(run_dir).absolute()
    record = read_json(run / "run.json")
    metrics = [metric for metric in metrics if applies(metric, record.get("world"))]
    samples, problems = read_samples(run)
    result = Scored(pd.DataFrame(columns=COLUMNS), problems)
    todo = []
    done = {metric.name: scored_samples(scores_path(run, metric), window_seconds) for metric in metrics}
    for sample in samples:
        missing = [m for m in metrics if (sample["sample"], sample["sha256"]) not in done[m.name]]
        if missing:
            todo.append((sample, missing))
    for number, (sample, missing) in enumerate(todo, start=1):
        try:
            clip = read_clip(run, sample, record, missing)
            result.decoded += 1
            spans = windows(clip.frames, clip.video.fps, window_seconds)
            if not spans:
                raise ValueError(f"{clip.frames} frames are less than half a window of {window_seconds} s")
        except ValueError as error:
            problems.append(f"{run.name}: sample {sample['sample']}: {error}")
        else:
            for metric in missing:
                try:
                    rows = measure(metric, clip, spans)
                except ValueError as error:
                    problems.append(f"{run.name}: sample {sample['sample']}: {metric.name}: {error}")
                    continue
                rows = rows.assign(
                    run=run.name,
                    sample=sample["sample"],
                    version=metric.version,
                    video_sha256=sample["sha256"],
                    window_seconds=float(window_seconds),
                )
                add_rows(scores_path(run, metric), rows[COLUMNS + KEYS])
        if progress is not None:
            progress(number, len(todo), sample["sample"])
    result.table = load_scores([run], metrics, window_seconds)
    return result


def load_scores(
    run_dirs: Sequence[str | os.PathLike[str]],
    metrics: Sequence[Metric] | None = None,
    window_seconds: float = 1.0,
) -> pd.DataFrame:
    """One tidy table (COLUMNS) of several runs, sorted; NaN where a value could not be measured.

    Left out: rows of videos that have changed since, of other window lengths, and stale versions, that is other than
    those of `metrics`; with None, of every metric the newest version that any of the runs has.
    Raises ValueError if a scores file is unreadable.
    """
    runs = [Path(run_dir).absolute() for run_dir in run_dirs]
    files = [path for run in runs for path in sorted((run / "scores").glob("*@*.parquet"))]
    if metrics is None:
        wanted: dict[str, int] = {}
        for path in files:
            name, version = name_and_version(path)
            wanted[name] = max(version, wanted.get(name, version))
    else:
        wanted = {metric.name: metric.version for metric in metrics}
    current = {(run, s["sample"]): s["sha256"] for run in runs for s in read_samples(run)[0]}
    parts = []
    for path in files:
        name, version = name_and_version(path)
        if wanted.get(name) != version:
            continue
        rows = read_rows(path)
        hashes = [current.get((path.parent.parent, sample)) for sample in rows["sample"]]
        keep = (rows["video_sha256"] == pd.Series(hashes, index=rows.index, dtype=object)) & (
            rows["window_seconds"] == window_seconds
        )
        # The directory's name is the run's: it may have been renamed or copied since.
        parts.append(rows.loc[keep, COLUMNS].assign(run=path.parent.parent.name))
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values(["run", "metric", "sample", "t_start"], ignore_index=True)


def measure(metric: Metric, clip: Clip, spans: Sequence[Window]) -> pd.DataFrame:
    """Columns metric, t_start, t_end, value: one row per value and window.

    Metrics that check a world's caption give NaN for prompt schedules: a clip has one caption to be checked against.
    """
    if metric.needs != "video" and is_schedule(clip.video.prompt):
        values: Mapping[str, FloatArray] = {value.name: np.full(len(spans), np.nan) for value in metric.values}
    else:
        values = metric.score(clip, spans)
    rows = [
        (name, window.t_start, window.t_end, float(number))
        for name in (value.name for value in metric.values)
        for window, number in zip(spans, values[name], strict=True)
    ]
    return pd.DataFrame(rows, columns=["metric", "t_start", "t_end", "value"])


def read_clip(run: Path, sample: dict[str, Any], record: dict[str, Any], metrics: Sequence[Metric]) -> Clip:
    """Decode a sample's video once, noting what the metrics need.

    ValueError if it is missing, unreadable, or not the one that its record describes.
    """
    path = run / "samples" / sample["video"]
    try:
        digest = sha256_file(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if digest != sample["sha256"]:
        raise ValueError(f"{path} is damaged or was replaced: its sha256 is not the one in its record")
    info = probe(path)
    video = Video(
        height=info.height,
        width=info.width,
        fps=info.fps,
        prompt=sample["prompt"],
        pixel_scale=int(record.get("pixel_scale", 1)),
        world=record.get("world"),
    )
    watch = Watch(video, metrics)
    for frames in iter_frames(path):
        watch.add(frames)
    if watch.frames != sample["frames"]:
        raise ValueError(f"{path} has {watch.frames} frames; its record says {sample['frames']}")
    return watch.finish()


def read_samples(run: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of the finished samples, and one line for each record that is unusable."""
    samples, problems = [], []
    for path in sorted((run / "samples").glob("*.json")):
        try:
            sample = read_json(path)
            lacking = [key for key in ("sample", "prompt", "video", "sha256", "frames") if key not in sample]
            if lacking:
                raise ValueError(f"{path} lacks {', '.join(lacking)}")
        except ValueError as error:
            problems.append(f"{run.name}: sample {path.stem}: {error}")
        else:
            samples.append(sample)
    return samples, problems


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. ValueError with the file's name if it is missing or not one."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; a run directory has run.json and samples/*.json") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    if type(loaded) is not dict:
        raise ValueError(f"{path} is not a JSON object")
    return loaded


def scores_path(run: Path, metric: Metric) -> Path:
    return run / "scores" / f"{metric.name}@{metric.version}.parquet"


def name_and_version(path: Path) -> tuple[str, int]:
    """Of a scores file. ValueError if its name is not <metric>@<whole number>.parquet."""
    name, _, version = path.stem.rpartition("@")
    if not name or not version.isdigit():
        raise ValueError(f"{path} is not named <metric>@<version>.parquet; move it away")
    return name, int(version)


def read_rows(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=COLUMNS + KEYS)
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are kinds of these
        raise ValueError(f"{path} is unreadable ({error}); delete it and evaluate again") from None


def scored_samples(path: Path, window_seconds: float) -> set[tuple[str, str]]:
    """(sample, video sha256) of what a scores file holds for a window length; empty if there is no file."""
    if not path.exists():
        return set()
    rows = read_rows(path)
    rows = rows[rows["window_seconds"] == window_seconds]
    return set(zip(rows["sample"], rows["video_sha256"], strict=True))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process dies, however it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def add_rows(path: Path, rows: pd.DataFrame) -> None:
    """Put one sample's rows into a scores file, in place of any that it has for the sample and window length."""
    with locked(path.parent):
        if path.exists():
            old = read_rows(path)
            again = old["sample"].isin(rows["sample"]) & old["window_seconds"].isin(rows["window_seconds"])
            rows = pd.concat([old[~again], rows], ignore_index=True) if not again.all() else rows
        temporary = path.with_name(f".{path.name}.part")  # the lock's holder is its only writer
        with open(temporary, "wb") as handle:
            rows.to_parquet(handle, index=False)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
