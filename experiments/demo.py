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
from eval.metrics import DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.protocol import Protocol
from eval.score import score
from eval.videos import open_run
from eval.weights import FILES
from experiments import report
from experiments.cli import command, explain, is_list, shown, whole
from experiments.reference import reference_run
from experiments.rollout import build_spec, check_request, find_prompts, find_seeds, rollout

LONG = Protocol("vbench_long")
# The networks do some 280 TFLOP for a minute of video of 128 px, which nearly all of them enlarge first; twice, for two
# protocols, at 50 GFLOP/s a core.
CORE_HOURS = 3.0


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


def score_videos(run: str, vbench: bool) -> list[str]:
    """In a worker: all metrics over time, and VBench's dimensions as its long protocol has them. Returns the problems."""
    over_time = [m for m in (*DIMENSIONS, *OVER_TIME) if vbench or not m.weights]
    passes = [(Protocol(), [*over_time, *WEIGHT_FREE]), *([(LONG, [*DIMENSIONS])] if vbench else [])]
    device = torch.device("cuda" if vbench and torch.cuda.is_available() else "cpu")
    problems = []
    for protocol, metrics in passes:
        problems += score(open_run(run), metrics, protocol, device, lambda *_: tick()).problems
    return list(dict.fromkeys(problems))


def choose_vbench(choice: object, cuda: bool, minutes: float) -> tuple[bool, str]:
    """Whether VBench's dimensions are scored, and what to say of it in one line. choice: conf/demo.yaml's vbench.

    minutes: of all videos together. Raises ValueError for a choice that is none of true, false and auto, or that needs
    weights of which none are there.
    """
    if not isinstance(choice, bool) and choice != "auto":
        raise ValueError(f"vbench={shown(choice)}: use true, false or auto")
    needing = [metric for metric in (*DIMENSIONS, *OVER_TIME) if metric.weights]
    lacking = [metric.name for metric in needing if any(FILES[name].find() is None for name in metric.weights)]
    files = {name: FILES[name].megabytes for metric in needing for name in metric.weights}
    get = f"python -m experiments.weights metrics download=true ({sum(mb or 0 for mb in files.values()) / 1000:.1f} GB)"
    if choice is False:
        return False, "VBench: left out (vbench=false)"
    if len(lacking) == len(needing):
        if choice is True:
            raise ValueError(f"vbench=true needs the networks' weights, of which none are there: {get}")
        return False, f"VBench: only temporal_flickering, the other dimensions need weights: {get}"
    cost = f"about {max(1, round(CORE_HOURS * minutes))} h of one core without a GPU"
    if choice == "auto" and not cuda:
        return False, f"VBench: only temporal_flickering, the other dimensions would take {cost}: vbench=true"
    missing = f", without {', '.join(lacking)}, whose weights are not there: {get}" if lacking else ""
    return True, f"VBench: over time and by {LONG.name}{'' if cuda else f', {cost}'}{missing}"


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
    minutes = (len(choices) + 1) * videos * float(config.seconds) / 60  # with the real video
    vbench, said = choose_vbench(config.vbench, torch.cuda.is_available(), minutes)
    columns = [rollout_config(config, choice, f"{i}/{jobs}") for choice in choices for i in range(jobs)]
    for column in columns:
        check_request(column)
    specs = [build_spec(column) for column in columns[::jobs]]
    chunks = sum(spec.latent_frames(float(config.seconds)) // spec.chunk_frames for spec in specs)
    console.print(
        f"{len(choices)} columns x {videos} videos of {config.seconds} s on the embedded world "
        f"(a small trained model; it is not Wan), {jobs} processes"
    )
    console.print(said, highlight=False, soft_wrap=True, markup=False)
    with bars(console) as bar, workers(jobs) as (pool, ticker):
        with ignoring_interrupts():  # the processes start here
            making = [pool.submit(make_videos, column) for column in columns]
        follow(bar, "videos (chunks)", videos * chunks, making, ticker)
        real = pool.submit(make_reference, config)
        follow(bar, "real video", videos, [real], ticker)
        runs = [*dict.fromkeys(m.result() for m in making), real.result()]
        scoring = [pool.submit(score_videos, run, vbench) for run in runs]
        follow(bar, "scores (videos)", len(runs) * videos * (2 if vbench else 1), scoring, ticker)
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
