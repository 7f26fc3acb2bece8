"""A sweep's points as jobs of this machine (submitit), and what a cluster refuses; test_slurm.py has a real one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from commands import Command
from rich.console import Console
from swept import ROOT, scores, videos, words

from experiments.sweeps import cluster
from experiments.sweeps import slurm as asked
from experiments.sweeps.slurm import last_line

pytest.importorskip("submitit")


def test_jobs_of_this_machine_give_the_table_of_one_process(
    command: Command, checkpoint: Path, whole_sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that fails is told and keeps no other; the same command makes it, and then nothing is left."""
    folder = tmp_path / "jobs"
    bad = next((whole_sweep / "runs").glob("self_forcing-*")).name
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
    pd.testing.assert_frame_equal(scores(folder), scores(whole_sweep))
    assert videos(folder) == videos(whole_sweep)
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


def test_the_last_error_of_many_lines() -> None:
    assert (
        last_line("x\nsbatch: error: a\nsbatch: error: invalid partition specified: b\n")
        == "invalid partition specified: b"
    )
    assert last_line("") == "nothing"
