from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from clips import clip_of, watch_of
from numpy.typing import NDArray

from eval.measure.metric import ClipInfo, Value, applies
from eval.measure.watch import Clip, Frame, Look, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, windows
from eval.metrics import WEIGHT_FREE
from eval.metrics.pixels.exposure import Exposure
from eval.metrics.pixels.saturation import Saturation
from eval.metrics.time.motion_magnitude import FlowLength
from eval.metrics.world.cover import Cover

PROMPT = "a red disc starts at the top and circles clockwise on a grey background"
calls: list[tuple[str, int]] = []


def brightest(info: ClipInfo) -> Look:
    """Says in `calls` when it is started and with which frame it is called."""
    calls.append(("start", info.height))

    def look(frame: Frame) -> float:
        calls.append(("look", int(frame.rgb.max())))
        return float(frame.rgb.max())

    return look


def never(info: ClipInfo) -> Look:
    raise ValueError(f"{info.width} pixels are unlucky")


@dataclass(frozen=True)
class Sees(WindowMetric):
    """A metric that gives its first observation's mean over everything."""

    observed: tuple[Observation, ...]
    name: ClassVar[str] = "sees"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = ()

    @property
    def observes(self) -> tuple[Observation, ...]:
        return self.observed

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {"sees": clip.observed(self.observed[0]).mean(keepdims=True)}


def noise(frames: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def parts(observed: object) -> list[object]:
    """What was observed as arrays: one of all frames, or the fields of what was made of them."""
    return [*vars(observed).values()] if hasattr(observed, "__dict__") else [observed]


@pytest.mark.parametrize("cuts", [range(1, 32), (1,), (16, 16, 31), (0, 7, 32)])
def test_cuts_between_batches_do_not_matter(cuts: Sequence[int]) -> None:
    frames = noise(32, 32, 32)
    frames[24:28] = frames[0]
    whole, cut = (clip_of(frames, 4, PROMPT, 2, "tiny", cuts=where) for where in ((), cuts))
    assert cut.frames == whole.frames == 32
    assert cut.noted.keys() == whole.noted.keys()
    for observation in whole.noted:
        for found, expected in zip(*(parts(clip.observed(observation)) for clip in (cut, whole)), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert np.shape(expected)[:1] in ((32,), ())
    for metric in (metric for metric in WEIGHT_FREE if applies(metric, "tiny")):
        expected = metric.score(whole, windows(32, 4, 1.0))
        for name, numbers in metric.score(cut, windows(32, 4, 1.0)).items():
            np.testing.assert_array_equal(numbers, expected[name])


def peak_bytes(info: ClipInfo, metrics: Sequence[WindowMetric]) -> int:
    """While so many frames are watched, in batches of 5 that are made on the way, and scored in windows of 2 s."""
    watch, frames = watch_of(info, metrics), info.frames
    tracemalloc.start()
    try:
        for first in range(0, frames, 5):
            watch.add(noise(5, info.height, info.width, first))
        clip = watch.finish()
        for metric in metrics:
            metric.score(clip, windows(frames, info.fps, 2.0))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_length() -> None:
    """By some numbers a frame and a picture a window at most. Flow is left out: it is slow, and one number a frame."""
    quick = [metric for metric in WEIGHT_FREE if FlowLength not in metric.observes]
    for info in (ClipInfo(640, 16, 32, 32, PROMPT, 2, "tiny", grain=32), ClipInfo(640, 16, 34, 60)):
        metrics = [metric for metric in quick if applies(metric, info.world)]
        few, many = (peak_bytes(replace(info, frames=frames), metrics) for frames in (640, 1280))
        assert few > 40_000 * 32  # the 32 s that one of them compares with are there, and they are counted
        assert many - few < 640 * 500


def test_more_frames_than_expected_are_taken_too() -> None:
    frames = noise(20, 8, 8)
    few, many = (watch_of(ClipInfo(announced, 16, 8, 8), [Exposure()]) for announced in (3, 100))
    for watch in (few, many):
        watch.add(frames)
    (observation,) = Exposure.observes
    np.testing.assert_array_equal(few.finish().observed(observation), many.finish().observed(observation))
    assert few.finish().observed(observation).shape == (20, 3)


def test_an_observation_of_several_metrics_is_made_once_and_in_order() -> None:
    calls.clear()
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    clip = clip_of(frames, metrics=[Sees((brightest,)), Sees((brightest,)), Exposure()], cuts=[2])
    assert calls == [("start", 4), *(("look", level) for level in range(5))]
    np.testing.assert_array_equal(clip.observed(brightest), np.arange(5.0))


def test_luma_is_made_once_per_frame() -> None:
    frame = Frame(noise(1, 8, 8)[0], 2)
    assert frame.luma is frame.luma


def test_only_what_is_asked_for_is_observed() -> None:
    clip = clip_of(noise(3, 8, 8), metrics=[Saturation()])
    assert set(clip.noted) == set(Saturation.observes)
    with pytest.raises(KeyError):
        Exposure().score(clip, windows(3, 2, 1.0))


def test_what_cannot_be_observed_is_the_matter_of_the_metrics_that_need_it() -> None:
    metrics = [Sees((never,)), Cover(), Exposure()]
    clip = clip_of(noise(16, 8, 12), 16, PROMPT, 1, "tiny", metrics=metrics)
    for _ in range(2):
        with pytest.raises(ValueError, match="12 pixels are unlucky"):
            metrics[0].score(clip, windows(16, 16, 1.0))
        with pytest.raises(ValueError, match="16 x 16"):
            metrics[1].score(clip, windows(16, 16, 1.0))
    assert np.isfinite(metrics[2].score(clip, windows(16, 16, 1.0))["luma"]).all()


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 4, 6), np.uint8),
        np.zeros((2, 4, 6, 3), np.float32),
        np.zeros((2, 6, 4, 3), np.uint8),
        np.zeros((2, 4, 6, 1), np.uint8),
    ],
)
def test_frames_that_are_not_the_videos_are_refused(frames: NDArray[np.uint8]) -> None:
    watch = watch_of(ClipInfo(2, 16, 4, 6), [Exposure()])
    with pytest.raises(ValueError, match=r"uint8 \[b, H, W, 3\] = \[b, 4, 6, 3\]"):
        watch.add(frames)
    assert watch.frames == 0
    with pytest.raises(ValueError, match="no frames"):
        watch.finish()
