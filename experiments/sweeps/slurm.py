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
HELD = ("PartitionDown", "JobHeld", "launch failed")
NODES = ("ReqNodeNotAvail", "Nodes required for job are DOWN")  # ... or, where a node is up, the end of others' jobs
GONE = ("down", "drain", "drng", "fail", "unk", "maint", "inval")


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


def states() -> dict[str, tuple[str, str, str]]:
    """{job id: (state, partition, reason)} of the user's jobs that have not ended. Raises ValueError where SLURM does not
    answer."""
    lines = asked("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%t|%P|%r").splitlines()
    found = (line.split("|", 3) for line in lines if line.count("|") >= 3)
    return {job: (state, partition, reason) for job, state, partition, reason in found}


def hopeless(waits: Sequence[tuple[str, str, str]]) -> bool:
    """Whether all of these jobs wait for what will not come by itself. waits: as `states` has them."""
    reasons = [reason for state, _, reason in waits if state == "PD"]
    if len(reasons) < len(waits) or not all(r.startswith((*NEVER, *HELD, *NODES)) or LIMIT in r for r in reasons):
        return False
    asking = sorted({partition for _, partition, reason in waits if reason.startswith(NODES)})
    if not asking:
        return True
    nodes = asked("sinfo", "-h", "-p", ",".join(asking), "-o", "%a|%t").splitlines()
    pairs = (line.partition("|")[::2] for line in nodes)
    return not any(up == "up" and not node.startswith(GONE) and not node.endswith("*") for up, node in pairs)


def wait_for(jobs: Mapping[str, str], out: Console) -> dict[str, str]:
    """Until none is queued or runs. What changes is told; a SLURM that does not answer for a while is waited for.

    Returns {name: why} of jobs that are waited for no longer: what can never start is taken out of the queue, what waits for
    somebody to mend a node or a partition stays in it. Raises ValueError with the reason where that is so of all jobs.
    """
    left, said, hoped = dict(jobs), "", time.monotonic()
    while left:
        try:
            queue = states()
            left = {name: job for name, job in left.items() if job in queue}
            stuck = bool(left) and hopeless([queue[job] for job in left.values()])
        except ValueError as error:
            stuck, told = False, f"waiting for SLURM: {error}"
        else:
            waits = [queue[job][2] for job in left.values() if queue[job][0] == "PD"]
            running = sum(queue[job][0] == "R" for job in left.values())
            told = f"{len(jobs) - len(left)} of {len(jobs)} jobs ended, {running} running, {len(waits)} waiting"
            told += f" ({', '.join(known)})" if (known := sorted({*waits} - {"None"})) else ""
        hoped = hoped if stuck else time.monotonic()
        if stuck and (why := given_up(left, waits, time.monotonic() - hoped)):
            if len(left) == len(jobs):
                raise ValueError(why)
            return dict.fromkeys(left, why)
        if told != said:
            out.print(told, markup=False)
            said = told
        if left:
            time.sleep(POLL)
    return {}


def given_up(left: Mapping[str, str], reasons: Sequence[str], seconds: float) -> str:
    """Why these jobs are waited for no longer; "": they are. What no time mends is taken out of the queue.

    reasons: why they wait. seconds: for which they have been hopeless.
    """
    arrays, why = sorted({job.partition("_")[0] for job in left.values()}), ", ".join(sorted(set(reasons)))
    if all(reason.startswith(NEVER) or LIMIT in reason for reason in reasons):
        asked("scancel", *arrays)
        return (
            f"SLURM will never start these jobs ({why}), so they are cancelled: ask for less (launcher.minutes, cpus ...), "
            "or for another partition or account"
        )
    if seconds >= PATIENCE:
        return (
            f"for {PATIENCE / 60:.0f} minutes no node takes these jobs ({why}); they stay in the queue: the same command waits "
            f"for them again, scancel {' '.join(arrays)} ends them"
        )
    return ""
