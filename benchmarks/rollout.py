"""Seconds and memory of a rollout.

"Steady state" means: the cache has been full for a while. Denoise, commit, decode and write are timed apart and together,
because a frame rate says nothing without them (FPS = pixel frames of a chunk / its seconds).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deepforcing import backend
from deepforcing.frames import sent
from deepforcing.generator import Generator, GeneratorSpec, Model
from deepforcing.stopwatch import Stopwatch
from deepforcing.video import VideoWriter
from experiments.videos import peak_memory

PARTS = ("denoise", "commit", "decode", "write")


def timed(spec: GeneratorSpec, model: Model, device: torch.device, total: int) -> Iterator[dict[str, Any]]:
    """Seconds per part and attended tokens of every chunk of one video."""
    g = spec.model.geometry
    clock = Stopwatch(device)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        job = Generator(spec, model, device).job(PROMPT, "bench", 0, total, clock)
        job = replace(job, steady=backend.steady(model.wan))
        try:
            model.decoder()
        except ValueError:
            job = replace(job, codec=None)
        writer = VideoWriter(Path(folder) / "bench.mp4", g.width, g.height, g.fps, spec.model.pixel_scale)
        with writer as video:
            clock.take()
            for chunk, pixels in spec.rule.generate(job):
                if pixels is not None:
                    way = sent(pixels, chunk.latents)
                    way.wait()
                    video.write(way.frames[0].numpy())
                    clock.lap("write")
                elif chunk.start == 0:
                    video.write(torch.zeros(1, 3, g.height, g.width))
                seconds = clock.take().seconds()
                if pixels is None:
                    del seconds["decode"]
                yield {**seconds, "tokens": chunk.tokens}


PROMPT = "a red disc starts at the left and circles clockwise on a slate background"


def describe(spec: GeneratorSpec, device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "model": spec.model.name,
        "decoder": getattr(spec.model, "decoder", None),  # the embedded world has one codec
        "generator": spec.name,
        "cache": spec.cache.name,
        "device": name,
        "dtype": spec.dtype,
        "backend": spec.backend,
        "attention": spec.attention,
        "lossy": spec.lossy.name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def summary(spec: GeneratorSpec, chunks: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
    """Median seconds a chunk per part (null: the model has no such part), end to end, and frame rates."""
    g = spec.model.geometry
    frames = spec.chunk_frames * g.temporal_stride
    seconds = {p: statistics.median(c[p] for c in chunks) if p in chunks[0] else None for p in PARTS}
    totals = [sum(c.get(p, 0.0) for p in PARTS) for c in chunks]
    whole = statistics.median(totals)
    rates = {p: round(frames / s, 3) if s else None for p, s in seconds.items()}
    return {
        "seconds_per_chunk": {**{p: s and round(s, 6) for p, s in seconds.items()}, "end_to_end": round(whole, 6)},
        "mean_seconds_per_chunk": round(statistics.fmean(totals), 6),
        "fps": {**rates, "end_to_end": round(frames / whole, 3)},
        "tokens_attended": sorted({c["tokens"] for c in chunks}),
        "peak_memory_bytes": peak_memory(device),
        "chunks_timed": len(chunks),
    }


def by_length(spec: GeneratorSpec, model: Model, device: torch.device, total: int, last: int) -> dict[str, Any]:
    """One whole video of `total` latent frames: resident memory at its end and the cost of its `last` chunks."""
    tail: list[dict[str, Any]] = []
    began = time.perf_counter()
    for chunk in timed(spec, model, device, total):
        tail = [*tail[1 - last :], chunk] if last > 1 else [chunk]
    wall = time.perf_counter() - began
    result = {**describe(spec, device), "video_seconds": round(spec.model.geometry.seconds(total), 2)}
    return {**result, "memory_bytes": memory_now(device), "wall_seconds": round(wall, 2), **summary(spec, tail, device)}


def memory_now(device: torch.device) -> int:
    """Bytes held now: the GPU allocator's, or the resident set's where the system tells (Linux)."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_memory(device)
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
