from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforcing import environment as environment_module
from deepforcing.environment import environment
from deepforcing.prompts import Sample, plan_samples, prompts_from_texts
from deepforcing.runs import (
    RunDir,
    atomic_path,
    atomic_write_json,
    atomic_write_text,
    canonical_json,
    check_writable,
    identity_hash,
)
from deepforcing.video import sha256_file

IDENTITY = {"seconds": 5.0, "cache": {"window_frames": 21, "sink_frames": 0}, "steps": [1000, 750]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PLAN = plan_samples(prompts_from_texts(["a", "b", "c"]), [0, 1])


RECORD = {"prompt_id": "a", "prompt": "a red disc", "seed": 0, "fps": 16, "frames": 3}


def finish(run: RunDir, sample: str, content: bytes = b"video") -> dict[str, Any]:
    run.video_path(sample).write_bytes(content)
    return run.commit({"sample": sample, **RECORD})


def names(run: RunDir) -> list[str]:
    return sorted(path.name for path in (run.path / "samples").iterdir())


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_hash_ignores_key_order_and_survives_the_file(identity: dict[str, Any]) -> None:
    expected = identity_hash(identity)
    assert len(expected) == 8
    assert identity_hash(dict(reversed(identity.items()))) == expected
    assert identity_hash(json.loads(json.dumps(identity))) == expected


def test_hash_is_pinned() -> None:
    """Published directory names must not change by accident."""
    assert canonical_json({"b": (0.1, 1), "a": "é"}) == '{"a":"\\u00e9","b":[0.1,1]}'
    assert identity_hash(IDENTITY) == "5d995e22"
    assert identity_hash({**IDENTITY, "seconds": 5}) != identity_hash(IDENTITY)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), np.float64(1), np.int64(1), Path("x"), {1, 2}, {1: 2}, b"x", object()]
)
def test_hash_refuses_what_json_cannot_hold(value: object) -> None:
    with pytest.raises(ValueError, match=r"identity\.a\[0\]"):
        identity_hash({"a": [value]})


def test_atomic_writes_replace_or_leave_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    atomic_write_json(path, {"a": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}
    with pytest.raises(ValueError, match="nan"):
        atomic_write_json(path, {"a": float("nan")})
    with pytest.raises(ZeroDivisionError), atomic_path(path) as partial:
        partial.write_text("half") and 1 / 0
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}
    atomic_write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*x\.json") as caught:
        atomic_write_json(tmp_path / "x.json", {})
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_create_writes_run_json_first_and_once(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "sink", IDENTITY, {"label": "sink", "pixel_scale": 8})
    assert run.path == tmp_path / f"sink-{identity_hash(IDENTITY)}"
    assert run.name == run.path.name
    record = run.record()
    assert (record["schema"], record["name"], record["label"]) == (1, "sink", "sink")
    assert record["identity"] == IDENTITY
    before = (run.path / "run.json").read_bytes()
    again = RunDir.create(tmp_path, "sink", dict(reversed(IDENTITY.items())), {"label": "other"})
    assert again == run == RunDir.open(run.path)
    assert (run.path / "run.json").read_bytes() == before
    assert sorted(path.name for path in run.path.iterdir()) == ["run.json", "samples"]
    assert RunDir.create(tmp_path, "sink", {**IDENTITY, "steps": []}).path != run.path


