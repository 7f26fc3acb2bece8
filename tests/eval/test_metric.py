from __future__ import annotations

import numpy as np
import pytest
from clips import clip_of, watch_of
from hypothesis import given
from hypothesis import strategies as st

from deepforcing.tiny.worlds import find_world
from eval.measure.metric import ClipInfo, applies
from eval.measure.watch import Frame
from eval.measure.windows import Window, distance_from_first, grain, window_mean, windows
from eval.metrics import WEIGHT_FREE
from eval.metrics.world.background import background_pictures


def test_windows_of_a_minute_are_whole_seconds_and_one_long_enough_rest() -> None:
    found = windows(957, 16, 1.0)
    assert len(found) == 60
    assert found[0] == Window(0, 16, 0.0, 1.0)
    assert found[4].t_end == 5.0
    assert found[-1] == Window(944, 957, 59.0, 957 / 16)


@pytest.mark.parametrize(("frames", "ends"), [(32, [16, 32]), (39, [16, 32]), (40, [16, 32, 40]), (8, [8]), (7, [])])
def test_a_partial_window_is_kept_from_half_its_length_on(frames: int, ends: list[int]) -> None:
    assert [w.end for w in windows(frames, 16, 1.0)] == ends


@given(st.integers(0, 400), st.floats(1, 60), st.floats(0.1, 5))
def test_windows_tile_the_video_from_its_start(frames: int, fps: float, seconds: float) -> None:
    if round(seconds * fps) < 1:
        with pytest.raises(ValueError, match="at least one frame"):
            windows(frames, fps, seconds)
        return
    found = windows(frames, fps, seconds)
    assert [w.start for w in found] == [0, *(w.end for w in found)][: len(found)]
    rest = frames - (found[-1].end if found else 0)
    assert 0 <= rest < max(1, seconds * fps / 2)
    for w in found:
        assert 2 * (w.end - w.start) >= seconds * fps - 1
        assert (w.t_start, w.t_end) == (w.start / fps, w.end / fps)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_window_without_frames_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="window_seconds"):
        windows(100, 16, seconds)


def test_window_mean_leaves_nan_out() -> None:
    spans = windows(6, 2, 1.0)
    values = np.array([1.0, np.nan, np.nan, np.nan, 2.0, 4.0])
    np.testing.assert_array_equal(window_mean(values, spans), [1.0, np.nan, 3.0])


def test_distance_from_a_first_window_without_value_is_missing() -> None:
    np.testing.assert_array_equal(distance_from_first(np.array([[0.0, 0], [3, 4], [np.nan, 1]])), [0, 5, np.nan])
    assert np.isnan(distance_from_first(np.array([[np.nan, 0], [3, 4]]))).all()


@pytest.mark.parametrize(("scale", "grain"), [(1, 1), (4, 1), (4, 2), (4, 4), (40, 300)])
def test_the_background_is_the_exact_mean_of_blocks_and_frames(scale: int, grain: int) -> None:
    """Of grey frames, all of which is background; whatever number of frames is summed over at once."""
    size = 16 * scale
    grey = np.random.default_rng(0).integers(0, 256, (9, size, size, 1), dtype=np.uint8)
    frames = grey.repeat(3, 3)
    watch = watch_of(ClipInfo(9, 16, size, size, "", scale, "tiny", grain=grain))
    watch.add(frames)
    spans = [Window(0, 8, 0.0, 0.5), Window(8, 9, 0.5, 0.6)] if grain <= 8 else [Window(0, 9, 0.0, 0.6)]
    for picture, span in zip(background_pictures(watch.finish(), spans), spans, strict=True):
        mean = frames[span.start : span.end].mean(0).reshape(16, scale, 16, scale, 3).mean((1, 3)) / 255
        np.testing.assert_allclose(picture, mean.reshape(-1, 3), rtol=1e-12)


@given(st.integers(1, 400), st.floats(1, 30), st.floats(0.1, 5))
def test_grain_divides_every_border_but_the_end(frames: int, fps: float, seconds: float) -> None:
    if seconds * fps < 1:
        return
    spans = windows(frames, fps, seconds)
    coarsest = grain(spans, frames)
    assert coarsest >= 1
    for span in spans:
        assert span.start % coarsest == 0
        assert span.end % coarsest == 0 or span.end == frames


def test_luma_is_taken_in_decoded_pixels() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    rgb[:2, :2] = (255, 0, 0)
    np.testing.assert_allclose(Frame(rgb, pixel_scale=2).luma, [[0.299 * 255, 0], [0, 0]], atol=0.5)


@pytest.mark.parametrize(
    ("height", "width", "fps", "scale", "message"),
    [
        (4, 6, 16, 4, "divide"),
        (4, 6, 16, 0, "divide"),
        (0, 6, 16, 1, "0 x 6"),
        (4, 6, 0, 1, "fps"),
        (4, 6, float("nan"), 1, "fps"),
    ],
)
def test_a_video_refuses_what_it_cannot_be(height: int, width: int, fps: float, scale: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipInfo(40, fps, height, width, pixel_scale=scale)


def test_names_are_unique_and_every_metric_gives_what_it_declares_from_what_it_observes() -> None:
    names = [value.name for metric in WEIGHT_FREE for value in metric.values]
    assert len(names) == len(set(names))
    assert len({metric.name for metric in WEIGHT_FREE}) == len(WEIGHT_FREE)
    for metric in WEIGHT_FREE:
        world = find_world(metric.world or "tiny")
        assert applies(metric, world.NAME)
        assert applies(metric, None) == (metric.world is None)
        prompt = world.caption([0, 0, 0, 1, 0, 0][: len(world.VOCABULARY)])
        shape = (40, 2 * world.HEIGHT, 2 * world.WIDTH, 3)
        frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        scores = metric.score(clip_of(frames, 16, prompt, 2, world.NAME, metrics=[metric]), windows(40, 16, 1.0))
        assert list(scores) == [value.name for value in metric.values]
        lengths = {value.name: 1 if value.whole else 3 for value in metric.values}
        assert {name: np.shape(numbers) for name, numbers in scores.items()} == {n: (k,) for n, k in lengths.items()}
