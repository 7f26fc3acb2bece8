from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.measure.metric import Value
from eval.stats.drift import of_videos
from eval.stats.means import curves, first_last, overall, paired_difference, paired_differences, pivot
from eval.stats.samples import sample_means

COLUMNS = ["run", "sample", "metric", "version", "t_start", "t_end", "value"]


NAN = math.nan
T_OF_TWO = 12.7062  # Student's t, one degree of freedom: two prompts a distance d apart have mean +- this times d / 2


def tidy(values: dict[tuple[str, str], list[float]], metric: str = "m", seconds: float = 1.0) -> pd.DataFrame:
    """{(run, sample): one value per window} -> table."""
    rows = [
        (run, sample, metric, 1, index * seconds, (index + 1) * seconds, value)
        for (run, sample), series in values.items()
        for index, value in enumerate(series)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_seeds_are_averaged_within_a_prompt_before_prompts() -> None:
    table = tidy({("r", "a-s0"): [1, 0], ("r", "a-s1"): [3, NAN], ("r", "b-s0"): [10, NAN]})
    found = curves(table)
    assert found["mean"].tolist() == [6.0, 0.0]
    assert found["n"].tolist() == [2, 1]
    assert found[["t_start", "t_end"]].to_numpy().tolist() == [[0, 1], [1, 2]]
    assert found.loc[0, ["low", "high"]].tolist() == pytest.approx([6 - 4 * T_OF_TWO, 6 + 4 * T_OF_TWO])
    assert found.loc[1, ["low", "high"]].isna().all()
    assert overall(table)[["mean", "n"]].to_numpy().tolist() == [[((0.5 + 3) / 2 + 10) / 2, 2]]


def test_prompts_with_a_dash_s_in_their_name_keep_it() -> None:
    table = tidy({("r", "a-s-s0"): [1], ("r", "a-s-s1"): [3]})
    assert set(sample_means(table)["prompt_id"]) == {"a-s"}


def test_missing_is_nan_and_never_nothing() -> None:
    table = tidy({("r", "a-s0"): [NAN, NAN], ("r", "b-s0"): [1.0, NAN]})
    found = curves(table)
    assert found["n"].tolist() == [1, 0]
    np.testing.assert_array_equal(found["mean"], [1, NAN])
    assert overall(table)["n"].tolist() == [1]
    alone = overall(table, 1, 2)
    assert alone["n"].tolist() == [0]
    assert alone[["mean", "low", "high"]].isna().all(axis=None)


def test_a_range_weighs_windows_by_the_seconds_that_they_share_with_it() -> None:
    table = tidy({("r", "a-s0"): [1.0, 2.0, 4.0]})
    table.loc[2, "t_end"] = 2.5
    assert overall(table)["mean"].tolist() == [(1 + 2 + 4 * 0.5) / 2.5]
    assert overall(table, 0.5, 2.25)["mean"].tolist() == [(1 * 0.5 + 2 + 4 * 0.25) / 1.75]
    assert overall(table, 0.6, 1.6)["mean"].isna().all()  # no window lies in it
    two = tidy({("r", "a-s0"): [*range(30)]}, seconds=2.0)
    assert first_last(two)[["first", "last"]].to_numpy().tolist() == [
        [(0 * 2 + 1 * 2 + 2) / 5, (27 + 28 * 2 + 29 * 2) / 5]
    ]


@settings(max_examples=30)
@given(
    st.lists(st.one_of(st.just(NAN), st.floats(-100, 100)), min_size=1, max_size=30),
    st.integers(0, 30),
    st.integers(1, 30),
)
def test_windows_that_a_range_does_not_cut_are_taken_whole_or_not_at_all(
    values: list[float], start: int, length: int
) -> None:
    """Nothing rounds in: beside windows of a tenth of a second, which are no sum of powers of two."""
    inside = [v for v in values[start : start + length] if not math.isnan(v)]
    for seconds in (1.0, 0.1):
        found = overall(tidy({("r", "a-s0"): values}, seconds=seconds), start * seconds, (start + length) * seconds)
        assert found["n"].tolist() == [int(bool(inside))]
        np.testing.assert_allclose(found["mean"], [np.mean(inside) if inside else NAN], atol=1e-9)


def test_a_number_of_a_whole_video_says_nothing_of_its_ends() -> None:
    found = first_last(tidy({("r", "a-s0"): [3.0]}, seconds=60.0)).iloc[0]
    assert found[["n_first", "n_last", "n"]].tolist() == [0, 0, 0]
    late = tidy({("r", "a-s0"): [NAN, NAN, 1.0, 1.0, 1.0, 1.0]}, seconds=2.0)  # undefined before 5 s, like replay
    assert first_last(late)[["n_first", "n_last"]].to_numpy().tolist() == [[0, 1]]


def test_first_against_last() -> None:
    up = [1.0] * 5 + [9.0] * 3 + [3.0] * 5
    down = [5.0] * 5 + [9.0] * 3 + [1.0] * 5
    table = first_last(tidy({("r", "a-s0"): up, ("r", "b-s0"): down}))
    told = [f"{name}{end}" for name in ("first", "last", "drift", "abs_drift") for end in ("", "_low", "_high")]
    assert set(table.columns) == {"run", "metric", *told, "drift_p", "n_first", "n_last", "n"}
    found = table.iloc[0]
    assert found[["first", "last", "drift", "abs_drift", "n"]].tolist() == [3, 2, -1, 3, 2]
    bounds = found[["drift_low", "drift_high", "abs_drift_low", "abs_drift_high"]].tolist()
    assert bounds == pytest.approx([-1 - 3 * T_OF_TWO, -1 + 3 * T_OF_TWO, 3 - T_OF_TWO, 3 + T_OF_TWO])


def test_first_against_last_of_a_minute_that_ends_in_a_partial_window() -> None:
    table = tidy({("r", "a-s0"): [*range(60)]})
    table.loc[59, "t_end"] = 957 / 16
    found = first_last(table).iloc[0]
    assert found["first"] == 2
    assert found["last"] == pytest.approx((54 * 3 / 16 + 55 + 56 + 57 + 58 + 59 * 13 / 16) / 5)


def test_first_against_last_of_a_short_or_partly_missing_video_is_missing() -> None:
    table = tidy({("short", "a-s0"): [1.0] * 9, ("gap", "a-s0"): [NAN] * 5 + [1.0] * 7})
    found = first_last(table).set_index("run")
    assert found["n"].tolist() == [0, 0]
    assert found["drift"].isna().all()
    assert found.loc["gap", "last"] == 1
    assert math.isnan(found.loc["short", "last"])


def test_first_last_and_drift_count_their_own_prompts() -> None:
    late = [NAN] * 5 + [1.0] * 7  # like replay, which is undefined at first
    found = first_last(
        tidy({("r", "a-s0"): late, ("r", "b-s0"): [1.0] * 12, ("r", "c-s0"): late, ("r", "d-s0"): [2.0] * 9})
    )
    assert found[["n_first", "n_last", "n"]].to_numpy().tolist() == [[1, 3, 1]]
    assert found[["last_low", "last_high"]].to_numpy().tolist() == [[1, 1]]
    assert found[["drift_low", "abs_drift_high"]].isna().all(axis=None)


def test_runs_metrics_and_prompts_are_kept_apart() -> None:
    table = pd.concat(
        [
            tidy({("r", "a-s0"): [1.0], ("q", "a-s0"): [2.0]}),
            tidy({("r", "a-s0"): [3.0], ("q", "a-s0"): [4.0]}, metric="k"),
        ]
    )
    found = overall(table).set_index(["run", "metric"])["mean"].to_dict()
    assert found == {("r", "m"): 1, ("q", "m"): 2, ("r", "k"): 3, ("q", "k"): 4}
    assert len(curves(table)) == 4


def test_paired_difference_takes_common_samples_only() -> None:
    table = tidy(
        {
            ("a", "p-s0"): [5.0],
            ("a", "p-s1"): [7.0],
            ("a", "q-s0"): [1.0],
            ("a", "only-s0"): [100.0],
            ("b", "p-s0"): [4.0],
            ("b", "p-s1"): [4.0],
            ("b", "q-s0"): [0.0],
            ("b", "lost-s0"): [NAN],
        }
    )
    found = paired_difference(table, "a", "b", "m")
    assert (found.mean, found.n) == (1.5, 2)
    assert (found.low, found.high) == pytest.approx((1.5 - 0.5 * T_OF_TWO, 1.5 + 0.5 * T_OF_TWO))
    assert found.t == pytest.approx(1.5 / (math.sqrt(0.5) / math.sqrt(2)))
    back = paired_difference(table, "b", "a", "m")
    assert (back.mean, back.t) == (-found.mean, pytest.approx(-found.t))
    with pytest.raises(ValueError, match="no run 'c' in the table; it has a, b"):
        paired_difference(table, "a", "c", "m")


def test_pairing_is_sharper_than_the_runs_apart() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 10, 40)
    noise = rng.normal(0.5, 0.1, 40)
    table = tidy(
        {("a", f"{i}-s0"): [base[i] + noise[i]] for i in range(40)} | {("b", f"{i}-s0"): [base[i]] for i in range(40)}
    )
    paired = paired_difference(table, "a", "b", "m")
    assert 0.4 < paired.low < 0.5 < paired.high + 0.05 < 0.65
    assert paired.t > 20
    apart = overall(table).set_index("run")
    assert apart.loc["a", "low"] < apart.loc["b", "high"]


