"""SLURM as seen from a login node: its partitions, its queue, and what it says when it takes no jobs.

The queue is asked with `squeue`; submitit asks the accounting, which small clusters lack.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

COMMANDS = ("sbatch", "squeue", "sinfo", "scancel", "srun")
POLL = 5.0  # seconds between two looks at the queue
PATIENCE = 600.0  # seconds for which no node may take any of the jobs; a node that boots takes less
LIMIT = "PerJob"  # in the names of limits on what one job may ask for: AssocMaxCpuPerJobLimit, QOSMaxMemoryPerJob ...
# Why jobs wait, as squeue says it: what no time mends ...
NEVER = (
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "PartitionConfig",
    "PartitionInactive",
    "InvalidAccount",
    "InvalidQOS",
    "AccountNotAllowed",
    "QOSNotAllowed",
    "BadConstraints",
    "QOSMin",
)
# ... and what somebody else has to mend.
HELD = ("PartitionDown", "ReqNodeNotAvail", "Nodes_required_for_job_are_DOWN", "JobHeld", "launch_failed")


def check_slurm(partition: str | None) -> None:
    """Raises ValueError where there is no SLURM, it does not answer, or it has no such partition."""
    if missing := [name for name in COMMANDS if shutil.which(name) is None]:
        raise ValueError(
            f"launcher=slurm needs SLURM's {', '.join(missing)}, not found on PATH: run this on a login node"
        )
    known = asked("sinfo", "-h", "-o", "%R").split()
    if partition is not None and partition not in known:
        raise ValueError(
            f"launcher.partition={partition} is no partition here; there are {', '.join(sorted(set(known)))}"
        )


def asked(*command: str) -> str:
    """What a command of SLURM prints. Raises ValueError in one line where it fails, or says nothing for two minutes."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise ValueError(f"SLURM's {command[0]} did not answer within 120 s") from None
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


def wait_for(jobs: Mapping[str, str], out: Console) -> dict[str, str]:
    """Until none is queued or runs. What changes is told; a SLURM that does not answer for a while is waited for.

    Returns {name: why} of jobs that are waited for no longer: what can never start is taken out of the queue, what waits for
    somebody to mend a node or a partition stays in it. Raises ValueError with the reason where that is so of all jobs.
    """
    left, said, hoped = dict(jobs), "", time.monotonic()
    while left:
        try:
            queue = states()
        except ValueError as error:
            queue, told = None, f"waiting for SLURM: {error}"
        if queue is not None:
            left = {name: job for name, job in left.items() if job in queue}
            reasons = [queue[job][1] if queue[job][0] == "PD" else "" for job in left.values()]
            waiting, running = sum(map(bool, reasons)), sum(queue[job][0] == "R" for job in left.values())
            hope = not all(reason.startswith((*NEVER, *HELD)) or LIMIT in reason for reason in reasons)
            hoped = time.monotonic() if hope else hoped
            if left and not hope and (why := given_up(left, reasons, time.monotonic() - hoped)):
                if len(left) == len(jobs):
                    raise ValueError(why)
                return dict.fromkeys(left, why)
            told = f"{len(jobs) - len(left)} of {len(jobs)} jobs ended, {running} running, {waiting} waiting"
            told += f" ({', '.join(known)})" if (known := sorted({*reasons} - {"", "None"})) else ""
        if told != said:
            out.print(told, markup=False)
            said = told
        if left:
            time.sleep(POLL)
    return {}


def given_up(left: Mapping[str, str], reasons: Sequence[str], hopeless: float) -> str:
    """Why these jobs are waited for no longer; "": they are. What no time mends is taken out of the queue.

    reasons: why each waits, "" for one that runs. hopeless: seconds since one of them last had any hope to start.
    """
    arrays, why = sorted({job.partition("_")[0] for job in left.values()}), ", ".join(sorted(set(reasons)))
    if all(reason.startswith(NEVER) or LIMIT in reason for reason in reasons):
        asked("scancel", *arrays)
        return (
            f"SLURM will never start these jobs ({why}), so they are cancelled: ask for less (launcher.minutes, cpus ...), "
            "or for another partition or account"
        )
    if hopeless >= PATIENCE:
        return (
            f"for {PATIENCE / 60:.0f} minutes no node takes these jobs ({why}); they stay in the queue: the same command waits "
            f"for them again, scancel {' '.join(arrays)} ends them"
        )
    return ""
