"""Records of a run, read back: what is not one is refused in one line that names file and field."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepforcing.records import DEEPEST, LARGEST, DamagedError, read_run, read_sample
from deepforcing.runs import RunDir
from eval.videos import open_folder, open_run
from experiments.results.runs import read_runs

SAMPLE = {
    "schema": 1, "sample": "a-s0", "prompt_id": "a", "prompt": "a red disc", "seed": 0, "video": "a-s0.mp4", "bytes": 5,
    "sha256": "ab" * 32, "fps": 16, "frames": 9, "width": 16, "height": 16, "seconds": 0.5625, "chunk_frames": 3,
    "environment": {"packages": {"torch": None}}, "chunks": [{"denoise_s": 0.1, "tokens": 12}],
}  # fmt: skip
RUN = {
    "schema": 1, "name": "sink", "label": "Sink", "identity": {"model": {"name": "tiny"}}, "pixel_scale": 8, "world": "tiny",
    "spec": {"model": {"name": "tiny"}, "train_seconds": 5.06}, "geometry": {"temporal_stride": 4, "patch": [1, 2, 2]},
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "runs" / "sink-01234567"
    (directory / "samples").mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps(RUN))
    (directory / "samples" / "a-s0.json").write_text(json.dumps(SAMPLE))
    (directory / "samples" / "a-s0.mp4").write_bytes(b"video")
    return directory


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:
        read()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def test_a_record_comes_back_as_it_was_written(run: Path) -> None:
    assert read_run(run) == RUN
    assert read_sample(run / "samples" / "a-s0.json") == SAMPLE
    assert RunDir.open(run).completed() == {"a-s0"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "has schema 2, this version reads schema 1"),
        ({"schema": True}, "has schema True"),
        ({"schema": None}, "has schema None"),
        ({"name": None}, "name should be text"),
        ({"label": "\x1b[2J"}, "label has the control character U+001B at character 1"),
        ({"label": " "}, "label is empty"),
        ({"label": "\ud800"}, "holds half a surrogate pair"),
        ({"other": {"deep": ["\udfff"]}}, "holds half a surrogate pair"),
        ({"spec": {"model": [1]}}, "spec.model should be an object or text"),
        ({"spec": {"train_seconds": "5"}}, "spec.train_seconds should be a valid number"),
        ({"geometry": {"temporal_stride": 0}}, "geometry.temporal_stride should be greater than or equal to 1"),
        ({"pixel_scale": 8.0}, "pixel_scale should be a valid integer"),
        ({"pixel_scale": True}, "pixel_scale should be a valid integer"),
        ({"pixel_scale": 10**6}, "pixel_scale should be less than or equal to 1024"),
        ({"environment": {"packages": {"torch": [2]}}}, "environment.packages.torch should be text"),
        ({"identity": {"model": "tiny"}}, "identity.model should be an object"),
        ({"checkpoint": {"sha256": "x"}}, "checkpoint.sha256 "),
        ({"other": 10**400}, "holds a whole number of 401 digits"),
        ({"other": float("nan")}, "holds NaN, which is no JSON"),
    ],
)
def test_a_run_that_is_none_is_refused_by_every_reader(run: Path, change: dict[str, Any], words: str) -> None:
    (run / "run.json").write_text(json.dumps({**RUN, **change}))
    for read in (read_run, RunDir.open, open_run, lambda path: read_runs([path])):
        assert f"{run / 'run.json'}" in refusal(lambda read=read: read(run))  # type: ignore[misc]
        assert words in refusal(lambda read=read: read(run))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 99}, "has schema 99, this version reads schema 1"),
        ({"prompt": None}, "prompt should be text"),
        ({"prompt": "x" * 10**5}, "prompt should have at most 10000 characters"),
        ({"seed": -1}, "seed should be greater than or equal to 0"),
        ({"fps": 0}, "fps should be greater than 0"),
        ({"frames": 0}, "frames should be greater than or equal to 1"),
        ({"frames": 9.0}, "frames should be a valid integer"),
        ({"sha256": "AB"}, "sha256 "),
        ({"sample": "../a"}, "sample must be 1 to 100 letters"),
        ({"sample": "b", "video": "b.mp4"}, "is the record of sample b"),
        ({"video": "../../../../etc/passwd"}, "video must be a-s0.mp4"),
        ({"video": "/etc/passwd"}, "video must be a-s0.mp4"),
        ({"video": "b-s0.mp4"}, "video must be a-s0.mp4"),
        ({"chunks": [{}, {"tokens": -1}]}, "chunks[1].tokens should be greater"),
        ({"chunks": {"tokens": 1}}, "chunks should be a list"),
    ],
)
def test_a_sample_that_is_none_is_refused_by_every_reader(run: Path, change: dict[str, Any], words: str) -> None:
    path = run / "samples" / "a-s0.json"
    path.write_text(json.dumps({**SAMPLE, **change}))
    for read in (lambda: read_sample(path), lambda: RunDir.open(run).completed(), lambda: read_runs([run])):
        assert str(path) in refusal(read)
        assert words in refusal(read)
    (problem,) = open_run(run).problems  # the other videos are scored all the same
    assert words in problem


def test_a_sample_without_what_every_record_has(run: Path) -> None:
    path = run / "samples" / "a-s0.json"
    for key in ("sample", "prompt_id", "prompt", "seed", "video", "sha256", "fps", "frames"):
        path.write_text(json.dumps({k: v for k, v in SAMPLE.items() if k != key}))
        assert refusal(lambda: read_sample(path)) == f"{path}: {key} is missing"


@pytest.mark.parametrize("where", ["video", "record", "samples", "run"])
def test_links_that_leave_the_run_directory_are_refused(run: Path, tmp_path: Path, where: str) -> None:
    """Whatever they lead to; a run directory that is a link itself, and links inside of it, are fine."""
    outside, samples = tmp_path / "outside", run / "samples"
    outside.mkdir()
    path = {
        "video": samples / "a-s0.mp4",
        "record": samples / "a-s0.json",
        "samples": samples,
        "run": run / "run.json",
    }[where]
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)
    assert "leads out of its run directory" in refusal(lambda: read_runs([run]))
    assert where == "run" or "leads out of its run directory" in refusal(lambda: RunDir(run).completed())
    if where == "run":
        assert "leads out of its run directory" in refusal(lambda: open_run(run))
    else:
        assert "leads out of its run directory" in open_run(run).problems[0]
    path.unlink()
    (outside / path.name).rename(run / "moved")
    path.symlink_to("../moved" if path.parent == samples else "moved")
    assert len(read_runs([run])[0].samples) == 1
    (tmp_path / "link").symlink_to(run)
    assert len(open_run(tmp_path / "link").videos) == 1


def test_a_rollout_writes_nothing_through_a_link(run: Path, tmp_path: Path) -> None:
    """A run directory from elsewhere, at the place of one's own: its folder of samples is somebody's home."""
    mine = RunDir.create(tmp_path / "mine", "sink", {"a": 1})
    outside = tmp_path / "outside"
    outside.mkdir()
    (mine.path / "samples").rmdir()
    (mine.path / "samples").symlink_to(outside)
    assert "leads out of its run directory" in refusal(lambda: RunDir.create(tmp_path / "mine", "sink", {"a": 1}))
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "a\udcff"])
def test_directories_with_names_for_a_terminal_are_refused(run: Path, tmp_path: Path, name: str) -> None:
    moved = run.rename(run.with_name(name))
    for read in (
        read_run,
        RunDir.open,
        open_run,
        lambda path: read_runs([path]),
        lambda path: open_folder(path, None, "x"),
    ):
        said = refusal(lambda read=read: read(moved))  # type: ignore[misc]
        assert "the name of the directory" in said
        assert said.isprintable()


def test_what_is_no_file_is_not_waited_for(run: Path) -> None:
    video = run / "samples" / "a-s0.mp4"
    video.unlink()
    os.mkfifo(video)
    assert "is not a file" in refusal(lambda: read_runs([run]))
    (run / "run.json").unlink()
    os.mkfifo(run / "run.json")
    assert "is not a file" in refusal(lambda: read_run(run))
    video.unlink()
    video.symlink_to(video.name)
    assert "leads out of" in refusal(lambda: read_sample(video.with_suffix(".json")))


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1, "na', b"[]", b"null", b"\xff\xfe", b"PAR1", b"{}}"])
def test_what_a_full_disk_leaves_is_told_apart(run: Path, content: bytes) -> None:
    """A sample's record that was cut off counts as not finished; any other wrong one is refused."""
    (run / "samples" / "a-s0.json").write_bytes(content)
    with pytest.raises(DamagedError):
        read_sample(run / "samples" / "a-s0.json")
    assert RunDir.open(run).completed() == set()
    (run / "run.json").write_bytes(content)
    assert "run.json is damaged; restore it, or move" in refusal(lambda: RunDir.open(run))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "nested too deeply"),
        (b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1), "nested too deeply"),
        (b'{"a": "' + b"x" * LARGEST + b'"}', "has more than 8 MB"),
        (json.dumps(RUN)[:-1].encode() + b', "packages": [' + b"[]," * 10**5 + b"[[[NaN]]]]}", "holds NaN"),
        (b'{"schema": 1, "schema": 1}', "has the key 'schema' twice"),
        (b'{"a": 1e999}', "holds a number too large"),
        (b'{"a": -Infinity}', "holds -Infinity"),
    ],
)
def test_what_no_record_is(run: Path, content: bytes, words: str) -> None:
    (run / "run.json").write_bytes(content)
    assert words in refusal(lambda: read_run(run))


def test_endless_chunks_are_refused_before_they_are_looked_at(run: Path) -> None:
    path = run / "samples" / "a-s0.json"
    path.write_text(json.dumps({**SAMPLE, "chunks": [{}] * 100_000}))
    began = time.process_time()
    assert "chunks should have at most 60000 items" in refusal(lambda: read_sample(path))
    assert time.process_time() - began < 1


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """A record that no reader would take is refused before the work that it describes."""
    message = refusal(lambda: RunDir.create(tmp_path, "sink", {"a": 1}, {"label": "two\nlines"}))
    assert "label has the control character U+000A at character 4" in message
    assert not list(tmp_path.iterdir())
