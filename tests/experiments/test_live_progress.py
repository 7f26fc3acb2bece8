"""tracker=wandb: progress is told while a rollout runs, and neither a dead, slow nor absent W&B changes anything of it."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Command

from experiments.live.process import follow
from experiments.live.progress import live

FAKES = {
    "absent": "raise ImportError('there is none')",
    "dead": "def Settings(**_): return None\ndef init(**_): raise RuntimeError('nobody answers')",
    "hangs": "import time\ndef Settings(**_): return None\ndef init(**_): time.sleep(5)",
}


class FakeWandb:
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.logged, self.given, self.finished = seconds, [], {}, False  # type: ignore[var-annotated]

    def Settings(self, **given: Any) -> dict[str, Any]:  # noqa: N802
        return given

    def init(self, **given: Any) -> FakeWandb:
        self.given = given
        return self

    def log(self, told: dict[str, Any]) -> None:
        time.sleep(self.seconds)
        self.logged.append(told["n"])

    def finish(self) -> None:
        self.finished = True


def lines(count: int) -> io.StringIO:
    first = {"root": "/somewhere", "project": "p", "group": "g", "name": "run", "config": {"cache": "sink"}}
    return io.StringIO("\n".join(map(json.dumps, [first, *({"n": n} for n in range(count))])) + '\n{"n": 7')


def test_the_newest_is_logged_and_a_slow_server_gets_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    fake = FakeWandb(seconds=0.05)
    follow(lines(500), fake, seconds=1e6)
    assert fake.finished
    assert fake.logged[-1] == 499  # the last whole line
    assert len(fake.logged) < 100
    assert fake.logged == sorted(fake.logged)
    assert (fake.given["group"], fake.given["config"]) == ("g", {"cache": "sink"})
    assert fake.given["settings"]["mode"] == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    follow(lines(1), fake, seconds=1e6)
    assert fake.given["settings"]["mode"] == "online"


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million lines are more than any pipe holds."""
    monkeypatch.setattr("experiments.live.progress.EVERY", 0.0)
    (tmp_path / "wandb.py").write_text(FAKES["hangs"])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    written: list[int] = []
    real = os.write

    def write(pipe: int, data: bytes) -> int:
        written.append(len(data))
        return real(pipe, data)

    monkeypatch.setattr("experiments.live.progress.os.write", write)
    with live("wandb", tmp_path, {"name": "x", "config": {"long": "x" * 200_000}}, 3000) as told:
        for _ in range(3000):
            told()
    assert len(written) == 3001
    assert written[0] < 1000, "a configuration that no pipe takes at once is left out"


@pytest.mark.parametrize("kind", FAKES)
def test_a_rollout_is_the_same_with_a_tracker_that_fails(
    kind: str, make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(FAKES[kind])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    status, _, err = make("tracker=wandb")
    assert (status, err) == (0, "")
    (tracked,) = (tmp_path / "runs").iterdir()
    assert not (tracked / "wandb").exists()
    if kind == "dead":
        assert make(f"runs_root={tmp_path / 'plain'}").status == 0
        (plain,) = (tmp_path / "plain").iterdir()
        assert plain.name == tracked.name
        for video in (plain / "samples").glob("*.mp4"):
            assert video.read_bytes() == (tracked / "samples" / video.name).read_bytes()


def test_other_trackers_are_refused(make: Command) -> None:
    status, _, err = make("tracker=other")
    assert (status, err.count("\n")) == (2, 1)
    assert "tracker=other" in err
