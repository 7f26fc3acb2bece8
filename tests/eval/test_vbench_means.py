"""One number per metric and protocol: which rows weigh how much."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from eval.stats.vbench import COLUMNS, overall

NAN = math.nan
Row = tuple[str, str, str, float, int]


def table(*rows: Row) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["sample", "metric", "protocol", "value", "frames"])
    return made.assign(t_start=0.0, t_end=made["frames"] / 16)


def number(*rows: Row) -> float:
    (value,) = overall(table(*rows))["value"]
    return float(value)


@pytest.mark.parametrize("metric", ["subject_consistency", "background_consistency"])
def test_vbench_counts_frame_pairs_of_the_consistencies(metric: str) -> None:
    pairs = [np.full(10, 0.5), np.full(30, 0.9)]
    rows = [(f"v{i}", metric, "vbench", float(p.mean()), len(p) + 1) for i, p in enumerate(pairs)]
    assert number(*rows) == pytest.approx(np.concatenate(pairs).mean(), abs=1e-12)


def test_vbench_averages_videos_for_all_others() -> None:
    assert number(("a", "imaging_quality", "vbench", 0.2, 11), ("b", "imaging_quality", "vbench", 0.6, 991)) == 0.4


@pytest.mark.parametrize("protocol", ["vbench_long", "vbench_long_memory", "vbench_last"])
@pytest.mark.parametrize("metric", ["subject_consistency", "dynamic_degree"])
def test_vbench_long_averages_clips_of_all_videos(protocol: str, metric: str) -> None:
    long = [("long", metric, protocol, 1.0, 32)] * 3
    assert number(*long, ("short", metric, protocol, 0.0, 20)) == 0.75


def test_windows_weigh_by_length_within_a_video_only() -> None:
    rows = [
        ("a", "sharpness", "windows", 1.0, 16),
        ("a", "sharpness", "windows", 0.0, 8),
        ("b", "sharpness", "windows", 0.5, 160),
    ]
    assert number(*rows) == pytest.approx((2 / 3 + 0.5) / 2, abs=1e-12)  # not 1 / 2, which all windows alike have


@pytest.mark.parametrize("protocol", ["vbench", "vbench_long", "vbench_long_memory", "vbench_last", "windows"])
@pytest.mark.parametrize("metric", ["subject_consistency", "aesthetic_quality"])
def test_nan_is_left_out_and_never_zero(protocol: str, metric: str) -> None:
    missing = [("a", metric, protocol, NAN, 32), ("b", metric, protocol, NAN, 1)]
    assert math.isnan(number(*missing))
    found = overall(table(*missing, ("c", metric, protocol, 0.8, 16)))
    assert list(found["value"]) == [pytest.approx(0.8, abs=1e-12)]
    assert list(found["videos"]) == [1]


def test_one_row_per_metric_and_protocol() -> None:
    found = overall(
        table(
            ("a", "y", "windows", 0.5, 8),
            ("a", "x", "vbench_long", 0.25, 8),
            ("a", "x", "vbench", 0.75, 8),
            ("b", "x", "vbench", NAN, 8),
        )
    )
    assert found.columns.tolist() == COLUMNS
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        ("x", "vbench", 0.75, 1),
        ("x", "vbench_long", 0.25, 1),
        ("y", "windows", 0.5, 1),
    ]
    assert overall(table()).columns.tolist() == COLUMNS


def test_unfit_tables_are_told() -> None:
    with pytest.raises(ValueError, match="lacks the columns frames, value"):
        overall(table(("a", "x", "vbench", 1.0, 8)).drop(columns=["frames", "value"]))
    with pytest.raises(ValueError, match=r"protocol='vbench2' is unknown"):
        overall(table(("a", "x", "vbench2", 1.0, 8)))
