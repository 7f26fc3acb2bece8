"""`make check-speed`: is a commit slower than its parent? `python -m benchmarks.check_speed [new=HEAD] [old=HEAD~1] ...`

Both trees roll out the same video in a process of their own, chunk by chunk in turn, so that whatever else the machine does
falls on both. What counts is the processor time of a chunk. Where a process's memory comes to lie moves all of its chunks by
several percent, so this is done `pairs` times with new processes: the ratio is the mean of the pairs' medians (of their
logarithms), its interval Student's t over pairs. Status 1 where all of the interval lies above the limit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

LIMIT = 1.03
SKIP = 10  # chunks: the window is full, compression has found its cycle
KEYS = {"new": "HEAD", "old": "HEAD~1", "cache": "self_forcing", "chunks": "10", "threads": "1", "pairs": "6"}
# In either tree, as old as it may be: a chunk for every line that it reads, its processor seconds and its sum as the answer.
WORKER = """
import sys, time
try:  # what commands do before torch is imported
    from experiments.command.entry import give_back_less
    give_back_less()
except ImportError:
    pass
import torch, hydra
from dataclasses import replace
from omegaconf import OmegaConf
from deepforcing.generator import Generator
from experiments.rollout import build_spec
try:
    from deepforcing.stopwatch import Stopwatch
except ImportError:
    from deepforcing.generator import Stopwatch
import deepforcing
if not deepforcing.__file__.startswith(sys.path[0]):
    sys.exit(f"another tree than {sys.path[0]} was imported")
torch.set_num_threads(int(sys.argv[2]))
with hydra.initialize_config_dir(sys.argv[3], version_base="1.3"):
    config = hydra.compose("rollout", ["model=bench", "cache=" + sys.argv[1]])
OmegaConf.resolve(config)
spec, device = build_spec(config), torch.device("cpu")
with torch.inference_mode():
    generator = Generator(spec, spec.model.build(device, torch.float32), device)
    job = replace(generator.job("a prompt", "p", 0, int(sys.argv[4]) * spec.chunk_frames, Stopwatch(device)), codec=None)
    made = spec.rule.generate(job)
    for line in sys.stdin:
        began = time.process_time()
        chunk, _ = next(made)
        took = time.process_time() - began
        print(took, float(chunk.latents.double().sum()), flush=True)
"""


def read(words: list[str]) -> dict[str, str]:
    """Raises ValueError in one line."""
    given = dict(KEYS)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise ValueError(f"{word!r} is no key here; known: {', '.join(f'{k}={v}' for k, v in KEYS.items())}")
        given[key] = value
    for key, least in (("chunks", 1), ("threads", 1), ("pairs", 2)):
        if not given[key].isdecimal() or not least <= int(given[key]) <= 300:
            raise ValueError(f"{key}={given[key]!r} must be a whole number of at least {least} and at most 300")
    return given


def tree(commit: str, folder: Path) -> Path:
    """The files of a commit. Raises ValueError for one that git does not know."""
    archive = subprocess.run(["git", "archive", commit], capture_output=True)
    if archive.returncode:
        raise ValueError(f"git knows no commit {commit!r}: {archive.stderr.decode().strip().splitlines()[0]}")
    folder.mkdir()
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def worker(where: Path, given: dict[str, str], total: int) -> subprocess.Popen[str]:
    # -P: the tree alone is searched, not the folder that this was started in.
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(where)!r})\n{WORKER}"]
    command += [given["cache"], given["threads"], str(where / "conf"), str(total)]
    return subprocess.Popen(command, cwd=where, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def chunk(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Processor seconds of the next chunk, and the sum of its latents. Raises ValueError where the worker has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("\n")
        process.stdin.flush()
        took, total = process.stdout.readline().split()
    except (BrokenPipeError, ValueError):
        raise ValueError("a tree cannot be rolled out: what it said is above") from None
    return float(took), float(total)


def mean_ratio(ratios: list[float]) -> tuple[float, float, float]:
    """Of pairs of processes: geometric mean and its 95 % interval."""
    logs = np.log(ratios)
    half = stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs)
    return tuple(float(np.exp(logs.mean() + by)) for by in (0.0, -half, half))  # type: ignore[return-value]


def timed(given: dict[str, str], trees: dict[str, Path], turn: int) -> list[dict[str, tuple[float, float]]]:
    """One pair of processes: every chunk of both sides."""
    total = SKIP + int(given["chunks"])
    sides = ("old", "new") if turn % 2 else ("new", "old")
    processes = {side: worker(trees[side], given, total) for side in sides}
    try:
        return [{side: chunk(processes[side]) for side in (sides if i % 2 else sides[::-1])} for i in range(total)]
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def compare(given: dict[str, str], folder: Path) -> dict[str, Any]:
    """Median processor seconds of both, their ratio and its interval, and how far the latents' sums are apart."""
    trees = {side: tree(given[side], folder / side) for side in ("old", "new")}
    pairs = [timed(given, trees, turn) for turn in range(int(given["pairs"]))]
    ratios = [float(np.median([c["new"][0] / c["old"][0] for c in pair[SKIP:]])) for pair in pairs]
    ratio, low, high = mean_ratio(ratios)
    return {
        **given, "seconds": {side: float(np.median([c[side][0] for pair in pairs for c in pair[SKIP:]])) for side in trees},
        "ratio": ratio, "interval": [low, high], "ratios": ratios,
        "sums_differ_by": max(abs(c["new"][1] - c["old"][1]) for pair in pairs for c in pair), "slower": low > LIMIT,
    }  # fmt: skip


def main(words: list[str]) -> int:
    try:
        given = read(words)
        with tempfile.TemporaryDirectory() as folder:
            result = compare(given, Path(folder))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    low, high = result["interval"]
    print(
        f"{given['cache']}: {given['new']} takes {result['ratio']:.3f} ({low:.3f} to {high:.3f}) of the processor time of "
        f"{given['old']}" + (f": slower by more than {LIMIT - 1:.0%}" if result["slower"] else "")
    )
    return int(result["slower"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
