"""Scores of windows of any length are found by everything that reads scores, and two lengths are never mixed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Command
from report_runs import add_scores, write_run

from eval.store import load_scores, stored
from eval.videos import open_run
from eval.window_lengths import choose_length, length_of_rows, window_lengths
from experiments.results.runs import find_runs, read_runs
from experiments.results.scores import read_scores, scored_folder


def run_with(root: Path, label: str, *lengths: float, value: float = 0.5) -> Path:
    run = write_run(root, label)
    for length in lengths:
        spans = [(k * length, (k + 1) * length) for k in range(int(12 / length))]
        add_scores(run, "saturation", "windows", spans, value + length / 100, length)
    return run


def folder_with(root: Path, name: str, length: float, fps: float = 16.0) -> Path:
    """What evaluate videos=... writes, as far as tables read it: times are whole frames."""
    path = root / name
    path.mkdir(parents=True)
    frames = round(length * fps) / fps
    rows = [
        (f"v{i}", metric, 1, "windows", k * frames, (k + 1) * frames, 0.1 * i + 0.01 * k)
        for i in range(3)
        for metric in ("saturation", "luma")
        for k in range(6)
    ]
    rows += [(f"v{i}", "clip_drift_first_last", 1, "windows", 0.0, 6 * frames, 0.2) for i in range(3)]
    names = ["sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
    pd.DataFrame(rows, columns=names).to_parquet(path / "scores.parquet")
    (path / "summary.json").write_text(json.dumps({"saturation": 0.1, "about": {}}))
    return path


@pytest.mark.parametrize("length", [0.5, 1.0, 2.0, 4.0])
def test_every_reader_finds_the_length_that_there_is(
    length: float, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [run_with(tmp_path / "runs", label, length, value=value) for label, value in (("a", 0.3), ("b", 0.6))]
    argument = f"runs=[{runs[0]},{runs[1]}]"
    least = load_scores(runs).groupby("run")["value"].min()
    assert least.tolist() == pytest.approx([0.3 + length / 100, 0.6 + length / 100])
    done = command("table", argument, "metrics=saturation", "baseline=a")
    assert done.status == 0, done.err
    assert f"windows of {length:g} s" in done.out
    assert "+0.300" in done.out
    done = command(
        "figure", "figure=filmstrip", argument, "figure.metrics=[saturation]", "figure.frames=3", "out=strip.svg"
    )
    assert done.status == 0, done.err
    assert Path("strip.svg").stat().st_size > 1000
    done = command("report", argument, "out=page.html")
    assert done.status == 0, done.err
    assert f"windows of {length:g} s" in done.out
    assert "Not scored" not in done.out


@pytest.mark.parametrize(("length", "fps"), [(0.5, 16), (0.5, 25), (1.0, 24000 / 1001), (2.0, 29.97), (3.0, 8)])
def test_tables_of_foreign_folders_need_not_be_told(
    length: float, fps: float, tmp_path: Path, command: Command
) -> None:
    folders = [folder_with(tmp_path, name, length, fps) for name in ("one", "two")]
    for number in ("mean", "slope", "fluctuation"):
        call = ("table", f"folders=[{folders[0]},{folders[1]}]", "metrics=all", "baseline=one", f"number={number}")
        done = command(*call)
        assert done.status == 0, done.err
        assert "saturation" in done.out


def test_a_run_of_several_lengths_gives_the_asked_one_or_the_one_that_all_have(tmp_path: Path) -> None:
    runs = read_runs([run_with(tmp_path, "a", 1.0, 2.0, 4.0), run_with(tmp_path, "b", 1.0, 4.0)])
    assert window_lengths_of(tmp_path) == {runs[0].name: [1.0, 2.0, 4.0], runs[1].name: [1.0, 4.0]}
    for wanted, told in ((None, 1.0), (2.0, 2.0), (4.0, 4.0)):
        scores = read_scores(runs, wanted)
        assert scores.window_seconds == told
        spans = (scores.table["t_end"] - scores.table["t_start"]).unique()
        assert spans.tolist() == [told]
    (lacking,) = read_scores(runs, 2.0).other
    assert lacking.startswith(f"{runs[1].name} has windows of about 1 and 4 s, not 2: say window_seconds=1,")
    assert not read_scores(runs, 4.0).other
    assert read_scores(runs[:1]).window_seconds == 2.0  # the usual one


def window_lengths_of(root: Path) -> dict[str, list[float]]:
    return window_lengths(stored([open_run(path) for path in find_runs([f"{root}/*"])], None, None))


def test_different_lengths_are_not_put_in_one_table_or_picture(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = run_with(tmp_path / "runs", "a", 1.0), run_with(tmp_path / "runs", "b", 2.0)
    for words in (
        ("table", "metrics=saturation"),
        ("figure", "figure=filmstrip", "figure.metrics=saturation", "figure.frames=2"),
    ):
        done = command(words[0], f"runs=[{a},{b}]", *words[1:])
        assert done.status == 2
        assert f"{a.name} has windows of about 1 s, not 2: say window_seconds=1, or evaluate it" in done.err
    done = command("report", f"runs=[{a},{b}]", "out=page.html")
    assert done.status == 0
    assert f"{a.name} has windows of about 1 s, not 2" in done.out.replace("\n", " ")
    folders = [folder_with(tmp_path, name, length) for name, length in (("x", 1.0), ("y", 4.0))]
    done = command("table", f"folders=[{folders[0]},{folders[1]}]", "metrics=saturation")
    assert done.status == 2
    assert "has windows of about" in done.err


def test_a_picture_says_which_metric_was_not_scored(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_with(tmp_path / "runs", "a", 1.0)
    done = command("figure", f"runs={run}", "figure.metrics=[presence]")
    assert done.status == 2
    assert "metrics=presence has no scores over windows; there are saturation" in done.err
    done = command("figure", f"runs={write_run(tmp_path / 'runs', 'bare')}", "figure.metrics=[presence]")
    assert "run experiments.evaluate first" in done.err


def test_a_folder_of_whole_clips_has_their_length(tmp_path: Path) -> None:
    rows = pd.DataFrame({"sample": ["a", "b"], "metric": "m", "t_start": 0.0, "t_end": [5.0, 5.0]})
    assert length_of_rows(rows, [1.0, 2.0]) == 5.0
    assert length_of_rows(rows.assign(t_end=2.002), [1.0, 2.0]) == 2.0
    assert np.isnan(length_of_rows(rows[:0], [1.0]))
    folder = scored_folder(folder_with(tmp_path, "f", 0.5, 25))
    assert read_scores([folder]).window_seconds == pytest.approx(0.48)
    assert read_scores([folder], 0.5).window_seconds == 0.5
    assert len(read_scores([folder], 0.5).table) == 39


def test_the_choice_does_not_depend_on_the_order_of_rows() -> None:
    rows = [("a", 1.0), ("a", 2.0), ("b", 1.0), ("c", 0.5), ("c", 1.0), ("c", 4.0)]
    for order in itertools.permutations(rows):
        table = pd.DataFrame(order, columns=["run", "window_seconds"]).assign(protocol="windows")
        assert choose_length(table) == 1.0
        assert choose_length(table, 3.0) == 3.0
    assert choose_length(table[:0]) == 2.0