@pytest.mark.parametrize("function", ["curves", "overall", "first_last", "paired"])
def test_every_interval_of_four_prompts_is_students(function: str) -> None:
    """s = 2, so the half width is 3.18245 * 2 / sqrt(4)."""
    values = np.array([-1.0, -1.0, -1.0, 3.0])
    late = {("r", f"{i}-s0"): [0.0] * 5 + [value] * 5 for i, value in enumerate(values)}
    table = tidy(late | {("q", sample): [0.0] * 10 for _, sample in late})
    if function == "curves":
        low, high = curves(table).query("run == 'r' and t_start == 7")[["low", "high"]].iloc[0]
    elif function == "overall":
        low, high = overall(table, 5).query("run == 'r'")[["low", "high"]].iloc[0]
    elif function == "first_last":
        low, high = first_last(table).query("run == 'r'")[["drift_low", "drift_high"]].iloc[0]
    else:
        found = paired_difference(table, "r", "q", "m", 5)
        low, high = found.low, found.high
    assert (low, high) == pytest.approx((-3.18245, 3.18245), abs=1e-5)


def test_pivot_orders_and_marks() -> None:
    table = pd.concat([tidy({("r", "a-s0"): [1.0]}, metric=m) for m in ("other", "up", "down", "plain")])
    values = (Value("down", "", False, ""), Value("plain", "", None, ""), Value("up", "", True, ""))
    wide = pivot(overall(table), values)
    assert list(wide.columns) == ["down ↓", "plain", "up ↑", "other"]
    assert wide.loc["r"].tolist() == [1, 1, 1, 1]
    assert pivot(overall(table), values, "n").loc["r"].tolist() == [1, 1, 1, 1]
    assert math.isnan(pivot(first_last(table), values, "drift").loc["r", "up ↑"])


