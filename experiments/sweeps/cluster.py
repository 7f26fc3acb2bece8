"""A sweep's points, and shards of them, as jobs of a cluster: submitted, waited for, and told of at the end.

submitit submits, and queues again what ran out of time or was pre-empted. How a job ended is not asked of submitit, which would
open a pickle: each job leaves a small file in the sweep's folder, beside the runs, and what left none did not end well.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import Field
from rich.console import Console

from deepforcing.prompts import shard
from deepforcing.runs import atomic_write_json
from experiments.command.sweep import end_with
from experiments.command.values import Keys, Text, checked, count
from experiments.command.words import describe, shown
from experiments.sweeps.points import Point, Points
from experiments.sweeps.slurm import check_slurm, states, submitted, wait_for

HERE = "here"
PATIENCE = 3  # looks at the folder after jobs have ended: a shared file system shows what others wrote a little later
SHORTEST = 3  # minutes: SLURM may send the signal a minute early, 150 s before the end, and a job needs time to begin
OF_NO_RESULT = (
    "launcher",
    "out",
    "shard",
    "seconds_per_chunk",
    "threads",
    "device",
)  # keys: the same jobs with any value


class HereKeys(Keys):
    cluster: Literal["here"]


class LocalKeys(Keys):
    """conf/launcher/local.yaml."""

    cluster: Literal["local"]
    at_once: Annotated[int, count(1000)]
    shards: Annotated[int, count(1000)]


class SlurmKeys(Keys):
    """conf/launcher/slurm.yaml."""

    cluster: Literal["slurm"]
    partition: Text | None
    account: Text | None
    gpus: Annotated[int, count(64, 0)]
    cpus: Annotated[int, count(1024)]
    memory_gb: Annotated[int, count(100_000)] | None
    minutes: Annotated[int, count(100_000, SHORTEST)]
    requeues: Annotated[int, count(1000, 0)]
    at_once: Annotated[int, count(1000)]
    shards: Annotated[int, count(1000)]
    setup: Annotated[list[str], Field(description="a list of shell lines")]


KINDS: dict[str, type[Keys]] = {"here": HereKeys, "local": LocalKeys, "slurm": SlurmKeys}


@dataclass(frozen=True)
class Task:
    """A shard of a point, as a job calls it; it travels by pickle. words: of the sweep, as they were typed. parent: the process
    that it ends with; None: it goes on, as a cluster's jobs do."""

    name: str
    point: str
    of: str
    words: tuple[str, ...]
    folder: Path
    parent: int | None = None

    @property
    def ended(self) -> Path:
        return self.folder / f"{hashlib.sha256(self.name.encode()).hexdigest()[:12]}.ended.json"

    def __call__(self) -> None:
        from experiments.command.compose import run

        if self.parent is not None:
            threading.Thread(target=end_with, args=(self.parent,), daemon=True).start()
        sys.argv = ["experiments/sweep.py", "run", *self.words]  # what records say made a run
        problems: list[str] = []
        try:
            own = [word for word in self.words if not word.startswith("launcher")]
            run(lambda config: problems.extend(self.work(config)), "sweep", own)
        except Exception as error:
            problems.append(describe(error))
        atomic_write_json(self.ended, {"task": self.name, "problems": problems})
        for problem in problems:
            print(problem, file=sys.stderr)

    def work(self, config: DictConfig) -> list[str]:
        """What went wrong."""
        from eval.allocator import keep_freed_memory
        from experiments.command.terminal import console
        from experiments.request import pick_device
        from experiments.sweeps.points import find_points
        from experiments.sweeps.work import columns_of, planned, run_point

        config.shard = self.of
        points = find_points(config, model_words())
        (point,) = (point for point in points.made if point.name == self.point)
        plan = planned(config, points, columns_of(config))
        plan = replace(plan, samples=tuple(shard(list(plan.samples), self.of)))
        config.shard = "0/1"  # of these samples all are scored
        keep_freed_memory()
        results = run_point(point, plan, config, pick_device(str(config.device)), console())
        return [*results.failed.values(), *results.problems]

    def checkpoint(self) -> Any:
        """For submitit: what is finished lies on the disk, so the same call goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def model_words() -> list[str]:
    """What was typed of the model, for the rollouts: `model=` and its keys."""
    from experiments.command.compose import chosen

    choices, typed = chosen()
    return [f"model={choices['model']}", *(word for word in typed if word.lstrip("+~").startswith("model."))]


def elsewhere(config: DictConfig) -> bool:
    """Whether points run in jobs. Raises ValueError for keys that no launcher has, and what a launcher cannot do."""
    given = OmegaConf.to_container(config.launcher, resolve=True)
    cluster = given.get("cluster") if isinstance(given, dict) else None
    if cluster not in KINDS:
        raise ValueError(f"launcher.cluster={shown(cluster)} must be one of {', '.join(KINDS)}")
    checked(KINDS[cluster], given, "launcher.")
    if cluster == HERE:
        return False
    if str(config.shard) != "0/1":
        raise ValueError(
            f"shard={config.shard}: a launcher makes shards itself, say launcher.shards={str(config.shard)[2:]}"
        )
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise ValueError(
            f"launcher={cluster} is not installed; it comes with a package: pip install submitit"
        ) from None
    if cluster == "slurm":
        check_slurm(config.launcher.partition)
    return True


def tasks_of(points: Points, config: DictConfig, typed: Sequence[str]) -> list[Task]:
    """A job for every shard of every point; of points that share a run the first one's."""
    folder, n = folder_of(config), min(int(config.launcher.shards), len(points.samples))
    parent = os.getpid() if config.launcher.cluster == "local" else None
    first: dict[Path, Point] = {}
    for point in points.made:
        first.setdefault(point.run, point)
    return [
        Task(
            point.name if n == 1 else f"{point.name}, shard {i}/{n}",
            point.name,
            f"{i}/{n}",
            tuple(typed),
            folder,
            parent,
        )
        for point in first.values()
        for i in range(n)
    ]


