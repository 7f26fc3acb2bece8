"""Records that were edited, cut off or made to mislead: every command goes through or refuses in one line with the file."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import Command
from record_edits import edited
from record_readers import outcome, readers

from deepforcing.runs import RunDir
from eval.store import add_rows
from experiments.results.runs import read_runs
from experiments.results.scores import read_scores
from experiments.weights import Request, show


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "runs" / scored.name))


def test_all_readers_read_what_was_written(run: Path, tmp_path: Path) -> None:
    for name, read in readers(run, tmp_path).items():
        assert outcome(read, run) == "", name


def faults(run: Path, file: Path, texts: Iterator[tuple[str, str]], out: Path, every: int) -> list[str]:
    """Each edit through the readers of records, every n-th of those that are accepted through all commands."""
    good, found, accepted = file.read_bytes(), [], 0
    chosen = readers(run, out)
    for what, text in texts:
        file.write_text(text)
        quick = outcome(chosen["reproduce"], file)
        found += [f"{what}: {quick}"] if quick.startswith("!") else []
        accepted += quick == ""
        for name in ("rollout", "evaluate") if quick else chosen if accepted % every == 0 else ():
            said = outcome(chosen[name], file)
            cut_off = "is not readable JSON" in quick or "is not a JSON object" in quick
            healed = name == "rollout" and file.parent != run and cut_off  # such a sample counts as not finished
            if said.startswith("!") or (quick and not said and not healed):
                found.append(f"{what}: {name}: {said or 'accepted'}")
    file.write_bytes(good)
    return found


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 12])
def test_records_of_a_run(run: Path, tmp_path: Path, every: int) -> None:
    (sample,) = (run / "samples").glob("*.json")
    for file in (run / "run.json", sample):
        texts = itertools.islice(edited(json.loads(file.read_text())), 0, None, every)
        found = faults(run, file, texts, tmp_path, 6 * every)
        assert not found, "\n".join(found[:20])


def test_what_acts_on_a_terminal_is_written_out_in_errors(run: Path, command: Command) -> None:
    (run / "samples" / "a\x1b[2J.json").write_text("{")
    status, _, err = command("report", f"runs={run}")
    assert (status, err.count("\n")) == (2, 1)
    assert "a\\x1b[2J.json is not readable JSON" in err


def test_nothing_is_written_through_links_of_a_run(run: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (scores,) = (run / "scores").glob("*.parquet")
    rows = pd.read_parquet(scores)
    for link in (run / "scores" / ".lock", run / "scores" / f".{scores.name}.part", run / "samples" / ".a.lock"):
        link.unlink(missing_ok=True)
        link.symlink_to(precious)
        with contextlib.suppress(ValueError, OSError):
            add_rows(scores, rows)
        with contextlib.suppress(ValueError, OSError), RunDir(run).claim("a"):
            pass
        assert precious.read_text() == "keep me"
        link.unlink(missing_ok=True)
    scores.rename(tmp_path / scores.name)
    scores.symlink_to(tmp_path / scores.name)
    with pytest.raises(ValueError, match="leads out of its run directory"):
        read_scores(read_runs([run]), 2.0)
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path))
    entry = {
        "repo": "gdhe17/Self-Forcing",
        "path": "checkpoints/x.pt",
        "sha256": "ab" * 32,
        "bytes": 5,
        "revision": "abc",
    }
    kinds: list[tuple[Path, dict[str, Any], Callable[[], object]]] = [
        (
            tmp_path / "manifest.json",
            {"schema": 1, "Self-Forcing/x.pt": entry},
            lambda: show(Request(["causvid"], root=tmp_path)),
        ),
        (tmp_path / "metrics.json", {"schema": 1, "raft": "ab" * 32}, lambda: show(Request(["metrics"]))),
    ]
    found = []
    for file, record, read in kinds:
        file.write_text(json.dumps(record))
        assert outcome(read, file) == ""
        for what, text in itertools.islice(edited(record), 0, None, every):
            file.write_text(text)
            said = outcome(read, file)
            found += [f"{what}: {said}"] if said.startswith("!") else []
            refused = "remove it to record everything anew" in said
            found += [f"{what}: accepted"] if what.startswith(("cut", "schema = ", "is [")) and not refused else []
        file.unlink()
    assert not found, "\n".join(found[:20])


def test_edits_through_the_command_line(run: Path, tmp_path: Path, command: Command) -> None:
    (sample,) = (run / "samples").glob("*.json")
    edits: dict[Path, dict[str, Any]] = {run / "run.json": {"schema": 2}, sample: {"video": "../../x.mp4"}}
    for file, change in edits.items():
        good = file.read_text()
        file.write_text(json.dumps({**json.loads(good), **change}))
        for name, more in (
            ("evaluate", ()), ("report", (f"out={tmp_path / 'x.html'}",)), ("track", (f"dir={tmp_path / 'wandb'}",)),
            ("figure", ("figure=filmstrip", f"out={tmp_path / 'x.png'}")),
        ):  # fmt: skip
            status, _, err = command(name, f"runs={run}", *more)
            assert status in (1, 2), (name, change)
            assert err.count("\n") == 1
            assert str(file) in err
        file.write_text(good)
    assert not (tmp_path / "x.html").exists()
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match=r"manifest\.json is not a JSON object; remove it to record everything anew"):
        show(Request(["causvid"], root=tmp_path))
