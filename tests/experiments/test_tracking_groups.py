"""Runs of one group are one more W&B run: a line each of the settings that differ, beside their scores and drifts."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from report_runs import write_run

from experiments.logged import coordinates
from experiments.results.runs import Run, read_runs
from experiments.results.scores import read_scores
from experiments.track import check_figures
from experiments.tracking import Tracker, track


class FakeWandb:
    def __init__(self, root: Path) -> None:
        self.root, self.runs = root, []  # type: ignore[var-annotated]

    def Settings(self, **given: Any) -> dict[str, Any]:  # noqa: N802
        return given

    def Table(self, dataframe: pd.DataFrame) -> pd.DataFrame:  # noqa: N802
        return dataframe

    def Image(self, path: str) -> bytes:  # noqa: N802
        return Path(path).read_bytes()

    def init(self, **given: Any) -> SimpleNamespace:
        if given["job_type"] == "group" and self.root.name == "fails":
            raise RuntimeError("nobody answers")
        directory = self.root / f"offline-run-{len(self.runs)}"
        directory.mkdir(parents=True)
        self.runs.append((given, logged := []))  # type: ignore[var-annotated]
        return SimpleNamespace(
            settings=SimpleNamespace(sync_dir=directory), summary={}, define_metric=lambda *_, **__: None,
            log=lambda values, step: logged.append(values), finish=lambda exit_code=None: None,
        )  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Sinks of 0, 3 and 6 frames; scores rise with the sink, drift is 0 but for the first."""
    paths = [
        write_run(
            tmp_path / "runs", f"sink {sink}", {"shape": lambda i, t, sink=sink: sink + (t if sink == 0 else 0)},
            spec={"prompts": "heldout", "cache": {"sink_frames": sink, "window_frames": 21}},
        )
        for sink in (0, 3, 6)
    ]  # fmt: skip
    return read_runs(paths)


def test_a_group_has_its_settings_and_scores_in_one_table(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_scores(runs, 1.0).table
    found = coordinates(runs, table)
    assert list(found["cache.sink_frames"]) == [0, 3, 6]
    assert "cache.window_frames" not in found, "it is the same in all"
    assert list(found["score/windows/shape"])[1:] == [3, 6]
    assert list(found["drift/windows/shape"])[1:] == [0, 0]
    assert found["drift/windows/shape"][0] > 0
    fake = FakeWandb(tmp_path / "w")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    done = track(runs, table, Tracker(videos=0))
    assert (len(done.written), len(done.groups), len(done.unsynced), done.problems) == (3, 1, 4, [])
    given, (logged,) = fake.runs[-1]
    assert (given["group"], given["job_type"]) == ("heldout", "group")
    pd.testing.assert_frame_equal(logged["parallel_coordinates"], found)
    track(runs[:1], table, Tracker(videos=0))
    assert fake.runs[-1][0]["job_type"] == "rollout", "one run is no group"
    (tmp_path / "front.png").write_bytes(b"a front")
    track(runs[:1], table, Tracker(videos=0, figures=(str(tmp_path / "front.png"),)))
    given, (logged,) = fake.runs[-1]
    assert given["name"] == "heldout: 1 run"
    assert [value for name, value in logged.items() if name.startswith("figures/")] == [b"a front"]


def test_a_group_has_the_figures_that_its_runs_can_have(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure of conf/figure/ and a file; one that these runs cannot have is a line, and nothing is lost for it."""
    fake = FakeWandb(tmp_path / "w")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    sweep = tmp_path / "sweep_budget.png"
    sweep.write_bytes(b"a picture")
    tracker = Tracker(videos=0, figures=("drift", str(sweep), "filmstrip"))
    done = track(runs, read_scores(runs, 1.0).table, tracker)
    assert (done.problems, len(done.notes)) == ([], 1)
    assert done.notes[0].startswith("group heldout: no figure filmstrip: ")
    (logged,) = fake.runs[-1][1]
    assert set(logged) == {"parallel_coordinates", "figures/drift", "figures/sweep_budget"}
    assert logged["figures/sweep_budget"] == b"a picture"
    assert logged["figures/drift"].startswith(b"\x89PNG")
    assert not list(tmp_path.rglob("drift.png")), "what was drawn for W&B stays nowhere else"
    with pytest.raises(ValueError, match=r"figures=drif is no \.png file that is there, and none of .*drift"):
        check_figures(["drift", str(sweep), "drif"], ["drift"])


def test_a_group_that_cannot_be_written_is_one_line(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(tmp_path / "fails"))
    done = track(runs, read_scores(runs, 1.0).table, Tracker(videos=0))
    assert len(done.written) == 3
    assert done.problems == ["not tracked: group heldout: nobody answers"]
