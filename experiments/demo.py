"""`make demo`: cache policies side by side on the embedded world, from text to report, on a laptop.

python -m experiments.demo [seconds=60] [prompts=demo] [caches=[self_forcing,deep_sink]] [generators=[]] [out=...]
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepforcing.prompts import plan_samples
from deepforcing.script import is_schedule
from eval.metrics import WEIGHT_FREE
from eval.score import score_run
from experiments import report
from experiments.cli import command, explain, is_list, whole
from experiments.reference import reference_run
from experiments.rollout import build_spec, check_request, find_prompts, find_seeds, rollout


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """Another command's config; Hydra is already running here, on the same conf/."""
    try:
        return hydra.compose(config_name, overrides)
    except HydraException as error:
        raise ValueError(explain(str(error), config_name, overrides)) from None


def columns_of(config: DictConfig) -> list[tuple[str, ...]]:
    """The overrides of every column: the caches (a choice of conf/cache/, overrides may follow it), then the generators."""
    lists = {key: config[key] if is_list(config[key]) else [config[key]] for key in ("caches", "generators")}
    columns = [tuple(f"cache={c}".split()) for c in lists["caches"]]
    columns += [(f"generator={g}", f"label='{g} (untrained rule)'") for g in lists["generators"]]
    if not columns:
        raise ValueError("caches=[] and generators=[] are empty; give columns, as in caches=[self_forcing,deep_sink]")
    return list(dict.fromkeys(columns))


def rollout_config(config: DictConfig, column: Sequence[str], shard: str) -> DictConfig:
    """The rollout command's config for one column, given by its overrides."""
    made = compose("rollout", [*column, f"shard='{shard}'", "threads=1"])
    for key in ("model", "prompts", "seconds", "seeds", "runs_root"):
        made[key] = config[key]
    OmegaConf.resolve(made)
    return made


@dataclass(frozen=True)
class Ticker:
    """Counts workers' steps for the bar in the main process, and ends their work once that has stopped."""

    count: Synchronized[int]
    stopped: Event

    def __call__(self) -> None:
        if self.stopped.is_set():
            raise InterruptedError("the demo has stopped")
        with self.count.get_lock():
            self.count.value += 1


tick: Ticker  # in a worker; only inheritance may hand over what it holds


def begin_worker(ticker: Ticker) -> None:
    global tick
    tick = ticker
    torch.set_num_threads(1)


def make_videos(config: DictConfig) -> str:
    """In a worker: one shard of one policy's videos. Returns the run directory."""
    return str(rollout(config, Console(quiet=True), tick).path)


def make_reference(config: DictConfig) -> str:
    plan = plan_samples(find_prompts(config.prompts), find_seeds(config.seeds))
    return str(reference_run(config.runs_root, plan, float(config.seconds), tick).path)


def score(run: str) -> list[str]:
    return score_run(run, WEIGHT_FREE, progress=lambda *_: tick()).problems


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, which reaches the whole group: one process stops, and ends the others."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def workers(jobs: int) -> Iterator[tuple[ProcessPoolExecutor, Ticker]]:
    """Worker processes and their ticker. After a failure in the block they stop at their next tick."""
    context = mp.get_context("spawn")
    ticker = Ticker(context.Value("q", 0), context.Event())
    with ProcessPoolExecutor(jobs, context, begin_worker, (ticker,)) as pool:
        try:
            yield pool, ticker
        except BaseException:
            ticker.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def demo_task(config: DictConfig) -> int:
    began = time.monotonic()
    console = Console()
    choices = columns_of(config)
    jobs = min(os.cpu_count() or 1, whole(config.jobs, "jobs"))
    page = compose("report", [])
    page.runs, page.out, page.title = ["later"], config.out, config.title
    report.from_config(page)
    Path(str(config.out)).parent.mkdir(parents=True, exist_ok=True)
    prompts = find_prompts(config.prompts)
    if any(is_schedule(prompt.text) for prompt in prompts):
        raise ValueError(
            "the demo compares with rendered video, which has one caption: prompt schedules are for rollout"
        )
    videos = len(plan_samples(prompts, find_seeds(config.seeds)))
    columns = [rollout_config(config, choice, f"{i}/{jobs}") for choice in choices for i in range(jobs)]
    for column in columns:
        check_request(column)
    specs = [build_spec(column) for column in columns[::jobs]]
    chunks = sum(spec.latent_frames(float(config.seconds)) // spec.chunk_frames for spec in specs)
    console.print(
        f"{len(choices)} columns x {videos} videos of {config.seconds} s on the embedded world "
        f"(a small trained model; it is not Wan), {jobs} processes"
    )
    with bars(console) as bar, workers(jobs) as (pool, ticker):
        with ignoring_interrupts():  # the processes start here
            making = [pool.submit(make_videos, column) for column in columns]
        follow(bar, "videos (chunks)", videos * chunks, making, ticker)
        real = pool.submit(make_reference, config)
        follow(bar, "real video", videos, [real], ticker)
        runs = [*dict.fromkeys(m.result() for m in making), real.result()]
        scoring = [pool.submit(score, run) for run in runs]
        follow(bar, "scores (videos)", len(runs) * videos, scoring, ticker)
    problems = [problem for future in scoring for problem in future.result()]
    page.runs, page.ends = runs, min(page.ends, float(config.seconds) / 2)  # short videos have two ends as well
    report.make(report.from_config(page), console)
    for problem in problems:
        console.print(problem, style="red", markup=False)
    console.print(
        f"{time.monotonic() - began:.0f} s in all; open {Path(config.out).resolve()} in a browser", markup=False
    )
    return int(bool(problems))


def bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=console,
    )  # fmt: skip


def follow(bar: Progress, name: str, total: int, futures: Sequence[Future[Any]], ticker: Ticker) -> None:
    """Show the workers' ticks until all have finished; the first failure is raised here."""
    task = bar.add_task(name, total=total)
    ticker.count.value = 0
    unfinished = set(futures)
    while unfinished:
        finished, unfinished = wait(unfinished, timeout=0.1, return_when=FIRST_EXCEPTION)
        bar.update(task, completed=ticker.count.value)
        for future in finished:
            future.result()
    bar.update(task, completed=total)


main = command("demo")(demo_task)

if __name__ == "__main__":
    main()