def folder_of(config: DictConfig) -> Path:
    """Beside the runs, where nodes see it too; the same for the same sweep, so that the same command finds its jobs."""
    of = OmegaConf.to_container(config, resolve=True)
    kept = {key: value for key, value in of.items() if key not in OF_NO_RESULT}  # type: ignore[union-attr]
    digest = hashlib.sha256(
        json.dumps([kept, config.launcher.shards], sort_keys=True, default=str).encode()
    ).hexdigest()
    return (Path(str(config.runs_root)) / ".sweeps" / digest[:12]).absolute()


def run_elsewhere(points: Points, config: DictConfig, typed: Sequence[str], out: Console) -> dict[str, str]:
    """Submit what is missing and was not submitted before, and wait for all of it; {job: why it did not end well}.

    Ended in between, the jobs of a cluster go on, and the same command waits for them. Raises ValueError in one line where the
    cluster takes no jobs.
    """
    if str(config.device) == "auto" and any(p.config.generator.get("noise", "keyed") != "keyed" for p in points.made):
        raise ValueError(
            "noise=upstream and release are drawn on the device: with a launcher say which, device=cuda or cpu"
        )
    every = tasks_of(points, config, typed)
    folder = every[0].folder
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    done = {point.run for point in points.made if whole(point, points)}
    by_name = {point.name: point for point in points.made}
    todo = [t for t in every if by_name[t.point].run not in done or problems_of(t) != []]
    known: dict[str, str] = json.loads((folder / "jobs.json").read_text()) if (folder / "jobs.json").exists() else {}
    queue = states() if config.launcher.cluster == "slurm" else {}
    before = {t.name: known[t.name] for t in todo if known.get(t.name) in queue}
    new = [t for t in todo if t.name not in before]
    out.print(
        f"{len(every)} jobs: {len(every) - len(todo)} done, {len(before)} in the queue already, {len(new)} new; "
        f"pickles and logs are under {folder}",
        markup=False,
    )
    for task in new:
        task.ended.unlink(missing_ok=True)
    if config.launcher.cluster == "local":
        local(new, config, folder)
        jobs: dict[str, str] = {}
        waiting: dict[str, str] = {}
    else:
        ids = submitted(new, config.launcher, folder) if new else []
        jobs = {**before, **{task.name: job for task, job in zip(new, ids, strict=True)}}
        atomic_write_json(folder / "jobs.json", {**known, **jobs})
        if jobs:
            arrays = " ".join(sorted({job.partition("_")[0] for job in jobs.values()}))
            out.print(
                f"scancel {arrays} ends them; this command may end, they go on, and it finds them again", markup=False
            )
        waiting = wait_for(jobs, out)
        for _ in range(PATIENCE):
            if all(problems_of(task) is not None for task in todo if task.name not in waiting):
                break
            time.sleep(1)
    ended = {task.name: how_it_ended(task, jobs.get(task.name), folder) for task in todo if task.name not in waiting}
    return {**{name: why for name, why in ended.items() if why}, **waiting}


def whole(point: Point, points: Points) -> bool:
    """Whether all videos of a point are there."""
    from deepforcing.runs import RunDir

    return (point.run / "run.json").exists() and not RunDir.open(point.run).todo(list(points.samples))


def local(tasks: Sequence[Task], config: DictConfig, folder: Path) -> None:
    """Processes of this machine, so many at once; they end with this one."""
    import submitit

    executor = submitit.LocalExecutor(folder / "logs")
    waiting = list(tasks)
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < int(config.launcher.at_once):
            running.append(executor.submit(waiting.pop(0)))
        running = [job for job in running if not job.done()]
        time.sleep(0.2)


def problems_of(task: Task) -> list[str] | None:
    """What went wrong, by the job's own word; None: it has left none."""
    try:
        said = json.loads(task.ended.read_text())["problems"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [str(problem) for problem in said] if isinstance(said, list) else None


def how_it_ended(task: Task, job: str | None, folder: Path) -> str:
    """ "" if well."""
    problems = problems_of(task)
    if problems is not None:
        return "; ".join(problems)[:500]
    logs = sorted((folder / "logs").glob(f"{job or '*'}_*log.out"))
    if job is not None and not logs:
        return f"left nothing in {folder}, not even a log: is runs_root on a file system that its node shares with this one?"
    where = logs[-1] if job is not None else folder / "logs"
    return f"ended without a word: killed, out of memory, or out of time too often; its log: {where}"
