"""Tables as papers print them: what stands in them, and what is not there is said."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Command
from scored_folders import Values, cells, folder, rows

from eval.metrics.vbench.quality import RANGES
from experiments.tables.estimate import Estimate
from experiments.tables.table import Column, Row, Table
from experiments.tables.text import latex_text
from experiments.tables.vbench import as_latex, as_markdown, compare, flat


def compared(runs: dict[str, pd.DataFrame], metrics: list[str], baseline: str | None = None) -> Table:
    table = pd.concat([part.assign(run=name) for name, part in runs.items()])
    return compare(table, [Row(name, name) for name in runs], metrics, baseline)


def cell(table: Table, run: str, metric: str) -> Estimate:
    return table.cell(run, Column(metric, "mean", "vbench_long"))


def difference(table: Table, run: str, metric: str) -> Estimate:
    return table.difference(run, Column(metric, "mean", "vbench_long"))


def test_means_are_hundredfold_and_differences_are_paired() -> None:
    base, other = [0.5, 0.6, 0.9], [0.52, 0.61, 0.93]
    found = compared(
        {"base": rows({"dynamic_degree": base}), "other": rows({"dynamic_degree": other})}, ["dynamic_degree"], "base"
    )
    assert cell(found, "base", "dynamic_degree").value == pytest.approx(100 * np.mean(base))
    versus = difference(found, "other", "dynamic_degree")
    assert versus.value == pytest.approx(2.0)
    half = 4.3027 * 1 / math.sqrt(3)  # the differences are 2, 1, 3: s = 1
    assert (versus.low, versus.high, versus.n) == (
        pytest.approx(2 - half, abs=1e-3), pytest.approx(2 + half, abs=1e-3), 3
    )  # fmt: skip
    shown = cells(as_markdown(found))
    assert shown[:1] + shown[2:4] == [
        ["run", "prompts", "Dynamic Degree ↑"], ["base", "3", "66.67"], ["other", "3", "68.67"]
    ]  # fmt: skip
    assert shown[-1] == ["other", "3", "+2.00 [−0.48, +4.48]"]


def seven(imaging: list[float]) -> Values:
    """Every dimension of VBench's Quality: at the top of its range but for imaging quality."""
    return {name: [high] * len(imaging) for name, (_, high, _) in RANGES.items()} | {"imaging_quality": imaging}


def test_vbench_quality_stands_beside_the_dimensions_it_is_made_of(command: Command, tmp_path: Path) -> None:
    base, other = (folder(tmp_path, name, rows(seven(q))) for name, q in (("a", [0.5, 0.7]), ("b", [0.6, 0.9])))
    status, out, _ = command("table", f"folders=[{base},{other}]", "baseline=a")
    assert status == 0
    header, _, first, second, *_, difference = cells(out)
    assert header[-1] == "VBench Quality ↑"
    want = [100 * (1 - (1 - np.mean(q)) / 6.5) for q in ([0.5, 0.7], [0.6, 0.9])]
    for row, value in zip((first, second), want, strict=True):
        assert row[-1].startswith(f"{value:.2f}")
    assert difference[-1].startswith(f"+{want[1] - want[0]:.2f}")
    assert "VBench Quality rewards standing still" in out
    assert "Dynamic Degree" in out
    assert f"{want[0]:.2f}" in command("table", f"folders={base}", "metrics=vbench_quality").out


def test_without_one_dimension_there_is_no_quality(command: Command, tmp_path: Path) -> None:
    values = seven([0.5, 0.7])
    del values["motion_smoothness"]
    path = folder(tmp_path, "a", rows(values))
    status, out, _ = command("table", f"folders={path}")
    assert status == 0
    assert "Quality ↑" not in out.replace("Imaging Quality ↑", "").replace("Aesthetic Quality ↑", "")
    assert "standing still" not in out
    assert (
        "protocol vbench_long has no scores of vbench_quality"
        in command("table", f"folders={path}", "metrics=vbench_quality").err
    )


def test_the_quality_has_a_course_over_time(command: Command, tmp_path: Path) -> None:
    table = rows(seven([0.5, 0.6]), "windows", clips=10)
    table.loc[(table["metric"] == "imaging_quality") & (table["t_start"] >= 10), "value"] -= 0.13
    path = folder(tmp_path, "a", table)
    status, out, _ = command("table", f"folders={path}", "metrics=vbench_quality", "number=drift", "ends=4")
    assert status == 0
    assert "−2.00" in out  # .13 / 6.5


