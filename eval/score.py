"""Scoring videos: decode each once, score only what is missing, lose nothing to a kill.

A video is decoded in batches that never cross the border of a clip, and every metric that lacks a score of it sees each
batch once, so memory is bounded by a batch. Scores are written video by video (eval/store.py). A value that could not be
measured in a decoded video is a row with NaN; a video that could not be scored has no rows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import av
import cv2
import numpy as np
import pandas as pd
import torch
from typing_extensions import TypeIs

from deepforcing.prompts import shard
from deepforcing.runs import check_writable
from deepforcing.script import is_schedule
from deepforcing.video import VideoInfo, uneven
from eval import weights
from eval.across import AcrossVideos, score_set
from eval.batch import Batch, cut
from eval.clip_to_clip import BetweenClips, features, of_joined
from eval.dimension import ClipInfo, ClipScorer, Dimension
from eval.features import FeatureMetric, MeanFeature
from eval.metric import Clip, FloatArray, Metric, Window, applies, grain
from eval.metric import Video as Pictures
from eval.protocol import Protocol
from eval.reencode import Encoder, clip_frames, reencoded
from eval.store import COLUMNS, KEYS, add_rows, scored, scores_path, settle, stored
from eval.videos import Video, Videos, checked, open_run
from eval.watch import Watch

Progress = Callable[[int, int, str], None]
OfOneVideo = Metric | Dimension | FeatureMetric | BetweenClips
Measurement = OfOneVideo | AcrossVideos
Started = tuple[Dimension | FeatureMetric, ClipScorer | MeanFeature]


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


def score_run(run_dir: str | os.PathLike[str], metrics: Sequence[Measurement], protocol: Protocol | None = None,
              progress: Progress | None = None) -> Scored:  # fmt: skip
    """`score` for a run directory, on the CPU. Raises ValueError if the directory is no run."""
    return score(open_run(run_dir), metrics, protocol or Protocol(), progress=progress)


def score(
    group: Videos,
    metrics: Sequence[Measurement],
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
    across = [metric for metric in metrics if isinstance(metric, AcrossVideos)]
    if protocol.encodes and across:
        raise ValueError(f"{across[0].name} is measured on videos' own pixels; use protocol=windows for it")
    alone = [metric for metric in metrics if not isinstance(metric, AcrossVideos)]
    wanted = [metric for metric in alone if not is_weight_free(metric) or applies(metric, group.world)]
    result = Scored(pd.DataFrame(columns=[*COLUMNS, *KEYS]), list(group.problems))
    present: dict[str, str] = {}  # metric -> sha256 of its weights
    for metric in wanted:
        if protocol.encodes and is_weight_free(metric):
            raise ValueError(
                f"{metric.name} is measured on a video's own pixels, and protocol={protocol.name} encodes clips once more; "
                "use protocol=windows or vbench_long_memory for it"
            )
        if isinstance(metric, BetweenClips) and not protocol.encodes:
            raise ValueError(
                f"clips are compared with each other under protocol=vbench_long alone, not {protocol.name}"
            )
        try:
            present[metric.name] = "" if is_weight_free(metric) else weights.fingerprint(metric.weights)
        except ValueError as error:
            result.absent[metric.name] = str(error)
    here = [metric for metric in wanted if metric.name in present]
    paths = {metric.name: scores_path(group.home, metric.name, metric.version) for metric in here}
    done = {metric.name: scored(paths[metric.name], protocol, present[metric.name]) for metric in here}
    todo: dict[Video, list[OfOneVideo]] = {
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
            if not missing:
                continue
            if fault := uneven(video.path):
                result.notes.append(f"{where}: {protocol.without_times(video.path, fault)}")
            prompted = []
            for metric in missing:
                if isinstance(metric, Dimension) and metric.needs_prompt and video.prompt is None:
                    result.problems.append(f"{where}: {metric.name} needs the video's prompt; give prompts=FILE")
                else:
                    prompted.append(metric)
            found = Measured(prompted, protocol, info, video, group, device)
            if prompted:
                found.run()
                result.decoded += 1
        # A GPU's memory included: the next video may be smaller. What FFmpeg's encoder says is its own kind of error.
        except (ValueError, RuntimeError, cv2.error, av.error.FFmpegError) as error:
            result.problems.append(f"{where}: {' '.join(str(error).split())[:300] or type(error).__name__}")
            sound = [other for other in sound if other is not video]
        else:
            result.problems += [f"{where}: {name}: {reason}" for name, reason in found.failed.items()]
            for metric in prompted:
                if metric.name in found.failed:
                    continue
                rows = pd.DataFrame(found.rows[metric.name], columns=["metric", "t_start", "t_end", "frames", "value"])
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
        if part.endswith("/1"):
            result.problems += score_set(group, sound, comparing, protocol)
        else:
            result.notes.append(
                f"{group.name}: {comparing.name} compares all videos: run the command once more without shard"
            )
    for path in paths.values():
        settle(path)
    result.table = stored([group], [*wanted, *across], protocol, present)[[*COLUMNS, *KEYS]]
    return result


def unusable(metrics: Sequence[Measurement], device: torch.device) -> dict[str, str]:
    """{metric: why} of those whose networks cannot be loaded: told once, before any video is decoded."""
    found = {}
    for metric in metrics:
        if isinstance(metric, Dimension | FeatureMetric):
            try:
                metric.start(ClipInfo(frames=32, fps=16.0, height=480, width=832, prompt=""), device)
            except (ValueError, OSError) as error:
                found[metric.name] = str(error)
    return found


class Measured:
    """One video under one protocol: opens, feeds and closes the scorers of its clips.

    rows: by metric, one tuple (value's name, t_start, t_end, frames, value) per clip. failed: {metric: why}, without rows.
    """

    def __init__(
        self, metrics: Sequence[Measurement], protocol: Protocol, info: VideoInfo, video: Video, group: Videos,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.protocol, self.info, self.video, self.group, self.device = protocol, info, video, group, device
        self.clips = protocol.clips(info.frames, info.fps)
        if not self.clips:
            raise ValueError(f"{info.frames} frames are less than half a window of {protocol.window_seconds} s")
        self.metrics = [metric for metric in metrics if is_weight_free(metric)]
        self.between = [metric for metric in metrics if isinstance(metric, BetweenClips)]
        self.rows: dict[str, list[tuple[str, float, float, int, float]]] = {metric.name: [] for metric in metrics}
        self.clip_metrics: list[Dimension | FeatureMetric] = []
        for metric in metrics:
            if isinstance(metric, Dimension) and metric.needs_prompt and video.scheduled:
                unknown = [(c.t_start, c.t_end, c.end - c.start, math.nan) for c in self.clips]
                self.rows[metric.name] = [(metric.name, *clip) for clip in unknown]
            elif isinstance(metric, Dimension | FeatureMetric):
                self.clip_metrics.append(metric)
        self.features: dict[str, list[FloatArray]] = {}
        self.failed: dict[str, str] = {}

    def run(self) -> None:
        """Decode and score. Raises ValueError, naming the file, if it breaks off."""
        if self.protocol.encodes:
            self.run_encoded()
        else:
            self.run_stream()
        for metric in self.clip_metrics:
            if isinstance(metric, FeatureMetric) and metric.name not in self.failed:
                for row in metric.rows(np.stack(self.features[metric.name]), self.clips):
                    frames = round((row.t_end - row.t_start) * self.info.fps)
                    self.rows[metric.name].append((row.metric, row.t_start, row.t_end, frames, row.value))

    def run_stream(self) -> None:
        size = self.info.height, self.info.width
        group, prompt, coarsest = self.group, self.video.prompt or "", grain(self.clips, self.info.frames)
        video = Pictures(*size, self.info.fps, prompt, group.pixel_scale, group.world, group.chunks, coarsest)
        watch = Watch(video, self.metrics, self.info.frames)
        opened: dict[int, list[Started]] = {}
        finished = 0
        for start, batch in cut(self.video.path, self.clips):
            if self.metrics:
                watch.add(batch.colours)
            for index, clip in enumerate(self.clips):
                if clip.start <= start < clip.end:
                    if index not in opened:
                        opened[index] = self.start(clip)
                    self.feed(opened[index], batch, start - clip.start)
                    if start + len(batch) == clip.end:
                        self.finish(opened.pop(index), clip)
                        finished += 1
        if finished < len(self.clips):  # a file without an index does not say how many frames can be decoded
            raise ValueError(f"{self.video.path} ends before the {self.info.frames} frames that it announces")
        if self.metrics:
            watched = watch.finish()
            for metric in self.metrics:
                self.score_windows(metric, watched)

    def run_encoded(self) -> None:
        """Each clip through the encoder once more, as VBench-Long writes and reads it."""
        batches = (batch for _, batch in cut(self.video.path, self.clips))
        fps = int(self.protocol.clip_fps(self.info.fps))
        joined = Encoder(fps) if self.between else None
        for clip, generation in zip(self.clips, reencoded(clip_frames(batches, self.clips), fps), strict=True):
            scorers, first = self.start(clip), 0
            if joined is not None:
                joined.add(generation[0].frames[0])
            for batch in generation:
                self.feed(scorers, batch, first)
                first += len(batch)
            self.finish(scorers, clip)
        file = b"" if joined is None else joined.finish()
        for metric in self.between:
            self.compare(metric, file)

    def compare(self, metric: BetweenClips, joined: bytes) -> None:
        """Clips by their first frames, which were encoded once more already, and now are a video that is encoded again."""
        try:
            extractor = features(metric.dimension, metric.extractor, self.device)
            value = of_joined(joined, {metric.name: extractor})[metric.name]
        except ValueError as error:
            self.failed[metric.name] = str(error)
        else:
            seconds = self.info.frames / self.info.fps
            self.rows[metric.name].append((metric.name, 0.0, seconds, len(self.clips), value))

    def start(self, clip: Window) -> list[Started]:
        fps = self.protocol.clip_fps(self.info.fps)
        info = ClipInfo(clip.end - clip.start, fps, self.info.height, self.info.width, self.video.prompt)
        started: list[Started] = []
        for metric in self.clip_metrics:
            if metric.name not in self.failed:
                try:
                    started.append((metric, metric.start(info, self.device)))
                except ValueError as error:
                    self.failed[metric.name] = str(error)
        return started

    def feed(self, scorers: Sequence[Started], batch: Batch, first: int) -> None:
        for metric, scorer in scorers:
            if metric.name not in self.failed:
                try:
                    scorer.add(batch, first)
                except ValueError as error:
                    self.failed[metric.name] = str(error)

    def finish(self, scorers: Sequence[Started], clip: Window) -> None:
        for metric, scorer in scorers:
            if metric.name in self.failed:
                continue
            if isinstance(scorer, MeanFeature):
                self.features.setdefault(metric.name, []).append(scorer.feature())
            else:
                row = (metric.name, clip.t_start, clip.t_end, clip.end - clip.start, float(scorer.value()))
                self.rows[metric.name].append(row)

    def score_windows(self, metric: Metric, clip: Clip) -> None:
        """Metrics that check a world's caption give NaN for prompt schedules: a video has one caption to be checked against."""
        try:
            if metric.needs != "video" and is_schedule(clip.video.prompt):
                lengths = {v.name: 1 if v.whole else len(self.clips) for v in metric.values}
                values: Mapping[str, FloatArray] = {n: np.full(length, math.nan) for n, length in lengths.items()}
            else:
                values = metric.score(clip, self.clips)
        except ValueError as error:
            self.failed[metric.name] = str(error)
            return
        whole = Window(0, clip.frames, 0.0, clip.frames / clip.video.fps)
        for value in metric.values:
            for span, number in zip([whole] if value.whole else self.clips, values[value.name], strict=True):
                row = (value.name, span.t_start, span.t_end, span.end - span.start, float(number))
                self.rows[metric.name].append(row)


def is_weight_free(metric: Measurement) -> TypeIs[Metric]:
    """Whether a metric looks at windows of the whole video, and needs no network."""
    return not isinstance(metric, Dimension | FeatureMetric | BetweenClips | AcrossVideos)


def prompt_key(metric: Measurement, video: Video) -> str:
    """What of a video's prompt belongs to a score's identity: nothing where the metric does not look at it.

    Metrics of a world do, but of runs alone, where another prompt is another video.
    """
    return video.prompt_sha256 if isinstance(metric, Dimension) and metric.needs_prompt else ""
