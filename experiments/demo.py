"""`make demo`: cache policies side by side on the embedded world, from text to report, on a laptop.

python -m experiments.demo [seconds=60] [prompts=demo] [caches=[self_forcing,deep_sink]] [generators=[]] [out=...]
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command
from experiments.command.moved import moved
from experiments.command.terminal import bar, console

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from omegaconf import DictConfig
    from rich.progress import Progress

    from deepforcing.prompts import Sample
    from experiments.workers import Ticker


def demo_task(config: DictConfig) -> int:
    import torch  # and all that follows: --help does without

    from experiments.command.compose import compose
    from experiments.command.outputs import check_output
    from experiments.page.make import make
    from experiments.page.settings import from_config
    from experiments.request import build_spec, check_request
    from experiments.side_by_side import (
        choose_vbench,
        columns_of,
        make_reference,
        make_videos,
        rollout_config,
        samples_of,
    )  # fmt: skip
    from experiments.workers import follow, workers

    began = time.monotonic()
    out = console()
    choices = columns_of(config)
    jobs = min(os.cpu_count() or 1, int(config.jobs))
    page = compose("report", [])
    page.runs, page.out, page.title = ["later"], config.out, config.title
    from_config(page)
    check_output(str(config.out), megabytes=20)
    plan = samples_of(config)
    videos = len(plan)
    drawn = len(choices) + 1  # with the real video
    minutes = drawn * videos * float(config.seconds) / 60
    vbench, said = choose_vbench(config.vbench, torch.cuda.is_available(), drawn, minutes)
    columns = [rollout_config(config, choice, f"{i}/{jobs}") for choice in choices for i in range(jobs)]
    for column in columns:
        check_request(column)
    specs = [build_spec(column) for column in columns[::jobs]]
    chunks = sum(spec.latent_frames(float(config.seconds)) // spec.chunk_frames for spec in specs)
    out.print(
        f"{len(choices)} columns x {videos} videos of {config.seconds} s on the embedded world "
        f"(a small trained model; it is not Wan), {jobs} processes"
    )
    out.print(said)
    with bar(out, "") as shown, workers(jobs) as (pool, ticker):
        making = [pool.submit(make_videos, column) for column in columns]
        follow(shown, "videos (chunks)", videos * chunks, making, ticker)
        real = pool.submit(make_reference, config)
        follow(shown, "real video", videos, [real], ticker)
        runs = [*dict.fromkeys(m.result() for m in making), real.result()]
        problems = follow_scores(shown, "scores (videos)", runs, "weight-free", plan, pool, ticker)
        page.runs, page.ends = runs, min(page.ends, float(config.seconds) / 2)  # short videos have two ends as well
        drawing = from_config(page)
        if vbench is not None:  # what takes long comes last: the page is there before it
            make(drawing, console(quiet=True))
            problems += follow_scores(shown, "VBench (videos)", runs, vbench, plan, pool, ticker)
    make(drawing, out)
    for problem in dict.fromkeys(problems):
        out.print(problem, style="red")
    out.print(f"{time.monotonic() - began:.0f} s in all; open {Path(config.out).resolve()} in a browser")
    return int(bool(problems))


def follow_scores(
    shown: Progress, name: str, runs: Sequence[str], what: str, plan: Sequence[Sample], pool: ProcessPoolExecutor,
    ticker: Ticker,
) -> list[str]:  # fmt: skip
    """Score all runs by the PASSES of a name. Returns the problems."""
    from experiments.side_by_side import PASSES, score_videos
    from experiments.workers import follow

    each = len(PASSES[what]) * (1 if what == "glance" else len(plan))
    scoring = [pool.submit(score_videos, run, what, plan[0].name) for run in runs]
    follow(shown, name, len(runs) * each, scoring, ticker)
    return [problem for future in scoring for problem in future.result()]


main = command("demo")(demo_task)

__getattr__ = moved(
    __name__,
    {
        "experiments.command.compose": "compose",
        "experiments.side_by_side": "PASSES choose_vbench columns_of make_reference make_videos rollout_config score_videos",
        "experiments.workers": "Ticker follow workers",
    },
)

if __name__ == "__main__":
    main()
