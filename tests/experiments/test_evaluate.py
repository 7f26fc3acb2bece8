"""Scoring runs from the command line: nothing twice, and a video that cannot be scored costs no other one."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import BLUE, RED, Command

from eval.protocol import Protocol
from eval.store import load_scores

METRICS = "metrics=[presence,saturation]"


@pytest.fixture
def run(make: Command, tmp_path: Path) -> Path:
    assert make(f"prompts=['{RED}','{BLUE}']").status == 0
    (path,) = (tmp_path / "runs").iterdir()
    return path


def test_scores_what_is_missing_and_nothing_twice(run: Path, command: Command) -> None:
    status, out, err = command("evaluate", f"runs={run}", METRICS, "window_seconds=0.5")
    assert (status, err) == (0, "")
    assert "2 videos scored, 2 of them now" in out
    table = load_scores([run], protocol=Protocol(window_seconds=0.5))
    assert set(table["metric"]) == {"presence", "saturation"}
    assert set(table["sample"]) == {path.stem for path in run.glob("samples/*.mp4")}
    before = {path: path.stat().st_mtime_ns for path in (run / "scores").glob("*.parquet")}
    status, out, err = command("evaluate", f"runs={run}", METRICS, "window_seconds=0.5")
    assert (status, err) == (0, "")
    assert "2 videos scored, 0 of them now" in out
    assert {path: path.stat().st_mtime_ns for path in (run / "scores").glob("*.parquet")} == before
    _, out, _ = command("evaluate", f"runs={run}", "metrics=[saturation,sharpness]", "window_seconds=0.5")
    assert "2 of them now" in out  # the metric that is new


def test_corrupt_video_is_named_and_the_others_are_scored(run: Path, command: Command) -> None:
    bad, good = sorted(run.glob("samples/*.mp4"))
    data = bytearray(bad.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    bad.write_bytes(data)
    status, out, err = command("evaluate", f"runs={run}", METRICS, "window_seconds=0.5")
    assert status == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert bad.stem in err
    assert "1 videos scored, 1 of them now" in out
    assert set(load_scores([run], protocol=Protocol(window_seconds=0.5))["sample"]) == {good.stem}


def test_videos_lost_after_they_were_scored_are_told(run: Path, command: Command) -> None:
    call = ("evaluate", f"runs={run}", METRICS, "window_seconds=0.5")
    assert command(*call).status == 0
    gone, _ = sorted(run.glob("samples/*.mp4"))
    gone.unlink()
    status, out, err = command(*call)
    assert status == 1
    assert "2 videos scored, 0 of them now" in out
    assert gone.stem in err
    assert err.count("\n") == 1


def test_runs_by_pattern_and_by_list(run: Path, command: Command) -> None:
    for runs in (f"runs={run.parent}/*", f"runs=[{run}]", f"runs=[{run},{run}]"):
        status, out, err = command("evaluate", runs, "metrics=saturation", "window_seconds=0.5")
        assert (status, err) == (0, "")
        assert out.count("2 videos scored") == 1


def test_directory_of_runs_is_told_how_to_name_them(run: Path, command: Command) -> None:
    status, _, err = command("evaluate", f"runs={run.parent}")
    assert status == 2
    assert "/*' for all of them" in err


def test_a_backend_that_is_none_is_refused_before_any_work(command: Command) -> None:
    found = command("evaluate", "runs=nowhere", "backend=fast")
    assert (found.status, found.err) == (2, "error: backend=fast: choose plain or compiled\n")
