"""The videos of a request, made into a run directory: whatever is missing, streamed to disk, each finished by its record."""

from __future__ import annotations

import resource
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deepforcing.clip import Clip
from deepforcing.environment import environment
from deepforcing.generator import Generator
from deepforcing.geometry import Geometry
from deepforcing.identity import plain
from deepforcing.prompts import Sample
from deepforcing.runs import RunDir
from deepforcing.video import VideoWriter
from deepforcing.wan.model import WanSpec
from experiments.command.terminal import bar
from experiments.request import Request, check_request


def rollout(config: DictConfig, console: Console, tick: Callable[[], None] = lambda: None) -> RunDir:
    """Make every video of the request that is not there yet. tick: called after each chunk, done before or not."""
    request = check_request(config)
    spec, plan, total_frames = request.spec, request.plan, request.total_frames
    record = run_record(config, request)
    run = RunDir.create(str(config.runs_root), request.name, request.identity, record)
    todo = run.todo(plan)
    chunks = total_frames // spec.chunk_frames
    console.print(
        f"{run.path}: {len(plan)} videos of {spec.model.geometry.seconds(total_frames):.1f} s, "
        f"{len(plan) - len(todo)} already there",
        style="bold",
    )
    for note in spec.model.notes():
        console.print(note, markup=False)
    for _ in range((len(plan) - len(todo)) * chunks):
        tick()
    if todo:
        texts = [text for sample in todo for text in spec.cues(sample.prompt.text, total_frames).values()]
        spec.model.prepare(texts, request.device)
        generator = spec.build(request.device)
        initial = None if request.start is None else generator.encode(request.start.frames)
        with bar(console, "chunks") as shown:
            task = shown.add_task(request.name, total=len(todo) * chunks)

            def advance() -> None:
                shown.advance(task)
                tick()

            for sample in todo:
                with run.claim(sample.name) as mine:
                    if mine:
                        make_sample(run, generator, sample, request, initial, advance)
                    else:  # another process is at it
                        for _ in range(chunks):
                            advance()
        left = len(run.todo(plan))
        if left:
            console.print(
                f"{left} videos are left to other processes; run the same command again to see to them", style="yellow"
            )
    return run


def run_record(config: DictConfig, request: Request) -> dict[str, Any]:
    """The fields of run.json that describe the run without being its identity."""
    spec = request.spec
    g = spec.model.geometry
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    kept = {k: resolved[k] for k in ("generator", "model", "cache", "prompts", "seconds", "seeds", "dtype")}
    if request.start is not None:
        kept["start_from"] = start_record(request.start)
    if isinstance(spec.model, WanSpec):
        kept["model"]["config"] = {k: plain(v) for k, v in vars(spec.model.config).items()}
    return {
        "label": str(config.label or request.name),
        "spec": {**kept, "train_seconds": g.seconds(spec.model.train_frames)},
        "geometry": {
            key: getattr(g, key)
            for key in ("height", "width", "fps", "spatial_stride", "temporal_stride", "patch", "latent_channels")
        },
        "pixel_scale": spec.model.pixel_scale,
        "world": spec.model.world,
        "environment": environment(str(request.device)),
        "checkpoint": {"sha256": spec.model.identity().get("checkpoint")},
        "command": command_line(),
    }


def command_line() -> str:
    """What was typed: the demo's workers, and a sweep's, have the arguments of the command that started them."""
    arguments = [shlex.quote(a) for a in sys.argv[1:] if not a.startswith("hydra.")]
    return " ".join(["python", "-m", f"experiments.{Path(sys.argv[0]).stem}", *arguments])


def start_record(start: Clip) -> dict[str, Any]:
    """What the records say of a given beginning."""
    return {
        "file": start.name,
        "sha256": start.sha256,
        "frames": len(start.frames),
        "latent_frames": start.latent_frames,
    }


def make_sample(
    run: RunDir,
    generator: Generator,
    sample: Sample,
    request: Request,
    initial: torch.Tensor | None,
    advance: Callable[[], None],
) -> None:
    """One video, streamed to disk; its record is written last. initial: latents of the request's given beginning."""
    spec, total_frames, start = generator.spec, request.total_frames, request.start
    g = spec.model.geometry
    device = generator.device
    began = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    chunks = []
    with VideoWriter(run.video_path(sample.name), g.width, g.height, g.fps, spec.model.pixel_scale) as video:
        for chunk in generator.generate(sample.prompt.text, sample.prompt.id, sample.seed, total_frames, initial):
            started = time.perf_counter()
            video.write(chunk.pixels)
            seconds = {f"{key}_s": round(value, 6) for key, value in chunk.seconds.items()}
            seconds["write_s"] = round(time.perf_counter() - started, 6)
            given = {"given": True} if start is not None and chunk.start < start.latent_frames else {}
            chunks.append({**seconds, "tokens": chunk.tokens, **given})
            advance()
        frames = video.frames
    run.commit(
        {
            **sample_record(sample, g, spec.model.pixel_scale, frames),
            **({} if start is None else {"start_from": start_record(start)}),
            "latent_frames": total_frames,
            "chunk_frames": spec.chunk_frames,
            "wall_seconds": round(time.perf_counter() - began, 3),
            "peak_memory_bytes": peak_memory(device),
            "environment": environment(str(device)),
            "chunks": chunks,
        }
    )


def sample_record(sample: Sample, g: Geometry, pixel_scale: int, frames: int) -> dict[str, Any]:
    """What every finished sample's json says of its video."""
    return {
        "sample": sample.name,
        "prompt_id": sample.prompt.id,
        "prompt": sample.prompt.text,
        "seed": sample.seed,
        "fps": g.fps,
        "frames": frames,
        "width": g.width * pixel_scale,
        "height": g.height * pixel_scale,
        "seconds": frames / g.fps,
    }


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU's allocator, or the process's largest resident size."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
