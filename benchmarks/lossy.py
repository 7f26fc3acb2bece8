"""What each lossy option costs in latents and gains in time, beside the exact rollout of the same words.

    python -m benchmarks.lossy [first=8] [options=[teacache,no_commit]] [any words of experiments.rollout]
    python -m benchmarks.lossy cache=deep_sink prompts=dev seconds=20 threads=1

Exact and lossy run chunk by chunk in turn in one process, from the same noise. difference: of a chunk's latents, root mean
square over that of the exact ones. Rollouts may be chaotic, so that rounding grows too: `packed`, exact but for rounding in
float32, and `another seed` say how much a difference is. ratio: of processor times of chunks whose window is full, median over
chunks, mean over prompts. What an option costs in metrics: `python -m experiments.sweep run sweep=lossy`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from experiments.command.compose import compose
from experiments.command.entry import give_back_less

OPTIONS = {
    "packed": ["backend=packed"],
    "fp8_linears": ["lossy=fp8_linears"],
    "fp8_attention": ["lossy=fp8_attention"],
    "rtn 8": ["cache.store=rtn", "cache.store.bits=8"],
    "rtn 4": ["cache.store=rtn", "cache.store.bits=4"],
    "teacache": ["lossy=teacache"],
    "no_commit": ["lossy=no_commit"],
    "commit 3": ["cache.commit_frames=3"],
    "another seed": [],
}
FIRST = 8


def read(words: list[str]) -> tuple[int, list[str], list[str]]:
    """How many prompts, which options, and the rollout's words. Raises ValueError in one line."""
    given = dict(word.split("=", 1) for word in words if word.startswith(("first=", "options=")))
    first = given.get("first", str(FIRST))
    if not first.isdecimal() or not 2 <= int(first) <= 10_000:
        raise ValueError(
            f"first={first} must be a whole number of at least 2: differences have an interval over prompts"
        )
    options = [name.strip() for name in given.get("options", ",".join(OPTIONS)).strip("[]").split(",")]
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise ValueError(f"options: {unknown[0]!r} is none; known: {', '.join(OPTIONS)}")
    return int(first), options, [word for word in words if not word.startswith(("first=", "options="))]


class Side:
    """One way of making the videos: a generator with its weights."""

    def __init__(self, words: list[str]) -> None:
        from experiments.request import check_request

        config = compose("rollout", words)
        self.request = check_request(config)
        self.spec = self.request.spec
        self.generator = self.spec.build(self.request.device)
        self.passes = 0
        first = self.generator.model.wan.blocks[0]
        first.register_forward_hook(self.count)

    def count(self, *_: Any) -> None:
        self.passes += 1

    def chunks(self, sample: Any, seed: int) -> Iterator[tuple[Tensor, float, int]]:
        """Latents, processor seconds of denoising and commit, and passes of every chunk of a video."""
        from deepforcing.stopwatch import Stopwatch

        spec, device = self.spec, self.request.device
        total = self.request.total_frames
        job = self.generator.job(sample.prompt.text, sample.prompt.id, seed, total, Stopwatch(device))
        made = spec.rule.generate(replace(job, codec=None))
        while True:
            began, passes = time.process_time(), self.passes
            found = next(made, None)
            if found is None:
                return
            yield found[0].latents, time.process_time() - began, self.passes - passes


def measured(exact: Side, lossy: Side, first: int, other_seed: bool) -> dict[str, Any]:
    """Over prompts: differences by chunk, passes of a chunk, and the ratio of times with its interval."""
    plan = exact.request.plan[:first]
    window = exact.spec.cache.retention.capacity(exact.spec.chunk_frames) or exact.spec.model.train_frames
    skip = window // exact.spec.chunk_frames
    differences, ratios, passes, seconds = [], [], [], []
    for turn, sample in enumerate(plan):
        sides = [
            exact.chunks(sample, sample.seed),
            lossy.chunks(sample, sample.seed + 1 if other_seed else sample.seed),
        ]
        rows = []
        for i in range(exact.request.total_frames // exact.spec.chunk_frames):
            order = (0, 1) if (i + turn) % 2 else (1, 0)
            done = {side: next(sides[side]) for side in order}
            rows.append((done[0], done[1]))
        differences.append([float((b - a).norm() / a.norm()) for (a, *_), (b, *_) in rows])
        late = rows[skip:] or rows
        ratios.append(float(np.median([b[1] / a[1] for a, b in late])))
        passes.append(float(np.mean([b[2] for _, b in late])))
        seconds.append(float(np.median([a[1] for a, _ in late])))
    return {
        "prompts": len(plan),
        "difference": np.mean(differences, 0).round(4).tolist(),
        "of_each": np.round(differences, 4).tolist(),
        "passes": float(np.mean(passes)),
        "exact_seconds": float(np.median(seconds)),
        "ratio": interval(ratios),
    }


def interval(values: list[float]) -> list[float]:
    """Mean over prompts and its 95 % interval, Student's t."""
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    mean = float(np.mean(values))
    return [mean, mean - half, mean + half]


def row(name: str, found: dict[str, Any]) -> str:
    d = found["difference"]
    mean, low, high = found["ratio"]
    return (
        f"| {name} | {d[0]:.3f} | {d[min(6, len(d) - 1)]:.3f} | {d[-1]:.3f} | {found['passes']:.2f} | "
        f"{mean:.2f} [{low:.2f}, {high:.2f}] |"
    )


def main(words: list[str]) -> int:
    give_back_less()
    try:
        first, options, rest = read(words)
        with torch.inference_mode():
            exact, rows = Side(rest), []
            for name in options:
                lossy = exact if name == "another seed" else Side([*rest, *OPTIONS[name]])
                found = measured(exact, lossy, first, name == "another seed")
                print(json.dumps({"option": name, **found}), flush=True)
                rows.append(row(name, found))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        "\n| option | difference, first chunk | 7th | last | passes a chunk | time / exact |\n|---|---|---|---|---|---|"
    )
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
