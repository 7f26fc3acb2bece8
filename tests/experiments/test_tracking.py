"""W&B as a sink: what is logged, that it is logged once, and that nothing of it can stand in the way."""

from __future__ import annotations

import errno
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Command

from deepforcing.video import VideoWriter, sha256_file
from eval.stats.drift import slope
from experiments import tracking
from experiments.logged import payload, steps
from experiments.results.runs import Run, read_runs
from experiments.results.scores import read_scores
from experiments.tracking import NOTE, Tracker, run_id, track

SECRET = "0123456789abcdef" * 2 + "01234567"
SECONDS = 12
NAN = math.nan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run of three prompts with videos and scores that rise by 0.1 a second; the last two windows are unknown."""
    run = tmp_path / "runs" / "deep_sink-0123abcd"
    (run / "samples").mkdir(parents=True)
    (run / "scores").mkdir()
    record = {"schema": 1, "name": "deep_sink", "label": "Deep Sink", "spec": {"prompts": "heldout", "cache": {"k": 1}}}
    (run / "run.json").write_text(json.dumps(record))
    scores = []
    for i in range(3):
        video = run / "samples" / f"p{i}-s0.mp4"
        with VideoWriter(video, 2, 2, fps=2, pixel_scale=8) as writer:
            writer.write(np.full((4, 2, 2, 3), 60 * i, np.uint8))
        known = {"schema": 1, "sample": video.stem, "prompt_id": f"p{i}", "prompt": f"prompt {i}", "seed": 0}
        known |= {"video": video.name, "sha256": sha256_file(video), "frames": 4, "fps": 2}
        video.with_suffix(".json").write_text(json.dumps(known))
        for t in range(SECONDS):
            row = {"run": run.name, "sample": video.stem, "metric": "shape", "version": 1, "t_start": float(t)}
            row |= {"t_end": t + 1.0, "value": i + t / 10 if t < 10 else NAN}
            scores.append(row | {"video_sha256": sha256_file(video), "window_seconds": 1.0})
    pd.DataFrame(scores).to_parquet(run / "scores" / "shape@1.parquet", index=False)
    return run


@pytest.fixture
def run(path: Path) -> Run:
    return read_runs([path])[0]


@pytest.fixture
def real_wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package, logged in with a key that must turn up nowhere; its service ends with the test."""
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    wandb = pytest.importorskip("wandb")
    yield wandb
    wandb.teardown()


class FakeWandb:
    """Records what it is given, as the package's interface that is used."""

    def __init__(self, root: Path, fail: bool = False) -> None:
        self.root, self.fail, self.inits, self.logged = root, fail, 0, []  # type: ignore[var-annotated]
        self.summary: dict[str, Any] = {}
        self.finished: list[int | None] = []

    def Settings(self, **given: Any) -> dict[str, Any]:  # noqa: N802
        return given

    def Table(self, dataframe: pd.DataFrame) -> pd.DataFrame:  # noqa: N802
        return dataframe

    def Video(self, path: str, caption: str, format: str) -> tuple[str, str]:  # noqa: N802
        return Path(path).name, caption

    def init(self, **given: Any) -> FakeWandb:
        self.inits += 1
        self.given = given
        self.settings = SimpleNamespace(sync_dir=self.root / f"offline-run-{self.inits}")
        self.settings.sync_dir.mkdir(parents=True)
        return self

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.fail:
            raise RuntimeError("the service\nis gone")
        self.logged.append((step, values))

    def finish(self, exit_code: int | None = None) -> None:
        self.finished.append(exit_code)


def use(monkeypatch: pytest.MonkeyPatch, fake: object) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake)