def test_create_refuses_what_it_cannot_trust(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "sink", IDENTITY)
    good = run.record()
    path = run.path / "run.json"
    for text in ("", '{"schema": 1, "ident', "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"run\.json is damaged; restore it, or move"):
            RunDir.create(tmp_path, "sink", IDENTITY)
    path.write_text(json.dumps({**good, "identity": {}}))
    with pytest.raises(ValueError, match="belongs to a run with other settings"):
        RunDir.create(tmp_path, "sink", IDENTITY)
    path.write_text(json.dumps({**good, "schema": 2}))
    with pytest.raises(ValueError, match="schema 2"):
        RunDir.create(tmp_path, "sink", IDENTITY)
    path.unlink()
    finish(run, "s")
    with pytest.raises(ValueError, match=r"samples but no run\.json"):
        RunDir.create(tmp_path, "sink", IDENTITY)
    for name in ("", "a/b", "..", ".hidden", "a b"):
        with pytest.raises(ValueError, match="run name"):
            RunDir.create(tmp_path, name, IDENTITY)
    with pytest.raises(ValueError, match="must not set identity"):
        RunDir.create(tmp_path, "x", IDENTITY, {"identity": {}})


def test_videos_of_another_size_are_not_mixed_in(tmp_path: Path) -> None:
    """Identities of earlier versions left sizes out: such a directory has the identity and other videos."""
    sizes = {"height": 480, "width": 832, "fps": 16}
    record = {
        "geometry": sizes,
        "pixel_scale": 1,
        "spec": {"model": {"name": "w", "config": {"num_layers": 30, "patch": [1, 2, 2]}}},
    }
    run = RunDir.create(tmp_path, "sink", IDENTITY, record)
    assert RunDir.create(tmp_path, "sink", IDENTITY, record) == run
    assert RunDir.create(tmp_path, "sink", IDENTITY, {"spec": {"model": "w"}}) == run  # says nothing of sizes
    for other, words in (
        ({"geometry": {**sizes, "height": 832, "width": 480}}, "geometry.height=480, not 832"),
        ({"geometry": {**sizes, "fps": 24}}, "geometry.fps=16, not 24"),
        ({"pixel_scale": 8}, "pixel_scale=1, not 8"),
        ({"spec": {"model": {"config": {"_target_": "x", "num_layers": 2}}}}, "config.num_layers=30, not 2"),
        ({"spec": {"model": {"config": {"patch": [1, 1, 1]}}}}, r"config.patch=\[1, 2, 2\], not \[1, 1, 1\]"),
    ):
        with pytest.raises(ValueError, match=f"{run.name} is of a run with {words} .*move it away"):
            RunDir.create(tmp_path, "sink", IDENTITY, {**record, **other})


def test_open_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a directory"):
        RunDir.open(tmp_path / "none")
    with pytest.raises(ValueError, match=r"has no run\.json$"):
        RunDir.open(tmp_path)
    run = RunDir.create(tmp_path, "sink", IDENTITY)
    with pytest.raises(ValueError, match=f"it holds the runs {run.name}"):
        RunDir.open(tmp_path)
    (run.path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        RunDir.open(run.path)


def test_commit_adds_size_and_hash(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "sink", IDENTITY)
    with pytest.raises(ValueError, match="is not there"):
        run.commit({"sample": "a"})
    record = finish(run, "a", b"12345")
    assert record["bytes"] == 5
    assert record["sha256"] == sha256_file(run.video_path("a"))
    assert record["video"] == "a.mp4"
    assert run.samples() == [record]
    run.video_path("b").write_bytes(b"1")
    with pytest.raises(ValueError, match="seconds should be a finite number"):
        run.commit({"sample": "b", **RECORD, "seconds": float("nan")})
    with pytest.raises(ValueError, match=r"b\.json: prompt is missing"):
        run.commit({"sample": "b", **{key: value for key, value in RECORD.items() if key != "prompt"}})
    assert run.completed() == {"a"}
    for name in ("../a", "", "a/b"):
        with pytest.raises(ValueError, match="sample name"):
            run.video_path(name)


def test_only_whole_samples_count(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "sink", IDENTITY)
    for sample in "edcba":
        finish(run, sample)
    assert [record["sample"] for record in run.samples()] == list("abcde")
    run.video_path("a").write_bytes(b"short")  # the same size: the cheap check passes
    run.video_path("b").write_bytes(b"shor")
    run.video_path("c").unlink()
    (run.path / "samples" / "d.json").write_text('{"sample": "d"')
    run.video_path("f").write_bytes(b"no json yet")
    (run.path / "samples" / "g.json").write_text("[]")
    assert run.completed() == {"a", "e"}
    record = json.loads((run.path / "samples" / "e.json").read_text())
    for change, words in (
        ({"video": "../../e.mp4"}, r"e\.json: video must be e\.mp4, the file beside the record"),
        ({"schema": 99}, r"e\.json has schema 99, this version reads schema 1"),
        ({"sample": "a", "video": "a.mp4"}, r"e\.json is the record of sample a"),
    ):
        (run.path / "samples" / "e.json").write_text(json.dumps({**record, **change}))
        with pytest.raises(ValueError, match=words):
            run.completed()


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(PLAN)))
def test_completed_and_todo_make_the_plan(done: set[Sample]) -> None:
    with tempfile.TemporaryDirectory() as root:
        run = RunDir.create(root, "sink", IDENTITY)
        for sample in done:
            finish(run, sample.name)
        finish(run, "other-s0")  # of an earlier, longer list of prompts
        todo = run.todo(PLAN)
        assert todo == [sample for sample in PLAN if sample not in done]
        assert run.completed() - {"other-s0"} | {sample.name for sample in todo} == {sample.name for sample in PLAN}


