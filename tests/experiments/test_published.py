"""Ours beside published numbers: means, ends and paired differences against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from experiments.tables.published import PaperRow, beside, beside_differences, column, compare, flat, signs

QUALITY = column("imaging_quality", "mean", "vbench_long")
ROWS = (
    PaperRow("base", "Base | plain", paper={"imaging_quality": 60.0}),
    PaperRow("up", "+ more", paper={"imaging_quality": 61.0}),
    PaperRow("down", "+ less", paper={"imaging_quality": 62.0}),
    PaperRow("gone", "not made", paper={"imaging_quality": 1.0}),
)
RUNS = {"base": "a-1", "up": "b-2", "down": "c-3"}


def table(shifts: dict[str, float], metric: str, protocol: str) -> pd.DataFrame:
    """Six prompts of twenty 1 s windows: level + shift of the run + a line in time."""
    rng = np.random.default_rng(5)
    rows = []
    for prompt, level in enumerate(rng.uniform(0.4, 0.6, 6)):
        for run, shift in shifts.items():
            noise = rng.normal(0, 0.002)
            for t in range(20):
                value = level + shift + noise + 0.01 * t * (-1) ** prompt
                rows.append((run, f"p{prompt}-s0", metric, 1, protocol, float(t), t + 1.0, value))
    return pd.DataFrame(rows, columns=["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"])


def test_means_and_paired_differences() -> None:
    scores = table({"a-1": 0.0, "b-2": 0.02, "c-3": -0.03}, "imaging_quality", "vbench_long")
    made = compare(scores, ROWS, RUNS, [QUALITY], "base", 5.0)
    means = scores.groupby("run")["value"].mean() * 100
    for row, run in RUNS.items():
        assert made.cell(row, QUALITY).value == pytest.approx(means[run])
        assert made.cell(row, QUALITY).n == 6
    assert made.difference("up", QUALITY).value == pytest.approx(means["b-2"] - means["a-1"])
    assert math.isnan(made.difference("base", QUALITY).value)
    assert math.isnan(made.cell("gone", QUALITY).value)
    assert "not made" not in beside_differences(made)
    assert signs(made) == (2, 1, 3)  # of up, down and gone; up has the paper's sign, down has not
    text = beside(made)
    assert "| Base \\| plain | ours | 6 |" in text
    assert "|  | paper |  | 61.00 |" in text
    assert "| not made | ours | – | – |" in text
    assert "|  | paper | +2.00 |" in beside_differences(made)
    lines = flat([made], {}).set_index("row")
    assert lines.loc["down", "paper_difference"] == 2
    assert lines.loc["down", "difference"] < 0


def test_marks_are_adjusted_over_the_table_but_for_speed() -> None:
    runs = {"a-1": 0.0, "b-2": 0.02, "c-3": -0.03}
    speeds = table(runs, "fps", "speed")
    scores = pd.concat([table(runs, "imaging_quality", "vbench_long"), speeds])
    made = compare(scores, ROWS, RUNS, [QUALITY, column("fps", "speed", "speed")], "base", 5.0)
    assert made.comparisons == 2
    p = [made.difference(row, QUALITY).p for row in ("up", "down")]
    assert made.difference("up", QUALITY).holm == pytest.approx(max(2 * min(p), p[0]) if p[0] > p[1] else 2 * p[0])
    assert "]\\* |" in beside_differences(made)
    assert set(flat([made], {})["comparisons"]) == {2}


def test_other_protocols_do_not_count() -> None:
    scores = table({"a-1": 0.0, "b-2": 0.02}, "imaging_quality", "windows")
    made = compare(scores, ROWS, RUNS, [QUALITY], "base", 5.0)
    assert not made.measured(QUALITY)
    assert signs(made) == (0, 0, 3)
    assert beside_differences(made) == ""


@pytest.mark.parametrize(("number", "want"), [("first", 2.0), ("last", 17.0), ("drift", 15.0), ("abs_drift", 15.0)])
def test_ends(number: str, want: float) -> None:
    """Lines that rise for one half of the prompts and fall for the other: signed drifts cancel, sizes do not."""
    scores = table({"a-1": 0.0}, "texture", "windows")
    texture = column("texture", number, "windows")
    cell = compare(scores, ROWS, RUNS, [texture], "base", 5.0).cell("base", texture)
    flat_level = scores.assign(t=scores["t_start"])[scores["t_start"] == 0].groupby("run")["value"].mean()["a-1"]
    expected = 0.15 if number == "abs_drift" else 0.0 if number == "drift" else flat_level
    assert cell.value == pytest.approx(expected, abs=1e-9)
    one = compare(scores[scores["sample"] == "p0-s0"], ROWS, RUNS, [texture], "base", 5.0).cell("base", texture)
    start = scores[(scores["sample"] == "p0-s0") & (scores["t_start"] == 0)]["value"].item()
    assert one.value == pytest.approx(0.01 * want + (0 if "drift" in number else start))


@pytest.mark.parametrize(
    ("metric", "number"), [("beauty", "mean"), ("texture", "median"), ("fps", "mean"), ("texture", "speed")]
)
def test_unknown_columns_are_refused(metric: str, number: str) -> None:
    with pytest.raises(ValueError, match=r"there are|is not one of"):
        column(metric, number, "windows")
