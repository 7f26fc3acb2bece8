"""One video under one protocol: decoded once, every metric's scorers opened, fed and closed on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from deepforcing.video import VideoInfo
from eval.measure.at_once import clips_ahead, clips_at_once, in_order
from eval.measure.batch import Batch, cut, frames_at_once
from eval.measure.metric import ClipInfo, Metric, Row, Scorer, Value, rows_of
from eval.measure.set_metric import SetMetric
from eval.measure.windows import Window, grain
from eval.protocol import Protocol
from eval.reencode import clip_frames, reencoded
from eval.videos import Video, Videos

Started = tuple[Metric, Scorer]
Features = dict[str, Any]  # by metric, of one clip


class OnePass:
    """clips: what the protocol cuts from the video. After `run`:

    features: by metric, what its scorers gave, one after the other. rows: by metric, its scores, but for a SetMetric's,
    which one video has none of. failed: {metric: why}, those without.
    """

    def __init__(
        self, metrics: Sequence[Metric], protocol: Protocol, info: VideoInfo, video: Video, group: Videos,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.protocol, self.video, self.device = protocol, video, device
        self.clips = protocol.clips(info.frames, info.fps)
        if not self.clips:
            raise ValueError(f"{info.frames} frames are less than half a window of {protocol.window_seconds} s")
        coarsest = grain(self.clips, info.frames)
        of_run = (group.pixel_scale, group.world, group.chunks)
        self.whole = ClipInfo(info.frames, info.fps, info.height, info.width, video.prompt, *of_run, coarsest)
        self.at_once = frames_at_once(info.height, info.width, device)
        self.features: dict[str, list[Any]] = {metric.name: [] for metric in metrics}
        self.rows: dict[str, list[Row]] = {}
        self.failed: dict[str, str] = {}
        self.metrics = []
        for metric in metrics:
            if video.scheduled and (metric.needs_prompt or metric.world is not None):
                # A clip is compared with one caption, and a prompt schedule is none.
                self.rows[metric.name] = [row for value in metric.values for row in self._unknown(value)]
            else:
                self.metrics.append(metric)

    def run(self) -> None:
        """Decode and score. Raises ValueError, naming the file, if it breaks off."""
        if self.protocol.encodes:
            self._run_encoded()
        else:
            self._run_stream()
        for metric in self.metrics:
            if metric.name not in self.failed and not isinstance(metric, SetMetric):
                try:
                    self.rows[metric.name] = metric.rows(self.features[metric.name], self.clips)
                except ValueError as error:
                    self.failed[metric.name] = str(error)

    def _unknown(self, value: Value) -> list[Row]:
        whole = Window(0, self.whole.frames, 0.0, self.whole.frames / self.whole.fps)
        spans = [whole] if value.whole else self.clips
        return rows_of(value.name, spans, [math.nan] * len(spans))

    def _run_stream(self) -> None:
        of_video = self._start([metric for metric in self.metrics if metric.span == "video"], self.whole)
        opened: dict[int, list[Started]] = {}
        finished = 0
        for start, batch in cut(self.video.path, self.clips, self.at_once):
            self._feed(of_video, batch, start, self.failed)
            for index, clip in enumerate(self.clips):
                if clip.start <= start < clip.end:
                    if index not in opened:
                        opened[index] = self._start_clip(clip)
                    self._feed(opened[index], batch, start - clip.start, self.failed)
                    if start + len(batch) == clip.end:
                        self._keep(self._finish(opened.pop(index), self.failed))
                        finished += 1
        if finished < len(self.clips):  # a file without an index does not say how many frames can be decoded
            raise ValueError(f"{self.video.path} ends before the {self.whole.frames} frames that it announces")
        self._keep(self._finish(of_video, self.failed))

    def _run_encoded(self) -> None:
        """Each clip through the encoder once more, as VBench-Long writes and reads it."""
        here = self.whole.height, self.whole.width, self.device
        clips, ahead = clips_at_once(*here), clips_ahead(*here)
        batches = (batch for _, batch in cut(self.video.path, self.clips))
        fps = int(self.protocol.clip_fps(self.whole.fps))
        with closing(reencoded(clip_frames(batches, self.clips), fps, ahead, self.at_once)) as encoded:
            started = ((self._start_clip(clip), given) for clip, given in zip(self.clips, encoded, strict=True))
            with closing(in_order(self._score_clip, started, clips)) as scored:
                for found, failed in scored:
                    self._keep(found)
                    self.failed = failed | self.failed

    def _score_clip(self, given: tuple[Sequence[Started], list[Batch]]) -> tuple[Features, dict[str, str]]:
        """Features, and what failed; in a thread of its own."""
        (scorers, batches), first, failed = given, 0, dict[str, str]()
        while batches:
            batch = batches.pop(0)  # what is computed of it goes when it goes
            self._feed(scorers, batch, first, failed)
            first += len(batch)
        return self._finish(scorers, failed), failed

    def _start_clip(self, clip: Window) -> list[Started]:
        fps = self.protocol.clip_fps(self.whole.fps)
        info = replace(self.whole, frames=clip.end - clip.start, fps=fps, grain=1, video=self.whole)
        return self._start([metric for metric in self.metrics if metric.span == "clip"], info)

    def _start(self, metrics: Sequence[Metric], info: ClipInfo) -> list[Started]:
        started: list[Started] = []
        for metric in metrics:
            if metric.name not in self.failed:
                try:
                    started.append((metric, metric.start(info, self.device)))
                except ValueError as error:
                    self.failed[metric.name] = str(error)
        return started

    def _feed(self, scorers: Sequence[Started], batch: Batch, first: int, failed: dict[str, str]) -> None:
        for metric, scorer in scorers:
            if self._goes_on(metric, failed):
                try:
                    scorer.add(batch, first)
                except ValueError as error:
                    failed[metric.name] = str(error)

    def _finish(self, scorers: Sequence[Started], failed: dict[str, str]) -> Features:
        found = {}
        for metric, scorer in scorers:
            if self._goes_on(metric, failed):
                try:
                    found[metric.name] = scorer.finish()
                except ValueError as error:
                    failed[metric.name] = str(error)
        return found

    def _goes_on(self, metric: Metric, failed: Mapping[str, str]) -> bool:
        return metric.name not in self.failed and metric.name not in failed

    def _keep(self, found: Features) -> None:
        for name, feature in found.items():
            self.features[name].append(feature)