def test_what_is_missing_is_a_dash_and_said_and_never_zero() -> None:
    runs = {
        "a": rows({"dynamic_degree": [0.5, 0.6], "imaging_quality": [0.7, math.nan]}),
        "b": rows({"dynamic_degree": [0.5, 0.7], "imaging_quality": [math.nan, math.nan]}),
        "c": rows({"imaging_quality": [0.5, 0.6]}),
    }
    found = compared(runs, ["dynamic_degree", "imaging_quality", "motion_smoothness"], "a")
    text = as_markdown(found)
    assert cells(text)[2:5] == [
        ["a", "1–2", "55.00", "70.00", "–"], ["b", "2", "60.00", "–", "–"], ["c", "2", "–", "55.00", "–"]
    ]  # fmt: skip
    assert "Not scored: Dynamic Degree (in c); Motion Smoothness (in no run)." in text
    assert "without any value: Imaging Quality (in b)." in text
    lines = flat(found).set_index(["run", "metric"])
    assert lines.loc[("c", "dynamic_degree"), ["value", "difference", "low"]].isna().all()
    assert lines.loc[("b", "imaging_quality"), "n"] == 0
    assert not (lines["value"] == 0).any()


def test_clear_differences_alone_are_bold_and_the_protocol_is_named_everywhere() -> None:
    up = {"motion_smoothness": [0.5, 0.6, 0.7], "dynamic_degree": [0.1, 0.9, 0.5]}
    down = {"motion_smoothness": [0.4, 0.5, 0.6001], "dynamic_degree": [0.9, 0.1, 0.4]}
    found = compared({"base": rows(up), "x": rows(down)}, ["motion_smoothness", "dynamic_degree"], "base")
    last = cells(as_markdown(found))[-1]
    assert last[2].startswith("**−10.00** [−10.0")
    assert "**" not in last[3]
    for text in (as_markdown(found), as_latex(found)):
        assert "2 s, encoded once more" in text
    assert set(flat(found)["protocol"]) == {"vbench_long"}


def test_stars_are_holms_and_their_number_is_said() -> None:
    """Of 2 runs x 4 metrics: one difference beyond any doubt, one told from zero alone and not among eight."""
    rng = np.random.default_rng(3)
    metrics = ["subject_consistency", "motion_smoothness", "aesthetic_quality", "imaging_quality"]
    base = {metric: rng.uniform(0.4, 0.6, 12).tolist() for metric in metrics}
    noise = {metric: rng.normal(0, 0.01, 12) for metric in metrics}
    noise = {metric: each - each.mean() for metric, each in noise.items()}
    shifts = {"subject_consistency": 0.1, "motion_smoothness": 0.008}
    other = {m: (np.array(base[m]) + noise[m] + shifts.get(m, 0.0005)).tolist() for m in metrics}
    third = {m: (np.array(base[m]) - noise[m]).tolist() for m in metrics}
    found = compared({"base": rows(base), "x": rows(other), "y": rows(third)}, metrics, "base")
    marks = {(run, c.metric): (bool(e.excludes_zero), e.star) for (run, c), e in found.differences.items()}
    assert marks["x", "subject_consistency"] == (True, "*")
    assert marks["x", "motion_smoothness"] == (True, "")
    assert sum(bold for bold, _ in marks.values()) == 2
    p = sorted(e.p for e in found.differences.values())
    assert difference(found, "x", "motion_smoothness").holm == pytest.approx(7 * p[1])
    assert found.comparisons == 8
    line = next(line for line in as_markdown(found).split("Difference from")[1].splitlines() if line.startswith("| x"))
    assert re.findall(r"\\\*|\*\*", line) == ["**", "**", "\\*", "**", "**"]
    assert "+10.63]}{*} & \\textbf{+0.80} {\\scriptsize {[}+0.07, +1.53]} &" in as_latex(found)
    for text in (as_markdown(found), as_latex(found)):
        assert "all 8 comparisons made here" in text
    lines = flat(found).set_index(["run", "metric"])
    assert set(lines["comparisons"]) == {8}
    assert lines.loc[("x", "motion_smoothness"), "difference_p_holm"] == pytest.approx(7 * p[1])
    assert math.isnan(lines.loc[("base", "motion_smoothness"), "difference_p"])


def test_motionless_videos_have_an_interval() -> None:
    """Dynamic degree is 0 or 1 a video; eight zeros are no certainty."""
    zeros, ones = [0.0] * 8, [1.0] * 8
    found = compared(
        {"a": rows({"dynamic_degree": zeros}), "b": rows({"dynamic_degree": zeros})}, ["dynamic_degree"], "a"
    )
    assert [cell(found, "a", "dynamic_degree").low, cell(found, "a", "dynamic_degree").high] == pytest.approx(
        [0, 32.44], abs=0.01
    )
    versus = difference(found, "b", "dynamic_degree")
    assert [versus.low, versus.high] == pytest.approx([-32.44, 32.44], abs=0.01)
    found = compared(
        {"a": rows({"dynamic_degree": zeros}), "b": rows({"dynamic_degree": ones})}, ["dynamic_degree"], "a"
    )
    assert difference(found, "b", "dynamic_degree").low < 100
    assert difference(found, "b", "dynamic_degree").excludes_zero


