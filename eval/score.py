"""Scoring videos: decode each once, score only what is missing, lose nothing to a kill.

A video is decoded in batches that never cross the border of a clip, and every metric that lacks a score of it sees each
batch once, so memory is bounded by a batch. Scores are written video by video (eval/store.py). A value that could not be
measured in a decoded video is a row with NaN; a video that could not be scored has no rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import av
import cv2
import pandas as pd
import torch

from deepforcing.prompts import shard
from deepforcing.runs import check_writable
from deepforcing.video import uneven
from eval.across import score_set
from eval.measure.metric import ClipInfo, Metric, Row, applies, check_protocol
from eval.measure.one_pass import OnePass
from eval.measure.set_metric import SetMetric
from eval.networks import weights
from eval.protocol import Protocol
from eval.store import COLUMNS, KEYS, add_rows, scored, scores_path, settle, stored
from eval.videos import Video, Videos, checked, open_run

Progress = Callable[[int, int, str], None]


@dataclass
class Scored:
    """What `score` found. table: COLUMNS and KEYS, of every video that has scores, for the metrics asked for.

    problems: one line for each video or score that is missing, and why. absent: {metric: why} of those whose weights
    are not there. decoded: videos decoded by this call. notes: a line each of what is worth knowing.
    """

    table: pd.DataFrame
    problems: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    decoded: int = 0
    notes: list[str] = field(default_factory=list)


def score_run(run_dir: str | os.PathLike[str], metrics: Sequence[Metric], protocol: Protocol | None = None,
              progress: Progress | None = None) -> Scored:  # fmt: skip
    """`score` for a run directory, on the CPU. Raises ValueError if the directory is no run."""
    return score(open_run(run_dir), metrics, protocol or Protocol(), progress=progress)


def score(
    group: Videos,
    metrics: Sequence[Metric],
    protocol: Protocol,
    device: torch.device | None = None,
    progress: Progress | None = None,
    part: str = "0/1",
) -> Scored:
    """Score every video of a group for which a metric is missing under a protocol.

    Metrics for another world are skipped. part i/n: only every n-th video, from the i-th on, and no metric that compares the
    group's videos. progress(done, total, name) is called after each video that needed work. Videos that cannot be read or
    measured, or are not those of their records, end up in `problems`, without new rows, also where all their scores were
    there. Raises ValueError if a scores file is unreadable or a metric does not go with the protocol, OSError if nothing can
    be written.
    """
    device = device or torch.device("cpu")
    applying = [metric for metric in metrics if applies(metric, group.world)]
    check_protocol(applying, protocol)
    across = [metric for metric in applying if isinstance(metric, SetMetric)]
    wanted = [metric for metric in applying if not isinstance(metric, SetMetric)]
    result = Scored(pd.DataFrame(columns=[*COLUMNS, *KEYS]), list(group.problems))
    present: dict[str, str] = {}  # metric -> sha256 of its weights
    for metric in applying:
        try:
            present[metric.name] = weights.fingerprint(metric.weights)
        except ValueError as error:
            result.absent[metric.name] = str(error)
    here = [metric for metric in wanted if metric.name in present]
    paths = {metric.name: scores_path(group.home, metric.name, metric.version) for metric in here}
    done = {metric.name: scored(paths[metric.name], protocol, present[metric.name]) for metric in here}
    todo: dict[Video, list[Metric]] = {
        video: [m for m in here if (video.name, video.sha256, prompt_key(m, video)) not in done[m.name]]
        for video in shard(group.videos, part)
    }
    unfit = unusable([m for m in here if any(m in missing for missing in todo.values())], device)
    result.problems += [f"{name}: {reason}" for name, reason in unfit.items()]
    todo = {video: [m for m in missing if m.name not in unfit] for video, missing in todo.items()}
    total, number = sum(map(bool, todo.values())), 0
    sound: list[Video] = []
    if total:
        check_writable(group.home / "scores", key="out" if group.folder else "runs")
    for video, missing in todo.items():  # with nothing missing too: its file may have gone or been damaged since
        where = f"{group.name}: sample {video.name}"
        try:
            info = checked(video)
            sound.append(video)
            if fault := uneven(video.path):
                result.notes.append(f"{where}: {protocol.without_times(video.path, fault)}")
            if not missing:
                continue
            prompted = []
            for metric in missing:
                if metric.needs_prompt and video.prompt is None:
                    result.problems.append(f"{where}: {metric.name} needs the video's prompt; give prompts=FILE")
                else:
                    prompted.append(metric)
            found = OnePass(prompted, protocol, info, video, group, device)
            if prompted:
                found.run()
                result.decoded += 1
        # A GPU's memory included: the next video may be smaller. What FFmpeg's encoder says is its own kind of error.
        except (ValueError, RuntimeError, cv2.error, av.error.FFmpegError) as error:
            result.problems.append(f"{where}: {' '.join(str(error).split())[:300] or type(error).__name__}")
            sound = [other for other in sound if other is not video]
        else:
            result.problems += [f"{where}: {line}" for line in by_reason(found.failed)]
            for metric in prompted:
                if metric.name in found.failed:
                    continue
                rows = pd.DataFrame(found.rows[metric.name], columns=list(Row._fields))
                rows = rows.assign(
                    run=group.name,
                    sample=video.name,
                    version=metric.version,
                    protocol=protocol.name,
                    video_sha256=video.sha256,
                    weights_sha256=present[metric.name],
                    prompt_sha256=prompt_key(metric, video),
                    window_seconds=protocol.length_key,
                )
                try:
                    add_rows(paths[metric.name], rows[COLUMNS + KEYS])
                except ValueError as error:  # a number that is none, such as an infinite one
                    result.problems.append(f"{where}: {metric.name}: {error}")
        if progress is not None and missing:
            number += 1
            progress(number, total, video.name)
    for comparing in across:
        if comparing.name not in present:
            continue
        if part.endswith("/1"):
            result.problems += score_set(group, sound, comparing, protocol, present[comparing.name], device)
        else:
            result.notes.append(
                f"{group.name}: {comparing.name} compares all videos: run the command once more without shard"
            )
    for path in paths.values():
        settle(path)
    result.table = stored([group], [*wanted, *across], protocol, present)[[*COLUMNS, *KEYS]]
    return result


def unusable(metrics: Sequence[Metric], device: torch.device) -> dict[str, str]:
    """{metric: why} of those whose networks cannot be loaded: told once, before any video is decoded."""
    found = {}
    for metric in metrics:
        if metric.weights:
            try:
                metric.start(ClipInfo(frames=32, fps=16.0, height=480, width=832, prompt=""), device)
            except (ValueError, OSError) as error:
                found[metric.name] = str(error)
    return found


def by_reason(failed: Mapping[str, str]) -> list[str]:
    """A line for each reason: what all metrics of a kind stumble over is said once."""
    names: dict[str, list[str]] = {}
    for name, reason in failed.items():
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(alike)}: {reason}" for reason, alike in names.items()]


def prompt_key(metric: Metric, video: Video) -> str:
    """What of a video's prompt belongs to a score's identity: nothing where the metric does not look at it.

    Metrics of a world do, but of runs alone, where another prompt is another video.
    """
    return video.prompt_sha256 if metric.needs_prompt else ""