def test_a_claim_is_exclusive_and_clears_only_its_own_leftovers(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "sink", IDENTITY)
    other = RunDir.open(run.path)
    for leftover in ("a-s1.partial.mp4", "a-s1.json.partial-01234567", "a-s10.partial.mp4", "b-s1.partial.mp4"):
        (run.path / "samples" / leftover).write_bytes(b"half")
    with run.claim("a-s1") as mine, other.claim("a-s1") as theirs, other.claim("c") as free:
        assert (mine, theirs, free) == (True, False, True)
        assert names(run) == [".a-s1.lock", ".c.lock", "a-s10.partial.mp4", "b-s1.partial.mp4"]
        finish(run, "a-s1")
    with other.claim("a-s1") as theirs:
        assert not theirs  # finished meanwhile
    assert names(run) == ["a-s1.json", "a-s1.mp4", "a-s10.partial.mp4", "b-s1.partial.mp4"]
    with pytest.raises(RuntimeError, match="mine"), run.claim("c"):
        raise RuntimeError("mine")
    with other.claim("c") as theirs:
        assert theirs


def test_a_lock_file_replaced_under_our_feet_is_not_trusted(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "sink", IDENTITY)
    lock = run.path / "samples" / ".a.lock"
    with run.claim("a") as first:
        assert first
        lock.unlink()  # what the holder does just before it lets go
        with run.claim("a") as second:
            assert second
            with run.claim("a") as third:
                assert not third
    lock.write_bytes(b"")  # left by a killed process
    with run.claim("a") as again:
        assert again


HOLD = """
import sys, time
from deepforcing.runs import RunDir
with RunDir.open(sys.argv[1]).claim("a") as mine:
    (RunDir.open(sys.argv[1]).path / "samples" / "a.partial.mp4").write_bytes(b"half")
    print(mine, flush=True)
    time.sleep(60)
"""


def test_kill_9_releases_the_claim(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "sink", IDENTITY)
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    with run.claim("a") as mine:
        assert not mine
    assert "a.partial.mp4" in names(run)
    process.kill()
    process.communicate()
    assert run.completed() == set()
    with run.claim("a") as mine:
        assert mine
        assert names(run) == [".a.lock"]


def test_check_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new" / "runs", min_free_bytes=0)
    assert list((tmp_path / "new" / "runs").iterdir()) == []
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "runs", "/proc/runs"):
        with pytest.raises(OSError, match="cannot write there") as caught:
            check_writable(root)
        assert str(root) in str(caught.value)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100_000_000, 90_000_000, 10_000_000))
    with pytest.raises(OSError, match="only 10 MB free, at least 50 MB are needed") as caught:
        check_writable(tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_environment_is_plain_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush-hush")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    found = environment()
    text = canonical_json(found)
    assert "hush-hush" not in text
    assert set(found) == {"git_commit", "git_dirty", "python", "packages", "device", "machine", "threads"}
    assert found["packages"]["torch"]
    assert found["device"]


def test_environment_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed inside somebody else's repository: not their commit."""
    inside = tmp_path / "site-packages"
    inside.mkdir()
    (inside / "environment.py").write_text("")
    monkeypatch.setattr(environment_module, "__file__", str(inside / "environment.py"))
    assert environment()["git_commit"] is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    assert (environment()["git_commit"], environment()["git_dirty"]) == (None, None)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "ours"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert (environment()["git_commit"], environment()["git_dirty"]) == (head, False)
    (inside / "environment.py").write_text("changed = True\n")
    assert environment()["git_dirty"] is True
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None