def test_offline_files_are_written_once_and_hold_no_secret(
    path: Path, command: Command, real_wandb: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    monkeypatch.chdir(tmp_path)
    directories = []
    for _ in range(2):
        status, out, err = command("track", f"runs={path}", "project=tests", "window_seconds=1")
        assert (status, err) == (0, "")
        (found,) = (path / "wandb").glob("offline-run-*")
        directories.append(found)
        assert out.splitlines() == [
            "1 runs tracked, 0 of them uploaded", f"to upload: python -m wandb sync {found.relative_to(tmp_path)}"
        ]  # fmt: skip
        assert (found / f"run-{run_id(read_runs([path])[0])}.wandb").stat().st_size > 0
        assert len(list(found.rglob("*.mp4"))) == 2
        assert len(list(found.rglob("*.table.json"))) == 2
    assert directories[0] != directories[1]
    files = [file for file in (path / "wandb").rglob("*") if file.is_file()]
    contents = {file.name: file.read_bytes() for file in files}
    assert not [name for name, data in contents.items() if SECRET.encode() in data]
    assert not {"wandb-metadata.json", "requirements.txt", "output.log", "diff.patch"} & contents.keys()
    (log,) = (data for name, data in contents.items() if name.endswith(".wandb"))
    for name in (b"over_time/windows/shape", b"score/windows/shape", b"heldout", b"Deep Sink", b"tests"):
        assert name in log
    assert {file: file.read_bytes() for file in before} == before
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


def test_payload_holds_scores_curves_and_tables_and_no_nan(run: Run) -> None:
    table = read_scores([run], 1.0).table
    found = payload(run, table)
    assert found.summary["score/windows/shape"] == pytest.approx(1 + 0.45)
    assert found.summary["slope_per_minute/windows/shape"] == pytest.approx(6) == slope(table)["mean"].iloc[0]
    assert found.summary["drift/windows/shape"] == pytest.approx((0.7 + 0.8 + 0.9) / 3 - 0.2)
    assert len(found.steps) == 10  # windows nobody has a value in are no steps
    assert found.steps[4] == {
        "over_time/windows/shape": pytest.approx(1.4), "over_time/windows/seconds": 4.5
    }  # fmt: skip
    assert found.config["spec"]["prompts"] == "heldout"
    assert found.tables["scores"]["n"].tolist() == [3]
    assert found.tables["samples"][["sample", "prompt"]].to_numpy().tolist()[0] == ["p0-s0", "prompt 0"]
    nothing = payload(run, table[:0])
    assert (nothing.summary, nothing.steps) == ({}, [])


def test_protocols_are_curves_of_their_own(run: Run) -> None:
    table = read_scores([run], 1.0).table
    clips = table[table["t_start"] % 2 == 0].assign(protocol="vbench_long", t_end=lambda t: t["t_start"] + 2, value=0.5)
    whole = table[table["t_start"] == 0].assign(protocol="vbench", t_end=float(SECONDS), value=0.25)
    found = payload(run, pd.concat([table, clips, whole]))
    assert len(found.steps) == 10
    assert found.steps[5] == {
        "over_time/windows/shape": pytest.approx(1.5), "over_time/windows/seconds": 5.5,
        "over_time/vbench_long/shape": 0.5, "over_time/vbench_long/seconds": 11.0,
    }  # fmt: skip
    assert [found.summary[f"score/{name}/shape"] for name in ("vbench", "vbench_long")] == [0.25, 0.5]
    assert "drift/vbench/shape" not in found.summary
    assert steps(table.drop(columns="protocol")) == steps(table)


def test_runs_keep_id_and_group_and_show_the_same_few_videos(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = FakeWandb(tmp_path / "w")
    use(monkeypatch, fake)
    table = read_scores([run], 1.0).table
    assert not track([run], table, Tracker()).problems
    assert {key: fake.given[key] for key in ("id", "name", "group")} == {
        "id": run_id(run), "name": "Deep Sink", "group": "heldout"
    }  # fmt: skip
    assert "resume" not in fake.given
    assert fake.given["settings"]["mode"] == "offline"
    assert [step for step, _ in fake.logged] == list(range(10))
    assert fake.logged[0][1]["videos"] == [("p0-s0.mp4", "p0-s0: prompt 0"), ("p1-s0.mp4", "p1-s0: prompt 1")]
    assert not any("videos" in values for _, values in fake.logged[1:])
    fake.logged.clear()
    track([run], table[:0], Tracker(group="mine", videos=("p2-s0", "none-s0")))
    assert fake.given["group"] == "mine"
    assert [(step, values["videos"]) for step, values in fake.logged] == [(0, [("p2-s0.mp4", "p2-s0: prompt 2")])]
    track([run], table, Tracker(videos=0))
    assert not any("videos" in values for _, values in fake.logged[1:])


def test_wandb_that_is_absent_or_broken_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command
) -> None:
    table = read_scores([run], 1.0).table
    use(monkeypatch, None)  # Python's way to say that it cannot be imported
    done = track([run], table, Tracker())
    assert not done.written
    assert [("pip install wandb" in line, "\n" in line) for line in done.problems] == [(True, False)]
    status, out, err = command("track", f"runs={run.path}")
    assert (status, err.count("\n"), out) == (1, 1, "")
    use(monkeypatch, SimpleNamespace())  # a folder called wandb
    assert "only a folder" in track([run], table, Tracker()).problems[0]
    fake = FakeWandb(tmp_path / "w", fail=True)
    use(monkeypatch, fake)
    done = track([run, run, run], table, Tracker())
    assert done.problems == [f"not tracked: {run.name}: the service is gone; 3 of 3 runs are left"]
    assert (fake.inits, fake.finished) == (1, [1])  # the others would only cost time
    assert not list((tmp_path / "w").iterdir())


def test_an_earlier_upload_stays_until_the_new_one_is_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = {"run": str(run.path.resolve()), "project": "deepforcing", "entity": None}
    notes = {"old": mine, "project": {**mine, "project": "other"}, "place": {**mine, "run": "/elsewhere"}, "none": None}
    for folder, note in notes.items():
        directory = tmp_path / "wandb" / f"offline-run-{folder}"
        directory.mkdir(parents=True)
        (directory / f"run-{run_id(run)}.wandb").touch()
        if note is not None:
            (directory / NOTE).write_text(json.dumps(note))
    table = read_scores([run], 1.0).table
    for fail in (True, False):
        use(monkeypatch, FakeWandb(tmp_path / f"new{fail}", fail))
        track([run], table, Tracker(directory=tmp_path))
        left = {path.name.removeprefix("offline-run-") for path in (tmp_path / "wandb").iterdir()}
        assert left == set(notes) - (set() if fail else {"old"})


def test_runs_of_one_configuration_are_runs_of_their_own(path: Path, command: Command, real_wandb: Any) -> None:
    """The same name and record under another root, as runs of other prompts have: each keeps what it wrote."""
    other = path.parents[1] / "other" / path.name
    shutil.copytree(path, other)
    assert len({run_id(run) for folder in (path, other) for run in read_runs([folder])}) == 2
    arguments = [f"dir={path.parents[1] / 'w'}", "window_seconds=1"]
    for runs in (f"runs={path}", f"runs={other}", f"runs=[{path},{other}]"):
        status, _, err = command("track", runs, *arguments)
        assert (status, err) == (0, "")
    assert len(list((path.parents[1] / "w" / "wandb").glob("offline-run-*"))) == 2


def test_online_without_login_or_network_is_bounded_and_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`wandb sync` is played by other programs: one that refuses, one that hangs and one that does its work."""
    use(monkeypatch, FakeWandb(tmp_path / "w"))
    table = read_scores([run], 1.0).table
    real = subprocess.Popen

    def plays(code: str) -> None:
        def start(arguments: list[str], **given: Any) -> subprocess.Popen[str]:
            assert arguments[1:4] == ["-m", "wandb", "sync"]
            assert given["stdin"] is subprocess.DEVNULL
            return real([sys.executable, "-c", code, *arguments[4:]], **given)

        monkeypatch.setattr(tracking.subprocess, "Popen", start)

    plays("import sys; print('wandb: Syncing'); print('Error: No API key configured.'); sys.exit(1)")
    done = track([run], table, Tracker(upload=30))
    assert done.unsynced == done.written != []
    assert "were not uploaded (Error: No API key configured.)" in done.problems[0]
    plays("import time; time.sleep(60)")
    began = time.monotonic()
    done = track([run], table, Tracker(upload=0.5))
    assert time.monotonic() - began < 10
    assert "not finished within 0.5 s" in done.problems[0]
    plays("import sys, pathlib; [(pathlib.Path(p) / 'run-x.wandb.synced').touch() for p in sys.argv[1:]]")
    done = track([run], table, Tracker(upload=30))
    assert (done.unsynced, done.problems) == ([], [])


def test_mistakes_are_told_before_anything_is_written(path: Path, command: Command) -> None:
    for argument, words in (
        ("mode=disabled", "mode=disabled: use offline"),
        ("videos=-1", "videos=-1 must be a whole number"),
        ("videos=[nosuch]", "videos=nosuch is no sample of these runs; they have "),
        ("project=''", "project is empty"),
        ("window_seconds=0", "window_seconds=0 must be a positive number"),
    ):
        status, _, err = command("track", f"runs={path}", argument)
        assert (status, err.count("\n")) == (2, 1)
        assert words in err
    assert not (path / "wandb").exists()


def test_a_directory_that_cannot_be_written_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeWandb(tmp_path / "w"))
    table, file = read_scores([run], 1.0).table, tmp_path / "file"
    file.touch()
    said = track([run], table, Tracker(directory=file)).problems[0]
    assert f"{file}: cannot write there" in said
    assert "dir=" in said
    monkeypatch.setattr("deepforcing.runs.shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert f"{run.path}: only 1 MB free, at least 20 MB are needed" in track([run], table, Tracker()).problems[0]


def test_of_two_files_the_one_to_be_written_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B copies what it logs out of a temporary folder, which is not what is full."""
    fake = FakeWandb(tmp_path / "w")
    use(monkeypatch, fake)

    def copy(**given: Any) -> FakeWandb:
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/a.json", None, str(run.path / "a.json"))

    monkeypatch.setattr(fake, "init", copy)
    (problem,) = track([run], read_scores([run], 1.0).table, Tracker()).problems
    assert f"{run.path / 'a.json'}: No space left on device" in problem
    assert "elsewhere" not in problem


def test_a_disk_that_runs_full_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's service does not say when it could not write: what is left of the disk does."""
    use(monkeypatch, FakeWandb(tmp_path / "w"))
    free = iter([100_000_000, 0])
    monkeypatch.setattr("deepforcing.runs.shutil.disk_usage", lambda _: SimpleNamespace(free=next(free)))
    (problem,) = track([run], read_scores([run], 1.0).table, Tracker()).problems
    assert f"{run.path}: the disk has run full" in problem
    assert not list((tmp_path / "w").iterdir())
