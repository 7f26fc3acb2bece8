"""`make demo`: four cache policies side by side on the embedded world, from text to report, on a laptop.

python -m experiments.demo [seconds=60] [prompts=demo] [caches=[self_forcing,sink,deep_sink,deep_forcing]] [out=...]
"""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepforcing.prompts import plan_samples
from eval.metrics import WEIGHT_FREE
from eval.score import score_run
from experiments import report
from experiments.cli import command
from experiments.reference import reference_run
from experiments.rollout import build_spec, check_request, find_prompts, rollout


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """Another command's config; Hydra is already running here, on the same conf/."""
    return hydra.compose(config_name, overrides)


def rollout_config(config: DictConfig, cache: str, shard: str) -> DictConfig:
    """The rollout command's config for one column of the demo."""
    made = compose("rollout", [f"cache={cache}", f"shard='{shard}'", "threads=1"])
    for key in ("prompts", "seconds", "seeds", "runs_root"):
        made[key] = config[key]
    OmegaConf.resolve(made)
    return made


def make_videos(config: DictConfig, advance: Callable[[], None]) -> str:
    """In a worker: one shard of one policy's videos. Returns the run directory."""
    return str(rollout(config, Console(quiet=True), advance).path)


def make_reference(config: DictConfig, advance: Callable[[], None]) -> str:
    plan = plan_samples(find_prompts(config.prompts), list(config.seeds))
    return str(reference_run(config.runs_root, plan, float(config.seconds), advance).path)


def score(run: str, advance: Callable[[], None]) -> list[str]:
    return score_run(run, WEIGHT_FREE, progress=lambda *_: advance()).problems


class Ticker:
    """Counts steps in workers and hands them to the bar in this process."""

    def __init__(self, ticks: mp.Queue[int]) -> None:
        self.ticks = ticks

    def __call__(self) -> None:
        self.ticks.put(1)


def demo_task(config: DictConfig) -> int:
    began = time.monotonic()
    console = Console()
    caches = [str(c) for c in config.caches]
    jobs = max(1, min(os.cpu_count() or 1, int(config.jobs)))
    prompts = find_prompts(config.prompts)
    config.seeds = [config.seeds] if isinstance(config.seeds, int) else list(config.seeds)
    columns = [rollout_config(config, cache, f"{i}/{jobs}") for cache in caches for i in range(jobs)]
    for column in columns:
        check_request(column)
    videos = len(prompts) * len(config.seeds)
    spec = build_spec(columns[0])
    chunks = spec.latent_frames(float(config.seconds)) // spec.chunk_frames
    console.print(
        f"{len(caches)} cache policies x {videos} videos of {config.seconds} s on the embedded world "
        f"(a small trained model; it is not Wan), {jobs} processes"
    )
    with mp.Manager() as manager, bars(console) as bar:
        ticks = manager.Queue()
        tick = Ticker(ticks)  # type: ignore[arg-type]
        with ProcessPoolExecutor(jobs, mp.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            making = [pool.submit(make_videos, column, tick) for column in columns]
            follow(bar, "videos (chunks)", len(caches) * videos * chunks, making, ticks)
            real = pool.submit(make_reference, config, tick)
            follow(bar, "real video", videos, [real], ticks)
            runs = [*dict.fromkeys(m.result() for m in making), real.result()]
            scoring = [pool.submit(score, run, tick) for run in runs]
            follow(bar, "scores (videos)", len(runs) * videos, scoring, ticks)
    problems = [problem for future in scoring for problem in future.result()]
    page = compose("report", [])
    page.runs, page.out, page.title = runs, config.out, config.title
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


def follow(
    bar: Progress, name: str, total: int, futures: list[Future[str]] | list[Future[list[str]]], ticks: queue.Queue[int]
) -> None:
    """Show the workers' ticks until all have finished; the first failure is raised here, in one line."""
    task = bar.add_task(name, total=total)
    while not all(f.done() for f in futures):
        try:
            bar.advance(task, ticks.get(timeout=0.1))
        except queue.Empty:
            failed = [f for f in futures if f.done() and f.exception()]
            if failed:
                for f in futures:
                    f.cancel()
                failed[0].result()
    bar.update(task, completed=total)
    while not ticks.empty():
        ticks.get()
    for f in futures:
        f.result()


main = command("demo")(demo_task)

if __name__ == "__main__":
    main()