@pytest.mark.parametrize("function", [curves, overall, first_last])
def test_an_empty_table_gives_an_empty_one(function: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    found = function(pd.DataFrame(columns=COLUMNS))
    assert len(found) == 0
    assert "n" in found.columns


def test_names_that_only_look_like_seeds_are_prompts_of_their_own() -> None:
    """Of videos in a folder: "beach-sunset" and "beach-snow" are not two seeds of "beach"."""
    names = ["beach-sunset", "beach-snow", "p-s0", "p-s12"]
    rows = [("r", name, "m", 1, 0.0, 1.0, float(i)) for i, name in enumerate(names)]
    table = pd.DataFrame(rows, columns=["run", "sample", "metric", "version", "t_start", "t_end", "value"])
    assert sample_means(table).set_index("sample").loc[names, "prompt_id"].tolist() == [*names[:2], "p", "p"]


def test_shares_have_their_own_intervals_everywhere() -> None:
    """Eight videos without any motion: dynamic degree is 0, and nobody knows that it is 0 of all videos."""
    reach = 3.8415 / (8 + 3.8415)
    zeros = {(run, f"{i}-s0"): [0.0] * 10 for i in range(8) for run in "ab"}
    for metric in ("dynamic_degree", "presence", "shape", "replay", "somebody's own"):
        table = tidy(zeros, metric=metric)
        assert overall(table)[["low", "high"]].to_numpy().tolist() == [pytest.approx([0, reach], abs=1e-4)] * 2
        assert curves(table)["high"].tolist() == pytest.approx([reach] * 20, abs=1e-4)
        ends_of = first_last(table).iloc[0]
        names = ["first_high", "last_high", "abs_drift_high", "drift_high", "drift_low"]
        assert ends_of[names].tolist() == pytest.approx([reach] * 4 + [-reach], abs=1e-4)
        assert ends_of[["first_low", "last_low", "abs_drift_low"]].tolist() == [0, 0, 0]
        paired = paired_difference(table, "a", "b", metric)
        assert [paired.low, paired.high, paired.p] == pytest.approx([-reach, reach, 1], abs=1e-4)
        for number, width in (("drift", 4 * reach), ("abs_drift", 2 * reach), ("fluctuation", reach), ("slope", 0)):
            found = paired_difference(of_videos(table, number), "a", "b", metric)
            assert found.high - found.low == pytest.approx(width, abs=1e-4)
    table = tidy(zeros, metric="colour_drift")  # 0 in the first window by construction, and no share
    assert overall(table)[["low", "high"]].to_numpy().tolist() == [[0, 0]] * 2


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_all_differences_at_once_are_those_one_by_one(data: st.DataObject) -> None:
    """Of real numbers and of shares, with samples that a run lacks and values that it lost."""
    values = {"m": st.floats(-5, 5), "presence": st.sampled_from([0.0, 1.0]), "shape": st.floats(0, 1)}
    parts = []
    for metric, of in values.items():
        runs = {
            (run, f"p{i // 2}-s{i % 2}"): data.draw(st.lists(st.one_of(st.just(NAN), of), min_size=2, max_size=2))
            for run in "abc"
            for i in data.draw(st.sets(st.integers(0, 7), min_size=1))
        }
        parts.append(tidy(runs, metric=metric))
    table = pd.concat(parts)
    found = paired_differences(table, "a").set_index(["run", "metric"])
    for run in "bc":
        for metric in values:
            one = paired_difference(table, run, "a", metric)
            if (run, metric) not in found.index:
                assert one.n == 0
                continue
            line = found.loc[(run, metric)]
            wanted = [one.mean, one.low, one.high, one.n, one.p]
            np.testing.assert_allclose(line[["mean", "low", "high", "n", "p"]].astype(float), wanted, atol=1e-12)


def test_nobodys_metric_is_a_share_only_if_all_is_0_or_1() -> None:
    """And 1 of all videos is as little certain as 0 of all."""
    ones = {("r", f"{i}-s0"): [1.0] for i in range(8)}
    assert overall(tidy(ones, metric="presence"))["low"].tolist() == pytest.approx([8 / (8 + 3.8415)], abs=1e-4)
    assert overall(tidy(ones))["low"].tolist() == pytest.approx([8 / (8 + 3.8415)], abs=1e-4)
    fractions = tidy({("r", "a-s0"): [0.25], ("r", "b-s0"): [0.75]})
    assert overall(fractions)["high"].tolist() == pytest.approx([0.5 + 0.25 * T_OF_TWO])


def test_a_share_beyond_one_is_none() -> None:
    table = tidy({("r", "a-s0"): [0.5], ("r", "b-s0"): [37.0]}, metric="dynamic_degree")
    assert overall(table)["high"].tolist() == pytest.approx([18.75 + 18.25 * T_OF_TWO])


def test_what_is_a_share_does_not_depend_on_which_runs_are_compared() -> None:
    values = {("a", "0-s0"): [0.0], ("a", "1-s0"): [1.0], ("b", "0-s0"): [0.0], ("b", "1-s0"): [0.0]}
    table = tidy(values | {("c", "0-s0"): [2.5]})
    found = paired_difference(table, "a", "b", "m")
    assert [found.low, found.high] == pytest.approx([0.5 - 0.5 * T_OF_TWO, 0.5 + 0.5 * T_OF_TWO])


def test_a_third_of_a_share_summed_from_windows_stays_within_it() -> None:
    """Weighted sums round: 1 of every window is 1 of the video, not a bit more."""
    videos = {("r", f"{i}-s0"): [1.0] * 7 for i in range(3)}
    table = tidy(videos, metric="presence", seconds=0.1)
    assert overall(table, 0.0, 0.55)["mean"].tolist() == [1]


def test_differences_of_two_protocols_are_refused() -> None:
    one = tidy({("a", "x-s0"): [1.0], ("b", "x-s0"): [2.0]})
    both = pd.concat([one.assign(protocol="windows"), one.assign(protocol="vbench")])
    with pytest.raises(ValueError, match="one protocol, the table has vbench, windows"):
        paired_difference(both, "a", "b", "m")
    with pytest.raises(ValueError, match="one protocol, the table has vbench, windows"):
        paired_differences(both, "a")