def test_latex_is_balanced_and_escaped() -> None:
    table = {
        "a_b & 50 % of {x}": rows({"dynamic_degree": [0.1, 0.2]}),
        "y^2~\\z#1$": rows({"dynamic_degree": [0.3, 0.3]}),
    }
    found = compared(table, ["dynamic_degree", "imaging_quality"], "y^2~\\z#1$")
    text = as_latex(found)
    body = text.split("\\begin{tabular}")[1]
    lines = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines if "multicolumn" not in line} == {3}
    bare = re.sub(r"\\[&%$#_{}\\]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "a\\_b \\& 50 \\% of \\{x\\}" in text
    assert "y\\textasciicircum{}2\\textasciitilde{}\\textbackslash{}z\\#1\\$" in text
    assert not re.findall(r"[^\x00-\x7f]", text)
    assert latex_text("−1 – ×") == "$-$1 -- $\\times$"


def test_unequal_clips_are_told() -> None:
    runs = {"a": pd.concat([rows({"dynamic_degree": [0.5]}), rows({"dynamic_degree": [0.5, 1]}, clips=3)[3:]])}
    assert "unequal numbers of clips" in as_markdown(compared(runs, ["dynamic_degree"]))
    assert "unequal" not in as_markdown(compared({"a": rows({"dynamic_degree": [0.5, 1]})}, ["dynamic_degree"]))


def test_unequal_lengths_are_told_where_the_package_weighs_them() -> None:
    table = pd.concat([rows({"subject_consistency": [v]}, "vbench", clips=n) for v, n in ((0.5, 1), (0.7, 2))])
    table["sample"] = [f"p{i}-s0" for i in (0, 1, 1)]
    for metric, told in (("subject_consistency", True), ("dynamic_degree", False)):
        part = table.assign(run="a", metric=metric)
        text = as_markdown(compare(part, [Row("a", "a")], [metric], None))
        assert ("VBench's own Subject Consistency would weigh longer videos more" in text) == told


def test_scores_by_other_weights_are_not_compared(tmp_path: Path, command: Command) -> None:
    table = rows({"dynamic_degree": [0.1, 0.3], "imaging_quality": [0.1, 0.3]})
    paths = [folder(tmp_path, name, table) for name in ("one", "two")]

    def tell(path: Path, dynamic: str) -> None:
        weights = {
            "vbench_long": {"dynamic_degree": dynamic, "imaging_quality": "ii"},
            "windows": {"dynamic_degree": "zz"},
        }
        (path / "summary.json").write_text(json.dumps({"about": {"weights": weights}}))

    tell(paths[0], "aa")
    tell(paths[1], "aa+bb")
    call = ("table", f"folders=[{paths[0]},{paths[1]}]", "metrics=[dynamic_degree,imaging_quality]")
    status, _, err = command(*call)
    assert status == 2
    assert "dynamic_degree (vbench_long) was scored with different weights files (one; two)" in err
    assert command(*call[:2], "metrics=imaging_quality").status == 0
    tell(paths[1], "aa")
    assert command(*call).status == 0
    (paths[1] / "summary.json").unlink()  # nobody knows
    assert command(*call).status == 0


def test_windows_of_another_length_are_told(tmp_path: Path, command: Command) -> None:
    table = rows({"saturation": [0.1, 0.3]}, "windows", clips=3)
    table.loc[table["t_start"] == 4, "t_end"] = 5  # the last is shorter
    whole = rows({"motion_smoothness": [math.nan, math.nan]}, "windows", clips=1).assign(t_end=30.0)  # without weights
    path = folder(tmp_path, "one", pd.concat([table, *[whole.assign(metric=f"m{i}") for i in range(9)]]))
    call = ("table", f"folders={path}", "metrics=saturation")
    assert command(*call).status == 0
    status, _, err = command(*call, "window_seconds=1")
    assert status == 2
    assert "windows of about 2 s, not 1: say window_seconds=2" in err
    clips = folder(tmp_path, "two", pd.concat([table, rows({"saturation": [0.2, 0.2]})]))
    assert (
        command("table", f"folders={clips}", "metrics=saturation", "window_seconds=1", "protocol=vbench_long").status
        == 0
    )
