"""Speed and memory of a rollout, as JSON. `python -m experiments.bench --help`; `eval` and `gpu-table` are in benchmarks/."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from experiments.command import command, program
from experiments.command.moved import moved

if TYPE_CHECKING:
    from omegaconf import DictConfig

DEFAULT_LENGTHS = "lengths=[60,600]"


def bench_task(config: DictConfig) -> None:
    from benchmarks.rollout import by_length, describe, summary, timed  # torch: --help does without
    from deepforcing.generator import DTYPES
    from experiments.attention import with_attention
    from experiments.request import build_spec, check_room, pick_device, set_threads

    device = pick_device(str(config.device))
    set_threads(config.threads)
    timed_chunks, repeats = config.chunks, config.repeats
    spec = build_spec(config)
    spec.check_device(device)
    spec = with_attention(spec, config.attention, device)
    if config.lengths is not None:
        if not config.lengths:
            raise ValueError("lengths=[] is empty; give seconds, as in lengths=[60,600]")
        totals = [spec.latent_frames(seconds) for seconds in config.lengths]
        for total in totals:
            spec.check_sizes(total)
            check_room(spec, total, device)
        model = spec.model.build(device, DTYPES[spec.dtype])
        for total in totals:
            print(json.dumps(by_length(spec, model, device, total, timed_chunks)), flush=True)
        return
    if config.from_start is not None:
        total, skip = int(config.from_start), 0
        if total % spec.chunk_frames:
            raise ValueError(f"from_start={total} must be a multiple of the chunk, {spec.chunk_frames} latent frames")
    else:
        window = spec.cache.retention.capacity(spec.chunk_frames) or spec.model.train_frames
        # Twice the window: compressed caches have found their cycle, and every allocation has been made.
        skip = 2 * (window // spec.chunk_frames + 1)
        total = (skip + timed_chunks) * spec.chunk_frames
    spec.check_sizes(total)
    check_room(spec, total, device)
    model = spec.model.build(device, DTYPES[spec.dtype])
    chunks: list[dict[str, Any]] = []
    for _ in range(repeats):
        chunks += list(timed(spec, model, device, total))[skip:]
    print(json.dumps({**describe(spec, device), **summary(spec, chunks, device), "latent_frames": total}))


def bench_eval_task(config: DictConfig) -> int:
    from benchmarks.vbench.side_by_side import compare

    return compare(config)


def gpu_table_work(words: list[str]) -> int:
    from benchmarks.gpu.table import gpu_table

    return gpu_table(words)


def gpu_table_help() -> str:
    from benchmarks.gpu.settings import HELP

    return HELP


run, run_eval = command("bench")(bench_task), command("bench_eval")(bench_eval_task)
run_gpu_table = program(gpu_table_work, gpu_table_help)  # by its own words: a bare machine has no Hydra


def main() -> None:
    others = {"eval": run_eval, "gpu-table": run_gpu_table}
    if sys.argv[1:2] and sys.argv[1] in others:
        others[sys.argv.pop(1)]()
        return
    # --lengths reads better than the key it stands for, and is what the documentation says.
    sys.argv[1:] = [DEFAULT_LENGTHS if a == "--lengths" else a for a in sys.argv[1:]]
    run()


__getattr__ = moved(__name__, {"benchmarks.rollout": "PARTS by_length describe memory_now summary timed"})

if __name__ == "__main__":
    main()
