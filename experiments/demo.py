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
from dataclasses import dataclass, replace
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

from deepforcing.prompts import Sample, plan_samples
from deepforcing.script import is_schedule
from eval.allocator import keep_freed_memory
from eval.metrics import DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.protocol import LONG_SECONDS, Protocol
from eval.score import Measurement, score
from eval.videos import open_run
from eval.weights import FILES
from experiments import report
from experiments.cli import command, explain, is_list, shown, whole
from experiments.reference import reference_run
from experiments.rollout import build_spec, check_request, find_prompts, find_seeds, rollout

LONG, LAST = Protocol("vbench_long"), Protocol("vbench_last")
# The networks do some 280 TFLOP for a minute of video of 128 px, which nearly all of them enlarge first, at 50 GFLOP/s a core.
CORE_HOURS = 1.5
NEEDING = [metric for metric in (*DIMENSIONS, *OVER_TIME) if metric.weights]
# What is scored, and by what; "glance": of the first video alone.
PASSES: dict[str, list[tuple[Protocol, list[Measurement]]]] = {
    "weight-free": [(Protocol(), [*(m for m in (*DIMENSIONS, *OVER_TIME) if not m.weights), *WEIGHT_FREE])],
    "glance": [(LAST, [*DIMENSIONS])],
    "whole": [(Protocol(), [*NEEDING]), (LONG, [*DIMENSIONS])],
}


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


def score_videos(run: str, what: str, first: str) -> list[str]:
    """In a worker: the PASSES of this name over a run; "glance": over its sample `first` alone. Returns the problems."""
    keep_freed_memory()
    group = open_run(run)
    if what == "glance":
        group = replace(group, videos=tuple(video for video in group.videos if video.name == first))
    device = torch.device("cuda" if what != "weight-free" and torch.cuda.is_available() else "cpu")
    problems = []
    for protocol, metrics in PASSES[what]:
        problems += score(group, metrics, protocol, device, lambda *_: tick()).problems
    return list(dict.fromkeys(problems))


def choose_vbench(choice: object, cuda: bool, columns: int, minutes: float) -> tuple[str | None, str]:
    """What of VBench's dimensions is scored, a name of PASSES or None, and what to say of it in one line.

    choice: conf/demo.yaml's vbench. cuda: whether there is a GPU. columns: of the report. minutes: of all their videos
    together. Raises ValueError for a choice that is
    none of true, false and auto, or that needs weights of which none are there.
    """
    if not isinstance(choice, bool) and choice != "auto":
        raise ValueError(f"vbench={shown(choice)}: use true, false or auto")
    lacking = [metric.name for metric in NEEDING if any(FILES[name].find() is None for name in metric.weights)]
    files = {name: FILES[name].megabytes for metric in NEEDING for name in metric.weights}
    get = f"python -m experiments.weights metrics download=true ({sum(mb or 0 for mb in files.values()) / 1000:.1f} GB)"
    if choice is False:
        return None, "VBench: left out (vbench=false)"
    if len(lacking) == len(NEEDING):
        if choice is True:
            raise ValueError(f"vbench=true needs the networks' weights, of which none are there: {get}")
        return None, f"VBench: only temporal_flickering, the other dimensions need weights: {get}"
    missing = f"; without {', '.join(lacking)}, whose weights are not there: {get}" if lacking else ""
    hours = max(1, round(2 * CORE_HOURS * minutes))  # two protocols
    if choice is True or cuda:
        cost = "" if cuda else f", about {hours} h of one core without a GPU"
        return "whole", f"VBench: over time and by {LONG.name}{cost}{missing}"
    cost = f"about {max(1, round(CORE_HOURS * columns * LONG_SECONDS))} min of one core"  # an hour a minute, a minute a second
    return "glance", (
        f"VBench: the last {LONG_SECONDS} s of each column's first video, {cost} (vbench=false: nothing; vbench=true: "
        f"everything, about {hours} h without a GPU){missing}"
    )


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
    plan = plan_samples(prompts, find_seeds(config.seeds))
    videos = len(plan)
    drawn = len(choices) + 1  # with the real video
    minutes = drawn * videos * float(config.seconds) / 60
    vbench, said = choose_vbench(config.vbench, torch.cuda.is_available(), drawn, minutes)
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
        problems = follow_scores(bar, "scores (videos)", runs, "weight-free", plan, pool, ticker)
        page.runs, page.ends = runs, min(page.ends, float(config.seconds) / 2)  # short videos have two ends as well
        drawing = report.from_config(page)
        if vbench is not None:  # what takes long comes last: the page is there before it
            report.make(drawing, Console(quiet=True))
            problems += follow_scores(bar, "VBench (videos)", runs, vbench, plan, pool, ticker)
    report.make(drawing, console)
    for problem in dict.fromkeys(problems):
        console.print(problem, style="red", markup=False)
    console.print(
        f"{time.monotonic() - began:.0f} s in all; open {Path(config.out).resolve()} in a browser", markup=False
    )
    return int(bool(problems))


def follow_scores(
    bar: Progress, name: str, runs: Sequence[str], what: str, plan: Sequence[Sample], pool: ProcessPoolExecutor,
    ticker: Ticker,
) -> list[str]:  # fmt: skip
    """Score all runs by the PASSES of a name. Returns the problems."""
    each = len(PASSES[what]) * (1 if what == "glance" else len(plan))
    scoring = [pool.submit(score_videos, run, what, plan[0].name) for run in runs]
    follow(bar, name, len(runs) * each, scoring, ticker)
    return [problem for future in scoring for problem in future.result()]


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
