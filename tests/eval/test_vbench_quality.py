"""VBench's Quality against the rows that others published, and as rows of a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval.metrics import DIMENSIONS
from eval.metrics.vbench.quality import QUALITY, RANGES, quality, with_quality
from eval.protocol import Protocol
from eval.score import Scored
from eval.videos import Videos
from experiments.evaluate import write_out

ORDER = (
    "dynamic_degree",
    "motion_smoothness",
    "temporal_flickering",
    "imaging_quality",
    "aesthetic_quality",
    "subject_consistency",
    "background_consistency",
)


@pytest.mark.parametrize(
    ("row", "published"),
    [
        ((56.01, 98.10, 96.88, 68.22, 59.85, 97.35, 96.30), 82.14),  # Deep Forcing, 60 s (Recency Forcing, table 3)
        ((34.50, 98.48, 97.77, 65.93, 56.55, 96.97, 96.24), 80.11),  # Self Forcing
    ],
)
def test_published_rows(row: tuple[float, ...], published: float) -> None:
    scores = {name: value / 100 for name, value in zip(ORDER, row, strict=True)}
    assert 100 * quality(scores) == pytest.approx(published, abs=0.005)


def test_the_ends_of_the_ranges_and_the_weight_of_motion() -> None:
    least = {name: low for name, (low, _, _) in RANGES.items()}
    greatest = {name: high for name, (_, high, _) in RANGES.items()}
    assert quality(least) == pytest.approx(0)
    assert quality(greatest) == pytest.approx(1)
    assert 1 - quality(greatest | {"dynamic_degree": 0.0}) == pytest.approx(0.5 / 6.5)
    assert 1 - quality(greatest | {"motion_smoothness": 0.706}) == pytest.approx(1 / 6.5)
    with pytest.raises(KeyError):
        quality(dict.fromkeys(list(RANGES)[1:], 1.0))


def scores(videos: int = 3, clips: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        ("a", f"p{video}-s0", name, 1, "vbench_long", 2.0 * clip, 2.0 * clip + 2, rng.uniform(0.7, 1), "w" + name)
        for video in range(videos)
        for clip in range(clips)
        for name in [*RANGES, "overall_consistency"]
    ]
    columns = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value", "weights_sha256"]
    return pd.DataFrame(rows, columns=columns)


def test_a_row_for_every_clip_and_the_mean_is_the_quality_of_the_means() -> None:
    table = scores()
    made = with_quality(table)
    pd.testing.assert_frame_equal(made[made["metric"] != QUALITY.name], table)
    found = made[made["metric"] == QUALITY.name]
    assert len(found) == 6
    assert found[["sample", "t_start"]].drop_duplicates().shape == (6, 2)
    means = table.groupby("metric")["value"].mean().to_dict()
    assert found["value"].mean() == pytest.approx(quality(means), abs=1e-12)
    one = table[(table["sample"] == "p1-s0") & (table["t_start"] == 2)].set_index("metric")["value"].to_dict()
    assert quality(one) == pytest.approx(found[(found["sample"] == "p1-s0") & (found["t_start"] == 2)]["value"].item())
    pd.testing.assert_frame_equal(with_quality(made), made)  # again: nothing twice


def test_clips_that_lack_a_dimension_have_no_quality_and_nan_stays_nan() -> None:
    table = scores()
    lacking = (table["sample"] == "p0-s0") & (table["metric"] == "imaging_quality") & (table["t_start"] == 0)
    unknown = (table["sample"] == "p1-s0") & (table["metric"] == "imaging_quality") & (table["t_start"] == 0)
    table.loc[unknown, "value"] = np.nan
    found = with_quality(table[~lacking])
    found = found[found["metric"] == QUALITY.name].set_index(["sample", "t_start"])["value"]
    assert ("p0-s0", 0.0) not in found.index
    assert np.isnan(found["p1-s0", 0.0])
    assert found.notna().sum() == 4
    assert QUALITY.name not in set(with_quality(table[table["metric"] != "dynamic_degree"])["metric"])
    assert with_quality(table[:0]).empty


def test_scores_of_one_clip_under_several_protocols_are_kept_apart() -> None:
    both = pd.concat([scores(), scores().assign(protocol="windows", value=1.0)], ignore_index=True)
    found = with_quality(both)
    found = found[found["metric"] == QUALITY.name].groupby("protocol")["value"].agg(["size", "mean"])
    assert found["size"].to_dict() == {"vbench_long": 6, "windows": 6}
    assert found["mean"]["windows"] == pytest.approx(quality(dict.fromkeys(RANGES, 1.0)))


def test_other_weights_of_one_dimension_are_other_weights_of_the_quality() -> None:
    table = scores(1, 1)
    changed = table.assign(weights_sha256=table["weights_sha256"].replace("wimaging_quality", "other"))
    unsaid = table.assign(weights_sha256=table["weights_sha256"].replace("wimaging_quality", np.nan))
    none = table.assign(
        weights_sha256=table["weights_sha256"].replace("wtemporal_flickering", np.nan)
    )  # it has no network
    one, other, nothing, same = (
        made[made["metric"] == QUALITY.name]["weights_sha256"].item()
        for made in map(with_quality, (table, changed, unsaid, none))
    )
    assert same == one
    assert len(one) == len(other) == 64
    assert one != other
    assert np.isnan(nothing)


def test_the_summary_of_a_folder_has_the_quality_and_its_scores_have_it_clip_by_clip(tmp_path: Path) -> None:
    keys = {"video_sha256": "0" * 64, "prompt_sha256": "", "window_seconds": 0.0, "frames": 32.0}
    table = scores().assign(**keys)
    write_out(tmp_path, Videos("a", tmp_path, ()), Scored(table), DIMENSIONS, Protocol("vbench_long"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["vbench_quality"] == pytest.approx(quality(table.groupby("metric")["value"].mean()), abs=1e-12)
    written = pd.read_parquet(tmp_path / "scores.parquet")
    assert (written["metric"] == QUALITY.name).sum() == 6
    lacking = table[table["metric"] != "dynamic_degree"]
    write_out(tmp_path, Videos("a", tmp_path, ()), Scored(lacking), DIMENSIONS, Protocol("vbench_long"))
    assert "vbench_quality" not in json.loads((tmp_path / "summary.json").read_text())
