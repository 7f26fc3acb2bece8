"""Tables as papers print them: what stands in them, in four formats, and what is not there is said."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Command

from eval.metrics.vbench.quality import RANGES
from experiments.tables.estimate import Estimate
from experiments.tables.table import DIMENSIONS, Column, Row, Table
from experiments.tables.text import latex_text
from experiments.tables.vbench import as_latex, as_markdown, compare, flat

COLUMNS = ["sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
Values = dict[str, list[float]]  # metric -> one value per prompt


def rows(values: Values, protocol: str = "vbench_long", clips: int = 2) -> pd.DataFrame:
    """Clips of 2 s, all with the value of their video."""
    found = [
        (f"p{i}-s0", metric, 1, protocol, 2.0 * k, 2.0 * k + 2, value)
        for metric, numbers in values.items()
        for i, value in enumerate(numbers)
        for k in range(clips)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def compared(runs: dict[str, pd.DataFrame], metrics: list[str], baseline: str | None = None) -> Table:
    table = pd.concat([part.assign(run=name) for name, part in runs.items()])
    return compare(table, [Row(name, name) for name in runs], metrics, baseline)


def cell(table: Table, run: str, metric: str) -> Estimate:
    return table.cell(run, Column(metric, "mean", "vbench_long"))


def difference(table: Table, run: str, metric: str) -> Estimate:
    return table.difference(run, Column(metric, "mean", "vbench_long"))


def folder(root: Path, name: str, table: pd.DataFrame) -> Path:
    path = root / name
    path.mkdir()
    table.to_parquet(path / "scores.parquet", index=False)
    return path


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


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


def test_drift_of_folders(tmp_path: Path, command: Command) -> None:
    """Two videos of 20 s that lose .01 a window, and two that stay."""
    falling = rows({"imaging_quality": [0.7, 0.5]}, "windows", clips=10)
    falling["value"] -= 0.01 * falling["t_start"] / 2
    one, two = (
        folder(tmp_path, "falling", falling),
        folder(tmp_path, "steady", rows({"imaging_quality": [0.6, 0.6]}, "windows", 10)),
    )
    call = ("table", f"folders=[{one},{two}]", "metrics=imaging_quality", "baseline=steady")
    first = (0.0 * 2 + 0.01 * 2 + 0.02) / 5  # the third window lies half inside
    expected = {"mean": 55.5, "first": 60 - 100 * first, "last": 60 - 9 + 100 * first, "slope": -30.0}
    expected |= {
        "drift": -9 + 200 * first,
        "abs_drift": 9 - 200 * first,
        "fluctuation": 100 * 0.01 * math.sqrt(99 / 12),
    }
    for number, value in expected.items():
        status, out, err = command(*call, f"number={number}")
        assert (status, err) == (0, "")
        assert float(cells(out)[2][2].replace("−", "-")) == pytest.approx(value, abs=0.006), number
        assert ("Imaging Quality ↑" in out) == (number in ("mean", "first", "last"))
        assert ("Imaging Quality Absolute Drift ↓" in out) == (number == "abs_drift")
        assert ("Imaging Quality Fluctuation ↓" in out) == (number == "fluctuation")
        assert ("| Imaging Quality Slope |" in out) == (number == "slope")
        assert ("Numbers: " in out) == (number != "mean")
        assert "windows of 2 s" in out
    assert (
        "videos of 20 s have no first and last 11 s beside each other: say ends=10"
        in command(*call, "number=drift", "ends=11").err
    )
    assert "number=worst: choose among mean, first" in command(*call, "number=worst").err


def test_command_on_folders_in_four_formats(tmp_path: Path, command: Command) -> None:
    dimensions = {name: [0.5, 0.6, 0.7] for name in DIMENSIONS[:3]}
    one = folder(tmp_path, "theirs", rows(dimensions))
    two = folder(tmp_path, "ours", rows({name: [v + 0.1 for v in numbers] for name, numbers in dimensions.items()}))
    what = (f"folders=[{one},{two}]", "baseline=theirs")
    status, out, err = command("table", *what)
    assert (status, err) == (0, "")
    assert cells(out)[0][2:5] == ["Subject Consistency ↑", "Background Consistency ↑", "Temporal Flickering ↑"]
    assert cells(out)[3][:3] == ["ours", "3", "70.00"]
    for ending in ("md", "tex", "csv", "parquet"):
        path = tmp_path / "out" / f"t.{ending}"
        assert command("table", *what, f"out={path}").status == 0
        assert path.stat().st_size
    assert (tmp_path / "out" / "t.md").read_text() == out
    read = pd.read_csv(tmp_path / "out" / "t.csv")
    pd.testing.assert_frame_equal(read, pd.read_parquet(tmp_path / "out" / "t.parquet"), check_dtype=False)
    assert read.loc[read["run"] == "ours", "difference"].dropna().round(6).tolist() == [10.0] * 3
    status, out, _ = command("table", *what, "metrics=[temporal_flickering,subject_consistency]", "format=csv")
    assert status == 0
    assert out.splitlines()[1].split(",")[3] == "temporal_flickering"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["t.csv", "t.md", "t.parquet", "t.tex"]


def test_command_uses_common_videos_and_says_so(tmp_path: Path, command: Command) -> None:
    one = folder(tmp_path, "one", rows({"dynamic_degree": [0.1, 0.3]}))
    two = folder(tmp_path, "two", rows({"dynamic_degree": [0.1, 0.3, 0.8]}))
    out = command("table", f"folders=[{one},{two}]", "metrics=dynamic_degree").out
    assert [line[1:] for line in cells(out)[2:]] == [["2", "20.00"], ["2", "20.00"]]
    assert "Only the 2 videos that every run has; the runs have 2 to 3." in out
    out = command("table", f"folders=[{one},{two}]", "metrics=dynamic_degree", "common=false").out
    assert cells(out)[3] == ["two", "3", "40.00"]


def test_command_reads_run_directories(tmp_path: Path, command: Command) -> None:
    run = tmp_path / "plain-0123abcd"
    (run / "samples").mkdir(parents=True)
    (run / "scores").mkdir()
    (run / "run.json").write_text(json.dumps({"schema": 1, "name": "plain", "label": "Plain one"}))
    record = {"schema": 1, "sample": "p0-s0", "prompt": "p", "prompt_id": "p0", "seed": 0, "frames": 4, "fps": 2}
    record |= {"video": "p0-s0.mp4", "sha256": "aa" * 32}
    (run / "samples" / "p0-s0.json").write_text(json.dumps(record))
    score = {"run": run.name, "sample": "p0-s0", "metric": "temporal_flickering", "version": 1, "t_start": 0.0}
    score |= {"t_end": 2.0, "value": 0.9, "video_sha256": "aa" * 32, "window_seconds": 2.0}
    pd.DataFrame([score]).to_parquet(run / "scores" / "temporal_flickering@1.parquet", index=False)
    status, out, err = command("table", f"runs={run}")
    assert (status, err) == (0, "")
    assert cells(out)[2] == ["Plain one", "1", "–", "–", "90.00", "–", "–", "–", "–", "–"]
    assert "windows of 2 s (not VBench's protocol)" in out
    assert "Not scored: Subject Consistency, " in out


def test_mistakes_are_told_in_one_line(tmp_path: Path, command: Command) -> None:
    both = pd.concat([rows({"dynamic_degree": [0.1]}), rows({"shape": [1.0]}, "windows")])
    path = folder(tmp_path, "a", both)
    empty = tmp_path / "none"
    empty.mkdir()
    for arguments, words in (
        ((), "no runs given"),
        ((f"folders={path}",), "choose protocol=vbench_long or protocol=windows"),
        ((f"folders={path}", "protocol=vbench"), "protocol=vbench was not scored"),
        ((f"folders={path}", "protocol=windows"), "no scores of subject_consistency"),
        ((f"folders={path}", "protocol=windows", "metrics=flow"), "no scores of flow; there are shape"),
        ((f"folders={path}", "protocol=vbench_long", "baseline=b"), "baseline=b is not one of the runs: a"),
        ((f"folders={empty}",), "is no scored folder"),
        ((f"folders={path}", "format=html"), "format=html: use markdown"),
        ((f"folders={path}", f"out={tmp_path}/x.html"), "x.html without a format"),
        ((f"folders={path}", "format=parquet"), "say out=FILE.parquet"),
    ):
        status, _, err = command("table", *arguments)
        assert status == 2, arguments
        assert err.count("\n") == 1
        assert words in err
