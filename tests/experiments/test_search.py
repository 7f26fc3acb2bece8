"""Searching settings: trials are ordinary runs in stages, pruned ones keep what they finished, studies go on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from commands import RED, Command, Outcome
from studies import write_study

optuna = pytest.importorskip("optuna")

from deepforcing.runs import RunDir  # noqa: E402
from experiments.searching import study as studies  # noqa: E402
from experiments.searching.importance import importances, storage_of  # noqa: E402


@pytest.fixture
def search(command: Command, checkpoint: Path, tmp_path: Path) -> Command:
    def call(*words: str) -> Outcome:
        given = {"seconds": "2", "prune_at": "[1.3]", "ends": "0.6", "window_seconds": "0.3", "prompts": f"['{RED}']"}
        given |= {"model.checkpoint": str(checkpoint), "runs_root": str(tmp_path / "runs"), "device": "cpu"}
        given |= {
            "out": str(tmp_path / "out.md"),
            "rollout": "['cache=deep_sink']",
            "space": "{cache.retention.sink_frames:{low:2,high:7}}",
            "trials": "3",
            "first": "1",
        }
        typed = {word.partition("=")[0] for word in words}
        return command("search", *(f"{k}={v}" for k, v in given.items() if k not in typed), *words)

    return call


def load(tmp_path: Path) -> optuna.Study:
    return optuna.load_study(
        study_name="search", storage=storage_of(tmp_path / "runs" / ".searches" / "search.journal")
    )


def test_a_pruned_trial_keeps_what_it_finished_and_the_study_goes_on(
    search: Command, command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trial after the first drifts more: it ends at the first stage, whose video is that of a rollout of that length."""
    drifts = iter(range(100))
    monkeypatch.setattr(studies, "measured", lambda *_: (float(next(drifts)), 1.0))
    status, out, err = search("prune_after=1")
    assert (status, err) == (0, ""), err
    trials = load(tmp_path).trials
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    short, long = (RunDir.open(path) for path in trials[1].user_attrs["runs"])
    assert trials[1].params != trials[0].params or short.completed()
    assert len(short.completed()) == 1
    assert trials[1].params == trials[0].params or not long.completed()
    assert not list(long.path.glob("samples/*.partial*"))
    sink = trials[0].params["cache.retention.sink_frames"]
    for seconds, path in zip((1.3, 2), trials[0].user_attrs["runs"], strict=True):
        root = tmp_path / f"rolled{seconds}"
        words = (f"model.checkpoint={checkpoint}", f"prompts=['{RED}']", f"seconds={seconds}", f"runs_root={root}")
        assert (
            command("rollout", "cache=deep_sink", f"cache.retention.sink_frames={sink}", *words, "device=cpu").status
            == 0
        )
        (video,) = root.glob("*/samples/*.mp4")
        assert video.read_bytes() == (Path(path) / "samples" / video.name).read_bytes()
        assert video.parts[-3] == Path(path).name
    assert "pruned at 1.3 s" in out
    assert "1 trial finished, 2 pruned" in (tmp_path / "out.md").read_text()
    assert search("prune_after=1").status == 0
    assert len(load(tmp_path).trials) == 3  # as many as were asked for are there
    assert search("prune_after=1", "seconds=3").err.startswith("error: study search in ")


def test_a_trial_whose_process_is_gone_is_made_again(
    search: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "measured", lambda *_: (1.0, 1.0))
    assert search("trials=1").status == 0
    study = load(tmp_path)
    lost = study.ask()
    lost.suggest_int("cache.retention.sink_frames", 2, 14)
    lost.set_user_attr("process", f"{socket.gethostname()}:{2**22 + 1}")
    mine = study.ask()
    mine.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
    assert [t.number for t in studies.dead(study.trials)] == [lost.number]
    studies.recover(study)
    assert study.trials[lost.number].state.name == "FAIL"
    again = study.ask()
    assert again.suggest_int("cache.retention.sink_frames", 2, 14) == lost.params["cache.retention.sink_frames"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("space={}",), "space is empty"),
        (("space={cache.retention.sink_frames:{low:9,high:2}}",), "low=9 is above high=2"),
        (("space={cache.retention.sink_frames:3}",), "must be a list of values, or"),
        (("space={cache.retention.sink_frames:[]}",), "is an empty list"),
        (("space={cache.retention.sinks:[1]}",), "cache.retention.sinks is not a key here"),
        (("drift=colour_drft",), "metrics=colour_drft: choose among"),
        (("prune_at=[0.7]",), "is less than twice ends"),
        (("name=a/b",), "name=a/b must be letters"),
        (("out=a.txt",), "must end in .md"),
        (("budget=3",), "budget=3 is met by none of 9 settings that were tried: the least that one reads is 21 latent"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], said: str, search: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "REFUSED", 9)
    status, _, err = search(*words)
    assert (status, err.count("\n")) == (2, 1), err
    assert said in err
    assert not (tmp_path / "runs").exists()


def test_places_that_no_journal_can_be_in_are_one_line(search: Command, tmp_path: Path) -> None:
    for place in ("folder/.searches/search.journal/x", "file/.searches"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
        status, _, err = search(f"runs_root={tmp_path / Path(place).parts[0]}")
        assert (status, err.count("\n")) == (2, 1), err
        assert f"{tmp_path / place.removesuffix('/x')}: " in err


def test_a_journal_of_something_else_is_one_line_and_stays_as_it_is(search: Command, tmp_path: Path) -> None:
    home = tmp_path / "runs" / ".searches"
    home.mkdir(parents=True)
    for name, text in (("other", '{"foreign": 1}\n'), ("notes", "not JSON\nat all\n"), ("list", "[1]\n")):
        (home / f"{name}.journal").write_text(text)
        status, _, err = search(f"name={name}")
        assert (status, err.count("\n")) == (2, 1), err
        assert f"{name}.journal is no journal of Optuna's, or damaged: give name=" in err
        assert (home / f"{name}.journal").read_text() == text
    study = optuna.create_study(
        study_name="theirs", storage=storage_of(home / "theirs.journal"), directions=["minimize", "maximize"]
    )
    study.tell(study.ask(), [0.0, 0.0])
    status, _, err = search("name=theirs")
    assert (status, err.count("\n")) == (2, 1), err
    assert "is not experiments.search's: give name=... for a new one" in err


def test_the_setting_that_decides_is_the_important_one(tmp_path: Path) -> None:
    write_study(tmp_path / "runs")
    found, trials = importances(tmp_path / "runs" / ".searches" / "known.journal")
    assert trials == 40
    for shares in found.values():
        assert shares["cache.a"] > 0.7 > shares["cache.b"]
