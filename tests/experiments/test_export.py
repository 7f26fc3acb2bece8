"""A folder that travels says all that tables need, nothing of the machine, and no change of it goes unseen."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from commands import Command
from scored_runs import scored_run

from experiments.results.croissant import CORE, RAI
from experiments.results.export import export
from experiments.results.exported import exported_scores, read_exported
from experiments.results.runs import read_runs

FILES = ("SHA256SUMS", "croissant.json", "scores.parquet", "costs.parquet", "videos.csv", "*/run.json")


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    rising = {"sharpness": lambda i, seed, t: i + seed + t / 7, "presence": lambda i, seed, t: 0.5}
    return [
        scored_run(tmp_path / "runs", "plain", rising, seeds=(0, 1), prompts=("=2+3", "a, \"quoted\" one", "ein Gemälde")),
        scored_run(tmp_path / "runs", "other", {"sharpness": lambda i, seed, t: float("nan") if i else 1.0}),
    ]  # fmt: skip


@pytest.fixture
def folder(runs: list[Path], tmp_path: Path) -> Path:
    return export(read_runs(runs), tmp_path / "out" / "folder")


def test_what_comes_back_is_what_went_in(runs: list[Path], folder: Path) -> None:
    own, back = read_runs(runs), read_exported(folder)
    assert [run.label for run in back] == [run.label for run in own]
    for before, after in zip(own, back, strict=True):
        kept = set(after.samples[0]) & set(before.samples[0])
        assert kept >= {"sample", "prompt_id", "prompt", "seed", "sha256", "fps", "frames", "width", "height"}
        for one, other in zip(before.samples, after.samples, strict=True):
            assert {key: one[key] for key in kept} == {key: other[key] for key in kept}
    rows = exported_scores(back)
    for run in runs:
        for file in (run / "scores").glob("*.parquet"):
            wanted = pd.read_parquet(file).sort_values(["sample", "t_start"])
            found = rows[(rows["run"] == run.name) & (rows["metric"] == file.stem.partition("@")[0])]
            pd.testing.assert_series_equal(
                wanted["value"].reset_index(drop=True), found["value"].reset_index(drop=True), check_exact=True
            )


def test_nothing_of_the_machine_travels(folder: Path) -> None:
    for file in folder.rglob("*"):
        assert not file.is_file() or b"/home/somebody" not in file.read_bytes(), file
    assert not list(folder.rglob("*.mp4"))


@pytest.mark.parametrize("pattern", FILES)
def test_a_changed_byte_is_seen(folder: Path, pattern: str, command: Command, tmp_path: Path) -> None:
    file = sorted(folder.glob(pattern))[0]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    found = command("leaderboard", f"folders={folder}", f"out={tmp_path / 'page.html'}")
    assert found.status == 2
    assert len(found.err.splitlines()) == 1
    assert "SHA256SUMS" in found.err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("pattern", FILES)
def test_a_missing_file_is_seen(folder: Path, pattern: str) -> None:
    sorted(folder.glob(pattern))[0].unlink()
    with pytest.raises(ValueError, match=r"is missing|no exported folder"):
        read_exported(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_checksums_lead_nowhere_else(folder: Path, name: str) -> None:
    with open(folder / "SHA256SUMS", "a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(ValueError, match=r"SHA256SUMS, line 7"):
        read_exported(folder)


def resealed(folder: Path, name: str, data: bytes) -> None:
    """A file changed together with its checksum, by whoever can."""
    old = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / name).write_bytes(data)
    sums = (folder / "SHA256SUMS").read_text()
    (folder / "SHA256SUMS").write_text(sums.replace(old, hashlib.sha256(data).hexdigest()))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("a red disc", "a red ring", "line 8: the sample's name is not that of its prompt and seed"),
        (",16,", ",-1,", "line 2: fps"),
        ("ein Gemälde", "ein\x07Gemälde", "control character"),
        ("other-", "nobody-", "videos of nobody-"),
    ],
)
def test_videos_that_cannot_be_are_refused(folder: Path, old: str, new: str, said: str) -> None:
    text = (folder / "videos.csv").read_text()
    assert old in text
    resealed(folder, "videos.csv", text.replace(old, new).encode())
    with pytest.raises(ValueError, match=said):
        read_exported(folder)


def test_croissant_has_what_the_specification_asks_for(folder: Path) -> None:
    """Required properties of Croissant 1.0 and the fields of responsible AI that NeurIPS 2026 asks for; every file is there
    with its checksum, every field is a column of its file."""
    about = json.loads((folder / "croissant.json").read_text())
    assert about["@type"] == "sc:Dataset"
    assert about["conformsTo"] == [CORE, RAI]
    for key in ("name", "description", "license", "url", "creator", "datePublished", "version"):
        assert about[key], key
    for key in ("Limitations", "Biases", "UseCases", "SocialImpact", "Collection"):
        assert about[f"rai:data{key}"], key
    assert about["rai:personalSensitiveInformation"]
    assert about["rai:hasSyntheticData"] is True
    files = {each["@id"]: each for each in about["distribution"]}
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert set(files) == there - {"croissant.json", "SHA256SUMS"}
    for name, each in files.items():
        assert each["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert each["contentSize"] == f"{(folder / name).stat().st_size} B"
    columns = {name: pq.read_schema(folder / name).names for name in ("scores.parquet", "costs.parquet")}
    columns["videos.csv"] = next(csv.reader((folder / "videos.csv").read_text().splitlines()))
    known = {f"{prefix}:" for prefix in about["@context"]}
    for part in about["recordSet"]:
        for each in part["field"]:
            source = each["source"]
            assert source["extract"]["column"] in columns[source["fileObject"]["@id"]]
            assert each["dataType"].partition(":")[0] + ":" in known


def test_an_export_is_replaced_and_other_folders_are_not(
    command: Command, runs: list[Path], folder: Path, tmp_path: Path
) -> None:
    again = command("export", f"runs={runs[0]}", f"out={folder}")
    assert again.status == 0, again.err
    assert [run.name for run in read_exported(folder)] == [runs[0].name]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    refused = command("export", f"runs={runs[0]}", f"out={mine}")
    assert refused.status == 2
    assert "holds other files" in refused.err
    assert [file.name for file in mine.iterdir()] == ["thesis.tex"]


def test_runs_without_scores_are_refused(command: Command, runs: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(runs[1] / "scores")
    found = command("export", f"runs=[{runs[0]},{runs[1]}]", f"out={tmp_path / 'new'}")
    assert found.status == 2
    assert "experiments.evaluate" in found.err
    assert not (tmp_path / "new").exists()


def test_other_tables_read_the_folder_too(command: Command, runs: list[Path], folder: Path) -> None:
    words = ("metrics=[sharpness]", "protocol=windows", "format=csv")
    assert (
        command("table", f"folders={folder}", *words).out == command("table", f"runs=[{runs[0]},{runs[1]}]", *words).out
    )


def test_figures_of_scores_are_drawn_from_the_folder_as_from_the_runs(
    runs: list[Path], folder: Path, tmp_path: Path, command: Command
) -> None:
    for words in (("figure=drift",), ("figure=sweep", "figure.key=prompts")):
        drawn = [tmp_path / "runs.svg", tmp_path / "folder.svg"]
        assert command("figure", *words, f"runs=[{runs[0]},{runs[1]}]", f"out={drawn[0]}").status == 0
        assert command("figure", *words, f"folders={folder}", f"out={drawn[1]}").status == 0
        assert drawn[0].read_bytes() == drawn[1].read_bytes()
    for words, told in (
        (f"runs={folder}", f"table, leaderboard and figure read it by folders={folder}"),
        (f"runs={folder}/*", f"is of the exported folder {folder}: scores without videos"),
        (f"figure=filmstrip folders={folder}", "has scores and no videos: a filmstrip is of run directories"),
        (f"figure=slots folders={folder}", "has scores alone, and more is needed here: give run directories"),
        (f"folders={tmp_path}", "is no scored folder"),
    ):  # fmt: skip
        done = command("figure", *words.split(), f"out={tmp_path / 'none.svg'}")
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert told in done.err
    assert not (tmp_path / "none.svg").exists()
