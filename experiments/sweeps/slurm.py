"""SLURM as seen from a login node: its partitions, its queue, and what it says when it takes no jobs.

The queue is asked with `squeue`; submitit asks the accounting, which small clusters lack.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

POLL = 5.0  # seconds between two looks at the queue
NEVER = (
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "PartitionInactive",
    "InvalidAccount",
    "InvalidQOS",
    "BadConstraints",
)


def check_slurm(partition: str | None) -> None:
    """Raises ValueError where there is no SLURM, it does not answer, or it has no such partition."""
    try:
        known = asked("sinfo", "-h", "-o", "%R").split()
    except FileNotFoundError:
        raise ValueError(
            "launcher=slurm needs SLURM's commands (sbatch, squeue, sinfo): run this on a login node"
        ) from None
    if partition is not None and partition not in known:
        raise ValueError(
            f"launcher.partition={partition} is no partition here; there are {', '.join(sorted(set(known)))}"
        )


def asked(*command: str) -> str:
    """What a command of SLURM prints. Raises ValueError in one line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise ValueError(f"SLURM's {command[0]} says: {last_line(done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    """The last error of SLURM's in a text of many lines."""
    found = (
        re.findall(r"^(?:sbatch|sinfo|squeue|scancel): error: (.+)$", text, re.M)
        or text.strip().splitlines()[-1:]
        or ["nothing"]
    )
    return str(found[-1]).strip()[:300]


def submitted(tasks: Sequence[Callable[[], None]], of: Any, folder: Path) -> list[str]:
    """Job ids of one array. of: conf/launcher/slurm.yaml. Raises ValueError with what SLURM says where it takes none."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.SlurmExecutor(folder / "logs", max_num_timeout=int(of.requeues))
    wanted = {
        "job_name": f"sweep-{folder.name}",
        "partition": of.partition,
        "account": of.account,
        "gpus_per_node": of.gpus or None,
        "cpus_per_task": of.cpus,
        "mem": None if of.memory_gb is None else f"{of.memory_gb}GB",
        "time": of.minutes,
        "array_parallelism": of.at_once,
        "setup": list(of.setup) or None,
        "stderr_to_stdout": True,
    }
    executor.update_parameters(**{key: value for key, value in wanted.items() if value is not None})
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it repeats SLURM's lines there, which the error below has too
            jobs = executor.submit_array(list(tasks))
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        told = last_line(f"{error}\n{getattr(error, 'stderr', '') or ''}")
        raise ValueError(f"SLURM takes no jobs now: {told}; nothing was submitted") from None
    return [str(job.job_id) for job in jobs]


def states() -> dict[str, tuple[str, str]]:
    """{job id: (state, reason)} of the user's jobs that have not ended. Raises ValueError where SLURM does not answer."""
    lines = asked("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%t|%r").splitlines()
    found = (line.split("|", 2) for line in lines if line.count("|") >= 2)
    return {job: (state, reason) for job, state, reason in found}


def wait_for(jobs: Mapping[str, str], out: Console) -> None:
    """Until none is queued or runs. What changes is told; a SLURM that does not answer for a while is waited for.

    Raises ValueError where what is left will never start: it is taken out of the queue.
    """
    left, said = dict(jobs), ""
    while left:
        try:
            queue = states()
        except (ValueError, subprocess.TimeoutExpired) as error:
            queue, told = None, f"waiting for SLURM: {error}"
        if queue is not None:
            left = {name: job for name, job in left.items() if job in queue}
            running = sum(queue[job][0] == "R" for job in left.values())
            why = sorted({queue[job][1] for job in left.values() if queue[job][0] == "PD"} - {"None"})
            stuck = {queue[job][1] for job in left.values() if queue[job][1].startswith(NEVER)}
            if stuck and all(queue[job][1] in stuck for job in left.values()):
                asked("scancel", *sorted({job.partition("_")[0] for job in left.values()}))
                raise ValueError(
                    f"SLURM will never start these jobs ({', '.join(sorted(stuck))}), so they are cancelled: ask for less "
                    "(launcher.minutes ...), or for another partition or account"
                )
            told = (
                f"{len(jobs) - len(left)} of {len(jobs)} jobs ended, {running} running, {len(left) - running} waiting"
            )
            told += f" ({', '.join(why)})" if why else ""
        if told != said:
            out.print(told, markup=False)
            said = told
        if left:
            time.sleep(POLL)
