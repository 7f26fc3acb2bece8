"""A sweep's points as jobs: of this machine by submitit's local executor, and of a real SLURM where one can be started."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import slurm
from commands import BLUE, RED, Command, Outcome
from rich.console import Console

from experiments.sweeps import cluster
from experiments.sweeps import slurm as asked
from experiments.sweeps.slurm import last_line

pytest.importorskip("submitit")
POINTS = "points={a:['cache.retention.window_frames=6'],b:['cache.retention.window_frames=9']}"
ROOT = Path(__file__).parents[2]


def words(checkpoint: Path, folder: Path, *more: str) -> tuple[str, ...]:
    given = {"seconds": "2", "prompts": f"['{RED}','{BLUE}']", "model.checkpoint": str(checkpoint), "ends": "1"}
    given |= {"runs_root": str(folder / "runs"), "out": str(folder / "out.md"), "metrics": "[saturation]"}
    given |= {"window_seconds": "0.5", "baseline": "a", "device": "cpu", "sweep.figures": "{}", "threads": "1"}
    typed = {word.partition("=")[0] for word in more}
    return ("run", POINTS, *(f"{key}={value}" for key, value in given.items() if key not in typed), *more)


def scores(folder: Path) -> pd.DataFrame:
    """The final table, without what depends on the machine's load."""
    table = pd.read_csv(folder / "out.csv")
    return table[~table["metric"].isin(["chunk_time", "fps"])].reset_index(drop=True)


def videos(folder: Path) -> dict[str, bytes]:
    return {f"{p.parts[-3]}/{p.name}": p.read_bytes() for p in sorted((folder / "runs").glob("*/samples/*.mp4"))}


@pytest.fixture
def whole(command: Command, checkpoint: Path, tmp_path: Path) -> Path:
    """The same sweep in one process, without a launcher."""
    folder = tmp_path / "whole"
    folder.mkdir()
    done = command("sweep", *words(checkpoint, folder))
    assert (done.status, done.err) == (0, "")
    return folder


