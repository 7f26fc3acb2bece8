"""The table command: four formats, and mistakes in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from commands import Command
from scored_folders import cells, folder, rows

from experiments.tables.table import DIMENSIONS


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
