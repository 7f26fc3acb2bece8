"""The one protocol of metrics: what a scorer is given, what becomes of its features, and of metrics that cannot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

import eval.dimension
import eval.metric
import eval.metrics.vbench_quality
import eval.weights
from deepforcing.video import probe
from eval import protocol as protocols
from eval.measure import metric as measure
from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Row, Value, check_protocol, rows_of
from eval.measure.one_pass import OnePass
from eval.measure.set_metric import SetMetric
from eval.measure.watch import Clip, Frame, Look, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics import ACROSS, DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.metrics.pixels.saturation import Saturation
from eval.metrics.time.motion_kept import MotionKept
from eval.metrics.vbench import quality
from eval.metrics.vbench.clip_to_clip import BetweenClips
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.metrics.world.presence import Presence
from eval.networks import weights
from eval.protocol import Protocol
from eval.score import score
from eval.videos import Videos, open_run

MakeRun = Callable[..., Path]
CPU = torch.device("cpu")
ONE = Protocol(window_seconds=1.0)
LONG = Protocol("vbench_long")


class Given:
    """A scorer that keeps what it is told; `finish` gives it, once."""

    def __init__(self, info: ClipInfo) -> None:
        self.info = info
        self.indices: list[int] = []

    def add(self, batch: Batch, first: int) -> None:
        self.indices += range(first, first + len(batch))

    def finish(self) -> Given:
        return self


@dataclass(frozen=True)
class Told(Metric):
    """Gives the sum of what its scorers counted."""

    span: Literal["clip", "video"] = "clip"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = ()

    @property
    def name(self) -> str:
        return f"told_{self.span}"

    def start(self, info: ClipInfo, device: torch.device) -> Given:
        return Given(info)

    def rows(self, features: Sequence[Given], clips: Sequence[Window]) -> list[Row]:
        return rows_of(self.name, clips, [sum(len(given.indices) for given in features)] * len(clips))


def passed(run: Path, metrics: Sequence[Metric], protocol: Protocol) -> OnePass:
    group = open_run(run)
    (video,) = group.videos
    found = OnePass(metrics, protocol, probe(video.path), video, group, CPU)
    found.run()
    return found


@pytest.mark.parametrize("protocol", [*(Protocol(name) for name in protocols.NAMES), ONE], ids=lambda p: str(p)[14:40])
def test_scorers_get_every_frame_of_their_span_once_and_in_order(make_run: MakeRun, protocol: Protocol) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 71)})  # not a whole number of clips
    metrics = [Told()] if protocol.encodes else [Told(), Told("video")]
    found = passed(run, metrics, protocol)
    clips = protocol.clips(71, 16.0)
    for given, clip in zip(found.features["told_clip"], clips, strict=True):
        assert given.indices == list(range(clip.end - clip.start))
        assert (given.info.frames, given.info.fps, given.info.video.frames) == (clip.end - clip.start, 16, 71)
    total = sum(clip.end - clip.start for clip in clips)
    assert found.rows["told_clip"] == rows_of("told_clip", clips, [total] * len(clips))
    if not protocol.encodes:
        (given,) = found.features["told_video"]
        assert given.indices == list(range(71))  # those after the last window too
        assert (given.info.world, given.info.pixel_scale, given.info.video) == ("tiny", 8, None)
        assert {row.value for row in found.rows["told_video"]} == {71}


STEPS = ("start", "add", "finish", "rows")


@dataclass(frozen=True)
class Fails(Metric):
    """Raises at one of its steps."""

    step: str
    letter: str
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = ()

    @property
    def name(self) -> str:
        return f"fails_{self.step}_{self.letter}"

    def start(self, info: ClipInfo, device: torch.device) -> Fails:
        self._reached("start")
        return self

    def add(self, batch: Batch, first: int) -> None:
        self._reached("add")

    def finish(self) -> float:
        self._reached("finish")
        return 0.0

    def rows(self, features: Sequence[Any], clips: Sequence[Window]) -> list[Row]:
        self._reached("rows")
        return super().rows(features, clips)

    def _reached(self, step: str) -> None:
        if step == self.step:
            raise ValueError(f"no luck in {step}")


def test_what_fails_costs_itself_and_a_reason_is_said_once(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 32)})
    failing = [Fails(step, letter) for step in STEPS for letter in "ab"]
    found = score(open_run(run), [*failing, Saturation()], ONE)
    where = f"{run.name}: sample aaaaaaaaaa-s0"
    assert sorted(found.problems) == sorted(
        f"{where}: fails_{step}_a, fails_{step}_b: no luck in {step}" for step in STEPS
    )
    assert set(found.table["metric"]) == {"saturation"}
    assert found.table["value"].notna().all()


def unlucky(info: ClipInfo) -> Look:
    """Cannot look at the 21st frame."""
    seen: list[int] = []

    def look(frame: Frame) -> float:
        seen.append(1)
        if len(seen) == 21:
            raise ValueError("no luck with frame 21")
        return 1.0

    return look


@dataclass(frozen=True)
class Unlucky(WindowMetric):
    name: ClassVar[str] = "unlucky"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (Value("unlucky", "", None, ""),)
    observes: ClassVar[tuple[Observation, ...]] = (unlucky,)

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {"unlucky": window_mean(clip.observed(unlucky), windows)}


def test_a_frame_that_cannot_be_looked_at_leaves_no_numbers_of_half_a_video(make_run: MakeRun) -> None:
    """What is noted of frames is shared: whichever metric's turn it was, all of it ends there."""
    run = make_run({"aaaaaaaaaa-s0": (0, 40)})
    found = score(open_run(run), [Saturation(), Unlucky(), Presence(), TemporalFlickering()], ONE)
    assert found.problems == [f"{run.name}: sample aaaaaaaaaa-s0: saturation, unlucky, presence: no luck with frame 21"]
    assert set(found.table["metric"]) == {"temporal_flickering"}