def test_jobs_of_this_machine_give_the_table_of_one_process(
    command: Command, checkpoint: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that fails is told and keeps no other; the same command makes it, and then nothing is left."""
    folder = tmp_path / "jobs"
    bad = next((whole / "runs").glob("self_forcing-*")).name
    (folder / "runs" / bad / "samples").mkdir(parents=True)
    (folder / "runs" / bad / "samples" / "x.json").write_text(
        "{}"
    )  # samples without run.json: refused when work begins
    monkeypatch.chdir(ROOT)
    jobs = (*words(checkpoint, folder), "launcher=local")
    status, out, err = command("sweep", *jobs)
    assert status == 1
    assert "2 jobs: 0 done, 0 in the queue already, 2 new" in " ".join(out.split())
    assert "1 of 2 points failed; the same command tries them again:" in err
    assert re.search(rf"  [ab]: .*{bad} has samples but no run\.json", err)
    assert len(videos(folder)) == 4  # the other point's, and the real ones
    (folder / "runs" / bad / "samples" / "x.json").unlink()
    status, out, err = command("sweep", *jobs)
    assert (status, err) == (0, ""), err
    assert "2 jobs: 1 done, 0 in the queue already, 1 new" in " ".join(out.split())
    pd.testing.assert_frame_equal(scores(folder), scores(whole))
    assert videos(folder) == videos(whole)
    (place,) = (folder / "runs" / ".sweeps").iterdir()  # pickles and logs lie beside the runs
    assert len(list(place.glob("*.ended.json"))) == 2
    assert list((place / "logs").glob("*.pkl"))


def commands(folder: Path, **texts: str | None) -> Path:
    """Programs that print a text and, where it has "error", fail; None: there is no such program."""
    folder.mkdir()
    for name, text in texts.items():
        if text is None:
            continue
        (folder / f"{name}.txt").write_text(text)
        to = ">&2; exit 1" if "error" in text else ""
        (folder / name).write_text(f"#!/bin/sh\n/bin/cat {folder / name}.txt {to}\n")
        (folder / name).chmod(0o755)
    return folder


SMALL = ("launcher.gpus=0", "launcher.cpus=1", "launcher.minutes=30")
TAKEN = "Submitted batch job 7\n"
DRAINED = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
ACCOUNT = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n"
REFUSED = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates limits\n"


def waiting(reason: str) -> str:
    """What squeue says of two jobs."""
    return f"7_0|PD|main|{reason}\n7_1|PD|main|{reason}\n"


@pytest.mark.parametrize(
    ("programs", "typed", "said"),
    [
        (
            dict.fromkeys(asked.COMMANDS),
            (),
            "launcher=slurm needs SLURM's sbatch, squeue, sinfo, scancel, srun, not found",
        ),
        ({"sbatch": None}, (), "launcher=slurm needs SLURM's sbatch, not found on PATH: run this on a login node"),
        ({}, ("launcher.partition=gpu",), "launcher.partition=gpu is no partition here; there are long, main"),
        ({}, (), "SLURM takes no jobs now: Batch job submission failed: Job violates limits; nothing was submitted"),
        (
            {"sbatch": ACCOUNT},
            ("launcher.account=x",),
            "SLURM takes no jobs now: Batch job submission failed: Invalid account",
        ),
        ({"sinfo": "sinfo: error: unable to contact\n"}, (), "SLURM's sinfo says: unable to contact"),
        ({"squeue": "squeue: error: too busy\n"}, (), "SLURM's squeue says: too busy"),
        (
            {"sbatch": TAKEN, "squeue": waiting("PartitionConfig")},
            (),
            "SLURM will never start these jobs (PartitionConfig), so",
        ),
        (
            {"sbatch": TAKEN, "squeue": waiting("AssocMaxCpuPerJobLimit")},
            (),
            "never start these jobs (AssocMaxCpuPerJobLimit), so",
        ),
        (
            {"sbatch": TAKEN, "squeue": waiting(DRAINED)},
            (),
            f"no node takes these jobs ({DRAINED}); they stay in the queue",
        ),
        ({"sbatch": TAKEN, "squeue": waiting("PartitionDown")}, (), "waits for them again, scancel 7 ends them"),
        ({}, ("launcher.minutes=2",), "launcher.minutes=2 must be a whole number of at least 3"),
        ({}, ("shard=0/2",), "shard=0/2: a launcher makes shards itself, say launcher.shards=2"),
        ({}, ("launcher.gpus=-1",), "launcher.gpus=-1 must be a whole number of at least 0"),
        ({}, ("launcher.partitions=a",), "launcher.partitions is not a key here; did you mean launcher.partition?"),
        ({}, ("device=gpu",), "device=gpu is unknown"),
    ],
)
def test_what_a_cluster_refuses_is_one_line(
    programs: dict[str, str | None],
    typed: tuple[str, ...],
    said: str,
    command: Command,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of the device is looked at: this machine lacks the GPU that is asked for."""
    monkeypatch.setattr(asked, "PATIENCE", 0.0)
    fake = {"sinfo": "main\nlong\n", "squeue": "", "sbatch": REFUSED, "srun": "", "scancel": "", **programs}
    monkeypatch.setenv("PATH", str(commands(tmp_path / "bin", **fake)))
    status, _, err = command("sweep", *words(checkpoint, tmp_path, "device=cuda:99"), "launcher=slurm", *typed)
    assert (status, err.count("\n")) == (2, 1), err
    assert said in err
    assert not list(tmp_path.glob("runs/*/samples/*"))


def test_jobs_that_nobody_will_start_keep_no_ended_one_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one runs, or a node is up, the others have hope; what no node takes is told as failed, and not cancelled."""
    told: list[tuple[str, ...]] = []
    held = ("PD", "main", DRAINED)
    nodes = iter(["up|drain\nup|alloc\n", "up|drain*\nup|down\n"])
    queues = iter([{"7_0": ("R", "main", "None"), "7_1": held}, {"7_1": held}, {"7_1": held}])
    monkeypatch.setattr(asked, "POLL", 0.0)
    monkeypatch.setattr(asked, "PATIENCE", 0.0)
    monkeypatch.setattr(asked, "states", lambda: next(queues))
    monkeypatch.setattr(asked, "asked", lambda *c: next(nodes) if c[0] == "sinfo" else told.append(c) or "")
    assert list(asked.wait_for({"a": "7_0", "b": "7_1"}, Console(quiet=True))) == ["b"]
    assert told == []
    queues = iter([{"7_1": ("PD", "main", "QOSMinCpuNotSatisfied")}])
    assert "cancelled" in asked.wait_for({"a": "7_0", "b": "7_1"}, Console(quiet=True))["b"]
    assert told == [("scancel", "7")]


def test_what_jobs_left_is_how_they_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of their own; none, with a log; and nothing at all, which no node does that shares the folder."""
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    task = cluster.Task("a", "a", "0/1", (), tmp_path)
    (tmp_path / "logs").mkdir()
    assert "is runs_root on a file system that its node shares" in cluster.how_it_ended(task, "7_0", tmp_path)
    (tmp_path / "logs" / "7_0_0_log.out").write_text("killed")
    assert cluster.how_it_ended(task, "7_0", tmp_path).endswith("its log: " + str(tmp_path / "logs" / "7_0_0_log.out"))
    task.ended.write_text(json.dumps({"task": "a", "problems": ["no space"]}))
    assert cluster.how_it_ended(task, "7_0", tmp_path) == "no space"
    task.ended.write_text(json.dumps({"task": "a", "problems": []}))
    assert cluster.how_it_ended(task, "7_0", tmp_path) == ""
    task.ended.write_text("{")
    assert cluster.problems_of(task) is None


# ---- a real SLURM ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if not slurm.installed():
        pytest.skip("no SLURM, and no root or apt to install it")
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
    queue: dict[str, str], checkpoint: Path, whole: Path, tmp_path: Path
) -> None:
    """The command is killed, a job is killed: the same command waits for the jobs that go on, and repeats the other."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    jobs = (*words(checkpoint, folder), "launcher=slurm", *SMALL, "launcher.shards=2")
    partial = sweep(*jobs, "launcher.partition=gpu", queue=queue)
    assert "launcher.partition=gpu is no partition here; there are main" in ended(partial).err
    first = sweep(*jobs, queue=queue)
    deadline = time.monotonic() + 600
    while not list((folder / "runs").glob("self_forcing-*/samples/*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    ended(first)
    listed = subprocess.run(["squeue", "-h", "-r", "-t", "R", "-o", "%i"], env=queue, capture_output=True, text=True)
    (job, *_) = listed.stdout.split()
    subprocess.run(["scancel", "--signal=KILL", "--full", job], env=queue, check=True)
    status, out, err = ended(sweep(*jobs, queue=queue))
    if status:  # the killed job was still in the queue when the command looked: it is told, and repeated by the next
        assert status == 1
        assert "ended without a word: killed" in err
        status, out, err = ended(sweep(*jobs, queue=queue))
    assert (status, err) == (0, ""), out + err
    pd.testing.assert_frame_equal(scores(folder), scores(whole))
    assert videos(folder) == videos(whole)
    more = (*words(checkpoint, folder, "seeds=[0,1,2,3]"), "launcher=slurm", *SMALL)
    told = ended(sweep(*more, "launcher.shards=8", queue=queue))  # 16 jobs, and the queue takes 10
    assert (told.status, told.err.count("\n")) == (2, 1)
    assert "SLURM takes no jobs now: " in told.err
    told = ended(sweep(*more, "launcher.minutes=100", queue=queue))
    assert (told.status, told.err.count("\n")) == (2, 1)
    assert "SLURM will never start these jobs (PartitionTimeLimit), so they are cancelled" in told.err


@pytest.mark.slow
def test_a_job_that_is_pre_empted_is_queued_again_and_goes_on(
    queue: dict[str, str], checkpoint: Path, whole: Path, tmp_path: Path
) -> None:
    """The signal that SLURM sends before the end of the time, or to give the node to others."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    process = sweep(*words(checkpoint, folder), "launcher=slurm", *SMALL, queue=queue)
    deadline = time.monotonic() + 600
    while not list((folder / "runs").glob("self_forcing-*/samples/*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.2)
    listed = subprocess.run(["squeue", "-h", "-r", "-t", "R", "-o", "%i"], env=queue, capture_output=True, text=True)
    (job, *_) = listed.stdout.split()
    subprocess.run(["scancel", "--signal=USR2", "--full", job], env=queue, check=True)
    status, out, err = ended(process)
    assert (status, err) == (0, ""), out + err
    logs = "".join(path.read_text() for path in (folder / "runs" / ".sweeps").rglob(f"{job}_*log.out"))
    assert "Requeued job" in logs
    pd.testing.assert_frame_equal(scores(folder), scores(whole))


@pytest.mark.slow
def test_a_job_whose_own_time_ends_is_queued_again_and_keeps_what_is_finished(
    queue: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    """Of 50 videos a point some are there when SLURM's signal comes, 30 to 90 s after the job began."""
    folder, alone = tmp_path / "jobs", tmp_path / "alone"
    given = ("launcher=slurm", *SMALL[:2], "launcher.minutes=3")
    few, all_seeds = "seeds=[0,24]", f"seeds=[{','.join(map(str, range(25)))}]"
    done = ended(sweep(*words(checkpoint, folder, "seconds=30", all_seeds), *given, queue=queue))
    assert (done.status, done.err) == (0, ""), done.out + done.err
    logs = "".join(path.read_text() for path in (folder / "runs" / ".sweeps").rglob("*log.out"))
    assert "this job is timed-out" in logs
    assert "Requeued job" in logs
    assert re.search(r": 50 videos of \S+ s, [1-9]\d* already there", logs)
    for place in (folder, alone):  # the first video and the last, before the end of the time and after it
        done = ended(sweep(*words(checkpoint, place, "seconds=30", few), queue=queue))
        assert (done.status, done.err) == (0, ""), done.out + done.err
    pd.testing.assert_frame_equal(scores(folder), scores(alone))
    assert videos(alone).items() <= videos(folder).items()


@pytest.mark.slow
def test_a_node_that_is_drained_and_one_that_does_not_see_the_runs(checkpoint: Path, tmp_path: Path) -> None:
    """Drained: jobs wait, and after it the same command finishes them. A folder that is not shared: told at once, one line."""
    if not slurm.installed():
        pytest.skip("no SLURM, and no root or apt to install it")
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


def test_the_last_error_of_many_lines() -> None:
    assert (
        last_line("x\nsbatch: error: a\nsbatch: error: invalid partition specified: b\n")
        == "invalid partition specified: b"
    )
    assert last_line("") == "nothing"
