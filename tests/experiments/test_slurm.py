"""A sweep's points as jobs of a real SLURM, where one can be started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import slurm
from commands import Outcome
from swept import ROOT, SMALL, scores, videos, words

pytest.importorskip("submitit")


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if not slurm.installed():
        pytest.skip(slurm.WHY_NOT)
    with slurm.running(tmp_path_factory.mktemp("slurm"), most_jobs=10) as environment:
        yield {**os.environ, **environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def sweep(*arguments: str, queue: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", *arguments],
        cwd=ROOT, env=queue, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=1200)
    return Outcome(process.returncode, out, err)


@pytest.mark.slow
def test_a_sweep_on_slurm_killed_half_way_ends_as_if_it_had_not_been(
    queue: dict[str, str], checkpoint: Path, whole_sweep: Path, tmp_path: Path
) -> None:
    """The command is killed, a job is killed: the same command waits for the jobs that go on, and repeats the other."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    jobs = (*words(checkpoint, folder), "launcher=slurm", *SMALL, "launcher.shards=2")
    partial = sweep(*jobs, "launcher.partition=gpu", queue=queue)
    assert "launcher.partition=gpu is no partition here; there are main" in ended(partial).err
    first = sweep(*jobs, queue=queue)
    until(lambda: any((folder / "runs").glob("self_forcing-*/samples/*.mp4")))
    first.send_signal(signal.SIGKILL)
    ended(first)
    (job, *_) = running(queue)
    subprocess.run(["scancel", "--signal=KILL", "--full", job], env=queue, check=True)
    status, out, err = ended(sweep(*jobs, queue=queue))
    if status:  # the killed job was still in the queue when the command looked: it is told, and repeated by the next
        assert status == 1
        assert "ended without a word: killed" in err
        status, out, err = ended(sweep(*jobs, queue=queue))
    assert (status, err) == (0, ""), out + err
    pd.testing.assert_frame_equal(scores(folder), scores(whole_sweep))
    assert videos(folder) == videos(whole_sweep)
    more = (*words(checkpoint, folder, "seeds=[0,1,2,3]"), "launcher=slurm", *SMALL)
    told = ended(sweep(*more, "launcher.shards=8", queue=queue))  # 16 jobs, and the queue takes 10
    assert (told.status, told.err.count("\n")) == (2, 1)
    assert "SLURM takes no jobs now: " in told.err
    told = ended(sweep(*more, "launcher.minutes=100", queue=queue))
    assert (told.status, told.err.count("\n")) == (2, 1)
    # SLURM's reason is the one or the other, by who looked first.
    assert re.search(
        r"SLURM will never start these jobs \(Partition(TimeLimit|Config)\), so they are cancelled", told.err
    )