@dataclass(frozen=True)
class Caption(Metric):
    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (Value("a", "", None, ""), Value("b", "", None, "", whole=True))
    world: ClassVar[str | None] = "tiny"

    def start(self, info: ClipInfo, device: torch.device) -> Given:
        raise AssertionError("a schedule is no caption")


def test_a_prompt_schedule_is_unknown_in_every_row_that_a_caption_would_have(make_run: MakeRun) -> None:
    group = open_run(make_run({"aaaaaaaaaa-s0": (0, 32)}))
    (video,) = group.videos
    object.__setattr__(video, "scheduled", True)
    found = OnePass([Caption()], ONE, probe(video.path), video, group, CPU)
    found.run()
    assert [row[:3] for row in found.rows["caption"]] == [("a", 0, 1), ("a", 1, 2), ("b", 0, 2)]
    assert [row.frames for row in found.rows["caption"]] == [16, 16, 32]
    assert all(math.isnan(row.value) for row in found.rows["caption"])


def test_a_number_of_the_whole_video_is_one_row(make_run: MakeRun) -> None:
    found = passed(make_run({"aaaaaaaaaa-s0": (0, 39)}), [MotionKept()], ONE)
    assert [row[:3] for row in found.rows["motion_kept"]] == [("motion_kept", 0.0, 39 / 16)]
    assert found.rows["motion_kept"][0].frames == 39


@dataclass(frozen=True)
class Alike(SetMetric):
    """A metric of a set that has weights: how many videos there are."""

    name: ClassVar[str] = "alike"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (Value("alike", "videos", None, "how many"),)
    weights: ClassVar[tuple[str, ...]] = ("raft",)

    def start(self, info: ClipInfo, device: torch.device) -> Given:
        return Given(info)

    def compare(self, features: Sequence[Sequence[Given]], prompts: Sequence[str]) -> list[Mapping[str, FloatArray]]:
        return [{"alike": np.full(len(own), float(len(features)))} for own in features]


def test_a_metric_of_a_set_belongs_to_its_weights_and_is_absent_without(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = open_run(make_run({"aaaaaaaaaa-s0": (0, 32), "bbbbbbbbbb-s0": (1, 32)}))

    def absent(names: Sequence[str]) -> str:
        raise ValueError("RAFT is not there")

    monkeypatch.setattr(weights, "fingerprint", absent)
    found = score(group, [Alike()], ONE)
    assert (found.absent, found.problems, len(found.table)) == ({"alike": "RAFT is not there"}, [], 0)
    for sha in ("aa", "bb"):
        monkeypatch.setattr(weights, "fingerprint", lambda _, sha=sha: sha)
        table = score(group, [Alike()], ONE).table
        assert table["value"].tolist() == [2.0] * 4
        assert set(table["weights_sha256"]) == {sha}


@pytest.mark.parametrize("name", protocols.NAMES)
def test_under_which_protocols_metrics_are_measured(name: str) -> None:
    protocol = Protocol(name)
    check_protocol(DIMENSIONS, protocol)
    allowed = {
        "windows": {*OVER_TIME, *WEIGHT_FREE, *ACROSS},
        "vbench": {*OVER_TIME, *WEIGHT_FREE, *ACROSS},
        "vbench_long_memory": {*OVER_TIME, *WEIGHT_FREE, *ACROSS},
        "vbench_long": {*OVER_TIME, BetweenClips("subject_consistency", "dino")},
        "vbench_last": {metric for metric in OVER_TIME if metric.name == "flow_magnitude"},
    }[name]
    for metric in (*OVER_TIME, *WEIGHT_FREE, *ACROSS, BetweenClips("subject_consistency", "dino")):
        if metric in allowed:
            check_protocol([metric], protocol)
        else:
            with pytest.raises(ValueError, match=rf"^{metric.name}: measured under protocol=.*, not {name}$"):
                score(Videos("a", Path("nowhere"), (), world=metric.world or "tiny"), [metric], protocol)


def test_earlier_names_are_these() -> None:
    assert eval.metric.Value is measure.Value
    assert eval.dimension.Dimension is measure.Metric
    assert eval.weights.FILES is weights.FILES
    assert eval.metrics.vbench_quality.RANGES is quality.RANGES
