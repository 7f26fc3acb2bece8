from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.stats.drift import fluctuation, motion_decay, slope, video_drift_error
from eval.stats.means import curves, first_last, overall, paired_difference, pivot
from eval.stats.samples import ends

NAN = math.nan
COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
MEASURES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "slope": slope,
    "fluctuation": fluctuation,
    "motion_decay": lambda table: motion_decay(table, "m"),
    "video_drift_error": video_drift_error,
}


def tidy(
    videos: dict[str, list[float]], seconds: float = 2.0, run: str = "r", protocol: str = "windows"
) -> pd.DataFrame:
    """{sample: one value per window} -> table of metric m."""
    rows = [
        (run, sample, "m", 1, protocol, k * seconds, (k + 1) * seconds, value)
        for sample, values in videos.items()
        for k, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def only(found: pd.DataFrame) -> float:
    assert len(found) == 1
    return float(found["mean"].iloc[0])


numbers = st.floats(-100, 100)


@settings(max_examples=20)
@given(numbers, numbers, st.lists(st.booleans(), min_size=2, max_size=30), st.floats(0.25, 5))
def test_a_line_has_its_slope_whatever_windows_are_missing(
    per_minute: float, offset: float, known: list[bool], seconds: float
) -> None:
    line = [offset + per_minute * (k + 0.5) * seconds / 60 if there else NAN for k, there in enumerate(known)]
    found = slope(tidy({"a-s0": line}, seconds))
    if sum(known) < 2:
        assert math.isnan(only(found))
        assert found["n"].tolist() == [0]
    else:
        assert only(found) == pytest.approx(per_minute, abs=1e-7)


@settings(max_examples=8)
@given(st.floats(0.1, 100), st.integers(10, 40))
def test_a_constant_does_not_move(value: float, windows: int) -> None:
    table = tidy({"a-s0": [value] * windows})
    assert only(slope(table)) == pytest.approx(0, abs=1e-9)
    assert only(fluctuation(table)) == pytest.approx(0, abs=1e-9)
    assert only(video_drift_error(table)) == pytest.approx(0, abs=1e-9)
    assert only(motion_decay(table, "m")) == pytest.approx(1)


@settings(max_examples=6)
@given(
    st.lists(
        st.lists(st.one_of(st.just(NAN), st.integers(0, 9).map(float)), min_size=20, max_size=20),
        min_size=1,
        max_size=4,
    )
)
def test_the_order_of_rows_and_windows_without_a_value_are_nothing(videos: list[list[float]]) -> None:
    table = tidy({f"p{i}-s0": values for i, values in enumerate(videos)}, 1.0)
    permuted = table.sample(frac=1, random_state=len(videos))
    timeless = table[table["value"].notna() | (table["t_end"] == 20)]  # a video's length is known from its last window
    for name, measure in MEASURES.items():
        expected = measure(table)
        pd.testing.assert_frame_equal(measure(permuted), expected, obj=name)
        if set(timeless["sample"]) == set(table["sample"]):
            pd.testing.assert_frame_equal(measure(timeless), expected, obj=name)


def test_fluctuation_is_the_population_deviation_over_windows() -> None:
    values = [0.0, 1.0, 5.0, NAN, 2.0]
    assert only(fluctuation(tidy({"a-s0": values}))) == pytest.approx(np.nanstd(values))
    assert math.isnan(only(fluctuation(tidy({"a-s0": [1.0, NAN]}))))


def test_motion_decay_is_last_over_first() -> None:
    assert only(motion_decay(tidy({"a-s0": [4.0] * 5 + [9.0] * 2 + [1.0] * 5}, 1.0), "m")) == 0.25
    assert only(motion_decay(tidy({"a-s0": [4.0, 9.0, 9.0, 1.0]}), "m", seconds=2)) == 0.25  # single clips
    still = motion_decay(tidy({"still-s0": [0.0] * 5 + [1.0] * 5, "b-s0": [2.0] * 5 + [1.0] * 5}, 1.0), "m")
    assert still[["mean", "n"]].to_numpy().tolist() == [[0.5, 1]]
    assert math.isnan(only(motion_decay(tidy({"short-s0": [1.0] * 4}), "m")))
    with pytest.raises(ValueError, match="no metric 'flow' in the table; it has m"):
        motion_decay(tidy({"a-s0": [1.0]}), "flow")


@settings(max_examples=12)
@given(st.lists(st.floats(0.5, 10), min_size=10, max_size=10), st.integers(1, 4))
def test_video_drift_error_is_blockvids_sum(means: list[float], windows_per_chunk: int) -> None:
    expected = sum((10 - i + 1) * abs(means[i - 1] - means[0]) / means[0] for i in range(2, 11))
    values = [m for m in means for _ in range(windows_per_chunk)]
    assert only(video_drift_error(tidy({"a-s0": values}))) == pytest.approx(expected)


def test_video_drift_error_is_missing_where_a_chunk_is() -> None:
    assert math.isnan(only(video_drift_error(tidy({"a-s0": [1.0] * 4 + [NAN] + [1.0] * 5}))))
    assert math.isnan(only(video_drift_error(tidy({"a-s0": [1.0] * 9}))))  # windows longer than a chunk
    assert only(video_drift_error(tidy({"a-s0": [1.0, 4.0, 7.0]}, 1.0), chunks=2)) == pytest.approx((6 - 2) / 2)
    assert math.isnan(only(video_drift_error(tidy({"a-s0": [0.0] + [1.0] * 9}))))
    assert only(video_drift_error(tidy({"a-s0": [2.0, 3.0]}), chunks=2)) == 0.5
    with pytest.raises(ValueError, match="chunks=1"):
        video_drift_error(tidy({"a-s0": [1.0]}), chunks=1)


@pytest.mark.parametrize("name", MEASURES)
def test_videos_are_averaged_over_seeds_then_prompts_and_an_empty_table_is_empty(name: str) -> None:
    rng = np.random.default_rng(0)
    videos = {sample: list(rng.uniform(1, 2, 20)) for sample in ("a-s0", "a-s1", "b-s0")}
    alone = [only(MEASURES[name](tidy({sample: values}, 1.0))) for sample, values in videos.items()]
    found = MEASURES[name](tidy(videos, 1.0))
    assert only(found) == pytest.approx(((alone[0] + alone[1]) / 2 + alone[2]) / 2)
    assert found["n"].tolist() == [2]
    assert (found["low"] < found["mean"]).all()
    assert (found["mean"] < found["high"]).all()
    if name != "motion_decay":
        assert len(MEASURES[name](pd.DataFrame(columns=COLUMNS))) == 0


def test_protocols_of_one_run_are_kept_apart() -> None:
    whole = pd.DataFrame([("r", "a-s0", "m", 1, "vbench", 0.0, 20.0, 100.0)], columns=COLUMNS)
    rising = tidy({"a-s0": [float(k) for k in range(20)]}, 1.0)
    table = pd.concat([rising, whole])
    for measure in (*MEASURES.values(), overall, first_last, curves, ends):
        found = measure(table)
        pd.testing.assert_frame_equal(
            found[found["protocol"] == "windows"].reset_index(drop=True), measure(rising), check_dtype=False
        )
        assert set(found["protocol"]) == {"windows", "vbench"}
    assert overall(table).set_index("protocol")["mean"].to_dict() == {"vbench": 100, "windows": 9.5}
    assert math.isnan(slope(table).set_index("protocol").loc["vbench", "mean"])
    with pytest.raises(ValueError, match="one protocol, the table has vbench, windows"):
        pivot(overall(table))
    both = pd.concat([table, table.assign(run="q")])
    with pytest.raises(ValueError, match="one protocol"):
        paired_difference(both, "r", "q", "m")
    assert paired_difference(both[both["protocol"] == "vbench"], "r", "q", "m").n == 1
