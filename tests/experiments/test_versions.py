"""Rows of different code or weights in one table: every table that is written says which are of which."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import Command
from omegaconf import OmegaConf
from scored_runs import PROMPTS, scored_run

from deepforcing.prompts import Sample, prompts_from_texts
from experiments.reproduction.sentences import versions_of
from experiments.results.runs import read_runs
from experiments.sweeps.points import Point, Points
from experiments.sweeps.report import read_points, table_of
from experiments.tables.published import PaperRow
from experiments.tables.table import Column
from experiments.tables.versions import version_notes

VALUES = {"saturation": lambda i, s, t: 0.5 + 0.01 * i}
OLD: dict[str, Any] = {"git_commit": "a" * 40, "git_dirty": False}
NEW: dict[str, Any] = {"git_commit": "b" * 40, "git_dirty": False}
SAID = "Videos were made by different versions of the code: aaaaaaaaaa (sink, 4 of 5 videos of deep_sink); "
SAID += "bbbbbbbbbb with uncommitted changes (1 of 5 videos of deep_sink)."


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Runs of one version, but for one video of the second, which was made after a pull and an edit."""
    made = [scored_run(tmp_path / "runs", name, VALUES, environment=OLD) for name in ("sink", "deep_sink")]
    record = sorted((made[1] / "samples").glob("*.json"))[2]
    record.write_text(json.dumps(json.loads(record.read_text()) | {"environment": NEW | {"git_dirty": True}}))
    return made


def test_every_table_names_the_commits_of_its_rows(two: list[Path], command: Command, tmp_path: Path) -> None:
    runs = f"runs={tmp_path}/runs/*"
    status, out, err = command("table", f"runs=[{two[0]},{two[1]}]", "metrics=[saturation]")
    assert (status, err) == (0, "")
    plain = out.replace("\\_", "_")
    assert SAID in plain
    page = tmp_path / "report.html"
    status, out, err = command("report", f"runs=[{two[0]},{two[1]}]", f"out={page}")
    assert (status, out.count(SAID)) == (0, 1), err
    assert SAID in page.read_text()
    assert SAID in page.with_suffix(".md").read_text().replace("\\_", "_")
    board = tmp_path / "board.html"
    status, out, err = command("leaderboard", runs, f"out={board}", "columns=[saturation]", "baseline=sink")
    assert (status, err) == (0, "")
    for file in (board, board.with_suffix(".md")):
        told = file.read_text().replace("\\_", "_")
        assert "bbbbbbbbbb with uncommitted changes (1 of 5 videos of deep_sink)" in told
    samples = tuple(Sample(prompt, 0) for prompt in prompts_from_texts(list(PROMPTS)))
    points = Points(
        tuple(Point(run.name[:-9], (), OmegaConf.create(), run, 4) for run in two), {}, samples, None, "sink"
    )
    config = OmegaConf.create({"ends": 5, "protocol": "windows", "window_seconds": 2.0, "number": "mean"})
    assert SAID in table_of(points, read_points(points, None), (Column("saturation"),), config).notes
    rows = [PaperRow(name, name) for name in ("sink", "deep_sink")]
    made = dict(zip(("sink", "deep_sink"), read_runs(two), strict=True))
    done: Any = SimpleNamespace(samples=samples, runs=made)
    assert [note.replace("\\_", "_") for note in versions_of(done, rows)] == [SAID]


def test_one_clean_version_is_nothing_to_say_and_a_tree_that_nobody_has_is(tmp_path: Path) -> None:
    clean = [scored_run(tmp_path / "clean", name, VALUES, environment=OLD) for name in ("a", "b")]
    assert version_notes(read_runs(clean)) == []
    dirty = [scored_run(tmp_path / "dirty", "a", VALUES, environment=OLD | {"git_dirty": True})]
    assert version_notes(read_runs(dirty)) == ["All videos were made by aaaaaaaaaa with uncommitted changes."]
    mixed = [clean[0], scored_run(tmp_path / "none", "c", VALUES)]
    package = {"packages": {"deepforcing": "0.9.1"}}
    mixed.append(scored_run(tmp_path / "package", "d", VALUES, environment=package))
    assert version_notes(read_runs(mixed)) == [
        "Videos were made by different versions of the code: aaaaaaaaaa (a); a version that was not recorded (c); "
        "package 0.9.1, no commit recorded (d)."
    ]


def test_weights_are_named_and_of_many_rows_the_few(tmp_path: Path) -> None:
    made = [scored_run(tmp_path, f"r{i}", VALUES, checkpoint="cd" * 32 if i == 3 else "ab" * 32) for i in range(9)]
    assert version_notes(read_runs(made)) == [
        "Rows are of different models: checkpoint ababababab (all others); checkpoint cdcdcdcdcd (r3)."
    ]
