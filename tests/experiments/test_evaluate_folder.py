"""Scoring a folder of videos that something else made: the names that others rely on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from commands import Command
from foreign_videos import moving, two_videos, write

from deepforcing.video import sha256_file

METRICS = "metrics=[temporal_flickering,imaging_quality,saturation]"
COLUMNS = ["sample", "metric", "version", "protocol", "t_start", "t_end", "value"]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VBENCH_CACHE_DIR", "TORCH_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return two_videos(tmp_path)


def test_the_table_and_the_summary(folder: Path, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    status, said, err = command("evaluate", f"videos={folder}", f"out={out}", METRICS, "protocol=vbench")
    assert (status, err) == (0, "")
    assert "imaging_quality: absent: MUSIQ-SPAQ is not at" in said
    assert "experiments.weights metrics" in said
    table = pd.read_parquet(out / "scores.parquet")
    assert list(table.columns) == COLUMNS
    assert set(table["sample"]) == {"a_b c-0", "d"}
    assert set(table["protocol"]) == {"vbench"}
    spans = table.groupby("sample")[["t_start", "t_end"]].agg(["min", "max"])
    assert spans.loc["d"].tolist() == [0, 0, 2.5, 2.5]
    assert spans.loc["a_b c-0"].tolist() == [0, 0, 5, 5]
    flickering = table[table["metric"] == "temporal_flickering"]["value"]
    assert flickering.between(0.3, 0.99).all()
    assert table[table["metric"] == "imaging_quality"]["value"].isna().tolist() == [True, True]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["temporal_flickering"] == pytest.approx(flickering.mean(), abs=1e-12)
    assert summary["imaging_quality"] is None
    assert "MUSIQ" in summary["about"]["absent"]["imaging_quality"]
    assert summary["about"]["protocol"] == "vbench"


@pytest.mark.parametrize(
    ("protocol", "clips"),
    [("vbench_long", [0, 2, 3]), ("vbench_long_memory", [0, 2, 3]), ("vbench_last", [3]), ("windows", [0, 2, 4])],
)
def test_clips_of_a_protocol(folder: Path, command: Command, tmp_path: Path, protocol: str, clips: list[float]) -> None:
    status, _, err = command(
        "evaluate", f"videos={folder}", f"out={tmp_path / 'out'}", "metrics=temporal_flickering", f"protocol={protocol}"
    )
    assert (status, err) == (0, "")
    table = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert table[table["sample"] == "a_b c-0"]["t_start"].tolist() == clips
    assert set(table["protocol"]) == {protocol}


def test_nothing_twice_and_a_new_metric_scores_only_itself(folder: Path, command: Command, tmp_path: Path) -> None:
    call = ["evaluate", f"videos={folder}", f"out={tmp_path / 'out'}", "protocol=vbench"]
    assert "2 of them now" in command(*call, "metrics=temporal_flickering").out
    first = (tmp_path / "out" / "scores.parquet").read_bytes()
    assert "0 of them now" in command(*call, "metrics=temporal_flickering").out
    assert (tmp_path / "out" / "scores.parquet").read_bytes() == first
    file = next((tmp_path / "out" / "scores").glob("temporal_flickering@*.parquet"))
    before = file.stat().st_mtime_ns
    assert "2 of them now" in command(*call, "metrics=[temporal_flickering,saturation]").out
    assert file.stat().st_mtime_ns == before
    assert "2 of them now" in command(*call[:-1], "metrics=temporal_flickering", "protocol=vbench_long_memory").out
    write(folder / "d.mp4", moving(44, seed=5))  # made anew
    assert "1 of them now" in command(*call, "metrics=temporal_flickering").out


def test_prompts_are_needed_only_by_what_looks_at_them(folder: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("only one\n")
    status, _, err = command(
        "evaluate", f"videos={folder}", f"prompts={tmp_path / 'prompts.txt'}", f"out={tmp_path / 'o'}"
    )
    assert status == 2
    assert "has 1 prompts for 2 videos" in err
    assert not (tmp_path / "o").exists()


def test_videos_csv_shows_the_prompts_before_anything_is_scored(
    folder: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "e.gif").write_bytes(b"x")
    (tmp_path / "p.csv").write_text('video,prompt\na_b c-0,"=cmd|""x"", y"\nd,-a d\nbroken,z\n')
    call = ["evaluate", f"videos={folder}", f"prompts={tmp_path / 'p.csv'}", f"out={tmp_path / 'out'}"]

    def stop(*_: object) -> None:
        raise ValueError("not yet")

    with monkeypatch.context() as patch:
        patch.setattr("experiments.scoring.score", stop)
        assert command(*call, "metrics=temporal_flickering").status == 2
    table = pd.read_csv(tmp_path / "out" / "videos.csv", keep_default_na=False)
    assert table.columns.tolist() == ["sample", "file", "prompt", "frames", "fps", "sha256"]
    assert table["sample"].tolist() == ["a_b c-0", "broken", "d"]
    assert table["file"].tolist() == ["a_b c-0.mp4", "broken.mp4", "d.mp4"]
    assert table["prompt"].tolist() == ['\'=cmd|"x", y', "z", "'-a d"]
    assert table["frames"].tolist() == ["80", "", "40"]
    assert table["fps"].tolist() == ["16", "", "16"]
    assert table["sha256"].tolist() == [sha256_file(folder / name) for name in table["file"]]
    again = command(
        *call[:2], f"prompts={tmp_path / 'out' / 'videos.csv'}", f"out={tmp_path / 'again'}", "metrics=saturation"
    )
    assert again.status == 1  # the broken one
    assert (tmp_path / "again" / "videos.csv").read_text() == (tmp_path / "out" / "videos.csv").read_text()
    assert again.out.count("left out: 1 .gif") == 1


def test_names_with_brackets_are_printed_whole(folder: Path, command: Command, tmp_path: Path) -> None:
    odd = folder.rename(tmp_path / "videos[bold] [x]")
    said = command("evaluate", f"videos='{odd}'", f"out={tmp_path / 'out'}", "metrics=temporal_flickering").out
    assert "videos[bold] [x]: 2 videos scored" in said


def test_shards_together_are_one_run(folder: Path, command: Command, tmp_path: Path) -> None:
    shutil.copy(folder / "d.mp4", folder / "e.mp4")
    call = ["evaluate", f"videos={folder}", "metrics=temporal_flickering", "protocol=vbench"]
    assert command(*call, f"out={tmp_path / 'one'}").status == 0
    for part in ("1/2", "0/2"):
        assert command(*call, f"out={tmp_path / 'two'}", f"shard={part}").status == 0
    one, two = (pd.read_parquet(tmp_path / name / "scores.parquet") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)
    assert (tmp_path / "one" / "summary.json").read_text() == (tmp_path / "two" / "summary.json").read_text()


def test_drift_has_no_meaning_in_one_clip(folder: Path, command: Command, tmp_path: Path) -> None:
    call = [f"videos={folder}", f"out={tmp_path / 'out'}", "metrics=[colour_drift,temporal_flickering]"]
    status, _, err = command("evaluate", *call, "protocol=vbench_last")
    assert status == 2
    assert "colour_drift: measured under protocol=windows, vbench or vbench_long_memory, not vbench_last" in err


def test_clip_to_clip_asks_for_the_scores_that_it_joins(folder: Path, command: Command, tmp_path: Path) -> None:
    call = [
        "evaluate",
        f"videos={folder}",
        f"out={tmp_path / 'out'}",
        f"clip_to_clip={tmp_path}",
        "metrics=imaging_quality",
    ]
    status, _, err = command(*call, "protocol=vbench_long")
    assert status == 2
    assert "joins subject_consistency and background_consistency in clips and between them" in err


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("metrics=5", "metrics=5: choose among"),
        ("videos=[a,b]", "videos=['a', 'b'] must be one path"),
        ("prompts=[a,b]", "prompts=['a', 'b'] must be one path"),
        ("out={a:b}", "out={'a': 'b'} must be one path"),
        ("videos=2024", "videos=2024 is not a folder"),
        ("out=/dev/null/x", "choose another directory with out=..."),
    ],
)
def test_values_of_another_kind_are_named(folder: Path, command: Command, argument: str, reason: str) -> None:
    call = {"videos": str(folder), "out": str(folder.parent / "out"), "metrics": "temporal_flickering"}
    key, _, value = argument.partition("=")
    status, _, err = command("evaluate", *(f"{k}={v}" for k, v in (call | {key: value}).items()), "protocol=vbench")
    assert status == 2
    assert reason in err
    assert err.count("\n") == 1
