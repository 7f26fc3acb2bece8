"""Making a study of small runs: what its page gives away, and studies that cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, Outcome
from rated_runs import LABELS, make_study, three_runs

from deepforcing.video import iter_frames, probe
from experiments.raters.key import read_key


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return three_runs(tmp_path)


@pytest.fixture
def make(command: Command, runs: list[Path], tmp_path: Path) -> Callable[..., Outcome]:
    return make_study(command, runs, tmp_path)


def test_the_page_does_not_tell_whose_video_is_whose(
    make: Callable[..., Outcome], runs: list[Path], tmp_path: Path
) -> None:
    status, out, _ = make()
    assert status == 0, out
    study = tmp_path / "study"
    key = read_key(study)
    files = [path for path in (study / "page").rglob("*") if path.is_file()]
    assert len(files) == key.videos + 1
    digests = {path.read_bytes() for path in files}
    assert len({path.stat().st_mtime for path in files if path.suffix == ".mp4"}) == 1
    secrets = [*LABELS, *(run.name for run in runs), "deep_forcing", *(p.sha256[0] for p in key.pairs)]
    for content in digests:
        assert not [secret for secret in secrets if secret.encode() in content]
    assert all(re.fullmatch("[0-9a-f]{16}.mp4", path.name) for path in files if path.suffix == ".mp4")
    names = [pair.pair for pair in key.pairs]
    assert names != sorted(names), "names of pairs do not follow the order of the runs"


def test_spoiled_copies_have_the_size_and_length_of_their_original(
    make: Callable[..., Outcome], tmp_path: Path
) -> None:
    make("checks=3")
    key = read_key(tmp_path / "study")
    checks = [pair for pair in key.pairs if pair.opponent is None]
    assert len(checks) == 3
    for pair in checks:
        files = [tmp_path / "study" / "page" / "videos" / f"{name}.mp4" for name in (pair.first, pair.second)]
        intact, spoiled = map(probe, files)
        assert (intact.width, intact.height, intact.fps, intact.frames) == (
            spoiled.width,
            spoiled.height,
            spoiled.fps,
            spoiled.frames,
        )
        a, b = (next(iter_frames(file)).astype(int) for file in files)
        assert abs(a - b).mean() > 20


def test_the_same_command_makes_the_same_study_and_another_is_not_overwritten(
    make: Callable[..., Outcome], tmp_path: Path
) -> None:
    make()
    before = {path: path.read_bytes() for path in (tmp_path / "study").rglob("*") if path.is_file()}
    (tmp_path / "study" / "key.json").unlink()  # killed before the end
    next((tmp_path / "study" / "page" / "videos").iterdir()).unlink()
    assert make().status == 0
    assert {path: path.read_bytes() for path in (tmp_path / "study").rglob("*") if path.is_file()} == before
    status, _, err = make("seed=1")
    assert (status, err.count("\n")) == (2, 1)
    assert "holds another study" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pairs=7"], "pairs=7 is more than there are"),
        (["pairs=1"], "less than one for each of the 2 runs"),
        (["subject=nobody"], "subject=nobody is not one of the runs: ours-and-secret"),
        (["runs=nowhere"], "no such run directory: nowhere"),
        (["pairs=many"], "pairs=many must be a whole number"),
        (["raters=0"], "raters=0 must be a whole number of at least 1"),
    ],
)
def test_studies_that_cannot_be(words: list[str], says: str, make: Callable[..., Outcome], tmp_path: Path) -> None:
    status, out, err = make(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert not (tmp_path / "study").exists()


def test_runs_that_a_rater_would_tell_apart_are_refused(
    make: Callable[..., Outcome], runs: list[Path], tmp_path: Path
) -> None:
    record = next((runs[1] / "samples").glob("*.json"))
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"width": 32}))
    assert "differ in more than their policy" in make().err
    record.write_text(json.dumps(told))
    record.with_suffix(".mp4").write_bytes(b"other")
    assert "is not the video that its record describes" in make("pairs=6").err
    for name in {path.name for path in (runs[0] / "samples").iterdir()}:
        (runs[1] / "samples" / name).write_bytes((runs[0] / "samples" / name).read_bytes())
    assert "made the same video" in make().err
    assert "only ours-and-secret" in make(f"runs={runs[0]}").err
    assert not (tmp_path / "study").exists()


def test_wrong_words(
    make: Callable[..., Outcome], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    monkeypatch.chdir(tmp_path)
    for words, says in {
        "": "say study make or study table",
        "mak": "not 'mak'",
        "table": "studies/study is no study",
        "table study=study": "no answers given",
        "table study=study answers=nothing*.csv": "there is no such file",
        "table study=study answers=x out=t.parquet": "use markdown, latex or csv",
    }.items():
        status, out, err = command("study", *words.split())
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert says in err