@pytest.mark.slow
def test_a_job_that_is_pre_empted_is_queued_again_and_goes_on(
    queue: dict[str, str], checkpoint: Path, whole_sweep: Path, tmp_path: Path
) -> None:
    """The signal that SLURM sends before the end of the time, or to give the node to others."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    process = sweep(*words(checkpoint, folder), "launcher=slurm", *SMALL, queue=queue)
    rolling: list[str] = []  # a job that imports still has nobody yet to hear the signal

    def one_rolls() -> bool:
        rolling[:] = [job for job in running(queue) if " videos of " in logs_of(folder, job)]
        return bool(rolling)

    until(one_rolls)
    job = rolling[0]
    subprocess.run(["scancel", "--signal=USR2", "--full", job], env=queue, check=True)
    status, out, err = ended(process)
    assert (status, err) == (0, ""), out + err
    assert "Requeued job" in logs_of(folder, job)
    pd.testing.assert_frame_equal(scores(folder), scores(whole_sweep))


@pytest.mark.slow
def test_a_job_whose_own_time_ends_is_queued_again_and_keeps_what_is_finished(
    queue: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    """Its limit is set to a minute or so from now when the first videos are there: SLURM itself then sends the signal."""
    folder, alone = tmp_path / "jobs", tmp_path / "alone"
    few, all_seeds = "seeds=[0,11]", f"seeds=[{','.join(map(str, range(12)))}]"
    process = sweep(*words(checkpoint, folder, "seconds=30", all_seeds), "launcher=slurm", *SMALL, queue=queue)
    until(lambda: len({p.parts[-3] for p in (folder / "runs").glob("self_forcing-*/samples/*.mp4")}) == 2)
    limit("R", queue)
    until(lambda: logs_of(folder).count("Requeued job") >= 2)
    before = len(list((folder / "runs").glob("self_forcing-*/samples/*.json")))
    assert 2 <= before < 48
    limit("PD", queue, minutes=30)
    done = ended(process)
    assert (done.status, done.err) == (0, ""), done.out + done.err
    again = re.findall(r": 24 videos of \S+ s, (\d+) already there", logs_of(folder))
    assert sum(map(int, again)) == before
    for place in (folder, alone):  # a video made before the end of the time, and one made after it
        done = ended(sweep(*words(checkpoint, place, "seconds=30", few), queue=queue))
        assert (done.status, done.err) == (0, ""), done.out + done.err
    pd.testing.assert_frame_equal(scores(folder), scores(alone))
    assert videos(alone).items() <= videos(folder).items()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 900
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def running(queue: dict[str, str]) -> list[str]:
    """The jobs of the queue that run, as SLURM names them."""
    listed = subprocess.run(["squeue", "-h", "-r", "-t", "R", "-o", "%i"], env=queue, capture_output=True, text=True)
    return listed.stdout.split()


def logs_of(folder: Path, job: str = "") -> str:
    """What all jobs wrote, or one."""
    return "".join(path.read_text() for path in (folder / "runs" / ".sweeps").rglob(f"{job}*log.out"))


def limit(state: str, queue: dict[str, str], minutes: int | None = None) -> None:
    """Sets the time limit of the two jobs, when both are in this state; None: 45 to 105 s from now."""

    def listed() -> list[str]:
        asked = ["squeue", "-h", "-r", "-t", state, "-o", "%i %M"]
        return subprocess.run(asked, env=queue, capture_output=True, text=True).stdout.splitlines()

    until(lambda: len(listed()) == 2)
    for job, _, ran in (line.partition(" ") for line in listed()):
        minute, second = map(int, ran.split(":"))
        wanted = minutes or -(-(60 * minute + second + 45) // 60)
        subprocess.run(["scontrol", "update", f"JobId={job}", f"TimeLimit={wanted}"], env=queue, check=True)


@pytest.mark.slow
def test_a_node_that_is_drained_and_one_that_does_not_see_the_runs(checkpoint: Path, tmp_path: Path) -> None:
    """Drained: jobs wait, and after it the same command finishes them. A folder that is not shared: told at once, one line."""
    if not slurm.installed():
        pytest.skip(slurm.WHY_NOT)
    hidden, place = tmp_path / "hidden", tmp_path / "slurm"
    hidden.mkdir()
    place.mkdir()
    with slurm.running(place, hidden=hidden) as environment:
        here = {**os.environ, **environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        told = ended(sweep(*words(checkpoint, hidden), "launcher=slurm", *SMALL, queue=here))
        assert told.status == 1
        assert re.search(r"  a, b: left nothing in \S+, not even a log: is runs_root on a file system that", told.err)
        node = environment["NODE"]
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=drain", "reason=x"], env=here, check=True)
        jobs = (*words(checkpoint, tmp_path), "launcher=slurm", *SMALL)
        program = "import sys; from experiments.sweeps import slurm; slurm.PATIENCE = 5.0; slurm.POLL = 1.0; "
        program += "sys.argv[0] = 'experiments/sweep.py'; from experiments.sweep import main; main()"
        told = Outcome(*run_program(program, jobs, here))
        assert (told.status, told.err.count("\n")) == (2, 1)
        assert "no node takes these jobs (" in told.err
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], env=here, check=True)
        told = ended(sweep(*jobs, queue=here))
        assert (told.status, told.err) == (0, ""), told.out + told.err
        assert "2 in the queue already, 0 new" in " ".join(told.out.split())


def run_program(program: str, arguments: tuple[str, ...], queue: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, env=queue, capture_output=True, text=True, timeout=1200
    )
    return done.returncode, done.stdout, done.stderr
