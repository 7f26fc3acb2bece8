"""Ended from outside: what is finished stays, workers end too, and how to go on is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import BLUE, RED, Command

from deepforcing.runs import RunDir
from experiments.command import program

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SAID = {
    signal.SIGINT: "interrupted: what is finished stays; run the same command again to go on",
    signal.SIGTERM: "told to end: what is finished stays; run the same command again to go on",
    signal.SIGHUP: "hung up: what is finished stays; run the same command again to go on",
}


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    """Also where the tests were started by nohup or in a script's background, which has these ignored: children inherit it."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", SAID)
def test_a_signal_ends_a_command_with_its_number(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a library takes the exception for an error of its own."""

    def swallowed(_: list[str]) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except BaseException:
            raise KeyError("a library's own") from None

    def told(_: list[str]) -> None:
        os.kill(os.getpid(), number)
        time.sleep(1)

    monkeypatch.setattr(sys, "argv", ["x.py"])
    before = signal.getsignal(number)
    for work in (told, swallowed):
        with pytest.raises(SystemExit) as end:
            program(work, str)()
        assert end.value.code == 128 + number
        assert capsys.readouterr() == ("", SAID[number] + "\n")
        assert signal.getsignal(number) == signal.SIG_DFL  # until the process is gone: Python's own has a traceback
        signal.signal(number, before)


@pytest.mark.parametrize("again", SAID)
def test_a_second_signal_at_once_disturbs_no_ending(
    again: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An impatient Ctrl-C, or a terminal that hangs up and ends: what the first began, such as ending workers, is done."""
    done = []

    def work(_: list[str]) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        finally:
            os.kill(os.getpid(), again)
            time.sleep(0.05)
            done.append(again)

    monkeypatch.setattr(sys, "argv", ["x.py"])
    before = {number: signal.getsignal(number) for number in SAID}
    with pytest.raises(SystemExit) as end:
        program(work, str)()
    for number, handler in before.items():
        signal.signal(number, handler)
    assert (end.value.code, done) == (130, [again])
    assert capsys.readouterr() == ("", SAID[signal.SIGINT] + "\n")


def test_signals_are_as_before_where_none_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x.py"])
    before = [signal.getsignal(number) for number in SAID]
    program(lambda _: 0, str)()
    assert [signal.getsignal(number) for number in SAID] == before


def test_a_rollout_that_is_told_to_end_goes_on_later(make: Command, checkpoint: Path, tmp_path: Path) -> None:
    """The same files as after kill -9: finished samples, and nothing under a finished name that is not."""
    arguments = [f"model.checkpoint={checkpoint}", "seconds=1", f"prompts=['{RED}','{BLUE}']"]
    assert make(*arguments).status == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "runs").glob("*/samples/*.mp4")}
    slowly = (
        "import sys, time, deepforcing.video as v; write = v.VideoWriter.write\n"
        "v.VideoWriter.write = lambda *a: (time.sleep(0.3), write(*a))[1]\n"
        "import experiments.rollout as r; sys.argv[0] = 'rollout'; r.main()"
    )
    number, root = signal.SIGTERM, tmp_path / "ended"
    with subprocess.Popen(
        [sys.executable, "-c", slowly, *arguments, f"runs_root={root}"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(lambda: list(root.glob("*/samples/*.json")))
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (128 + number, SAID[number] + "\n")
    (run,) = root.iterdir()
    finished = RunDir.open(run).completed()
    assert len(finished) == 1
    assert {p.name for p in run.glob("samples/*.mp4")} == {f"{name}.mp4" for name in finished}
    assert make(*arguments, f"runs_root={root}").status == 0
    assert {path.name: path.read_bytes() for path in root.glob("*/samples/*.mp4")} == whole


WORKERS = """
import os, sys, time
from experiments.command import program
from experiments.command.terminal import bar, console
from experiments.workers import follow, workers

def work(seconds):
    os.write(1, b"%d\\n" % os.getpid())  # at once: two write
    time.sleep(seconds)

def main(_):
    with bar(console(quiet=True), "") as shown, workers(2) as (pool, ticker):
        follow(shown, "sleeping", 2, [pool.submit(work, 600) for _ in range(2)], ticker)

if __name__ == "__main__":
    sys.argv = ["x.py"]
    program(main, str)()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_command(number: signal.Signals, tmp_path: Path) -> None:
    """In the middle of their work, however it ends."""
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    with subprocess.Popen(
        [sys.executable, str(script)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ids = [int(process.stdout.readline()) for _ in range(2)]
        assert all(alive(i) for i in ids)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
        wait_for(lambda: not any(alive(i) for i in ids), 10)
        assert time.monotonic() - began < 15
        if number in SAID:
            assert process.stderr.read() == SAID[number] + "\n"


def test_a_worker_that_is_killed_ends_the_command_in_a_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    with subprocess.Popen(
        [sys.executable, str(script)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first, second = (int(process.stdout.readline()) for _ in range(2))
        os.kill(first, signal.SIGKILL)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert "a worker process was ended from outside" in err
    assert not alive(second)
