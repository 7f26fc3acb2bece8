"""The videos of a request, made into a run directory: whatever is missing, streamed to disk, each finished by its record."""

from __future__ import annotations

import contextlib
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deepforcing.cache.observe import Watch
from deepforcing.clip import Clip
from deepforcing.continuation import Continuation
from deepforcing.environment import environment
from deepforcing.generator import DTYPES, Generator
from deepforcing.geometry import Geometry
from deepforcing.identity import plain
from deepforcing.latents import LatentsWriter, latents_bytes
from deepforcing.lossy.exact import Exact
from deepforcing.prompts import Sample
from deepforcing.runs import MIN_FREE_BYTES, RunDir, check_writable
from deepforcing.video import VideoWriter
from deepforcing.wan.model import WanSpec
from deepforcing.writer_thread import WriterThread
from experiments.command.terminal import bar
from experiments.live.progress import live
from experiments.request import Request, check_request, find_observer


def rollout(config: DictConfig, console: Console, tick: Callable[[], None] = lambda: None) -> RunDir:
    """Make every video of the request that is not there yet. tick: called after each chunk, done before or not."""
    request = check_request(config)
    spec, plan, total_frames = request.spec, request.plan, request.total_frames
    record = run_record(config, request)
    run = RunDir.create(str(config.runs_root), request.name, request.identity, record)
    also = probed(request.watch, run)
    todo = run.todo(plan, request.latents, also)
    chunks = total_frames // spec.chunk_frames
    console.print(
        f"{run.path}: {len(plan)} videos of {spec.model.geometry.seconds(total_frames):.1f} s, "
        f"{len(plan) - len(todo)} already there",
        style="bold",
    )
    for note in (*spec.model.notes(), *latents_notes(request, run, len(todo))):
        console.print(note, markup=False)
    for _ in range((len(plan) - len(todo)) * chunks):
        tick()
    if todo:
        texts = [text for sample in todo for text in spec.cues(sample.prompt.text, total_frames).values()]
        spec.model.prepare(texts, request.device)
        generator = spec.build(request.device)
        clip = generator.encode(request.start.frames) if isinstance(request.start, Clip) else None
        about = {
            "project": "deepforcing",
            "group": request.name,
            "name": f"{run.path.name} {config.shard}",
            "config": record["spec"],
        }
        with bar(console, "chunks") as shown, live(config.tracker, run.path, about, len(todo) * chunks) as told:
            task = shown.add_task(request.name, total=len(todo) * chunks)

            def advance() -> None:
                shown.advance(task)
                tick()
                told()

            for group in batches(todo, request):
                with contextlib.ExitStack() as claims:
                    mine = [
                        sample
                        for sample in group
                        if claims.enter_context(run.claim(sample.name, request.latents, also))
                    ]
                    for _ in range((len(group) - len(mine)) * chunks):  # other processes are at those
                        advance()
                    if mine:
                        make_samples(run, generator, mine, request, clip, advance)
        left = len(run.todo(plan, request.latents, also))
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
    if spec.backend != "plain":
        kept["backend"] = spec.backend
    if spec.lossy != Exact():
        kept["lossy"] = resolved["lossy"]
    if request.device.type == "cuda":
        kept["attention"] = spec.attention
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


def start_record(start: Clip | Continuation) -> dict[str, Any]:
    """What the run's record says of a given beginning."""
    if isinstance(start, Clip):
        return start.of("")
    return {
        "file": start.name,
        "sha256": start.sha256,
        "frames": start.frames,
        "latent_frames": start.latent_frames,
    }


def latents_notes(request: Request, run: RunDir, todo: int) -> list[str]:
    """What is told of latents before a run. Raises OSError where those that are to be kept do not fit the disk."""
    told, spec = [], request.spec
    if isinstance(request.start, Continuation) and (why := request.start.inexact(spec, request.identity)):
        told.append(f"the videos go on, but not to the bit as rolling on would have made them: {why}")
    if request.latents and todo:
        each = latents_bytes(spec.model.geometry, request.total_frames, DTYPES[spec.dtype])
        again = todo - len(run.todo(request.plan))
        told.append(f"latents are kept: {each / 1e6:.1f} MB a video, {todo * each / 1e9:.2f} GB in all")
        if again:
            told.append(f"{again} finished videos were made without: they are made again")
        check_writable(run.path, MIN_FREE_BYTES + todo * each)
    return told


def batches(samples: list[Sample], request: Request) -> Iterator[list[Sample]]:
    """Samples that are made in one pass: as many as the request says, their prompts changing at the same chunks."""
    alike: dict[object, list[Sample]] = {}
    for sample in samples:
        starts = tuple(request.spec.cues(sample.prompt.text, request.total_frames))
        group = alike.setdefault((starts, request.spec.cuts(sample.prompt.text, request.total_frames)), [])
        group.append(sample)
        if len(group) == request.batch:
            yield alike.pop((starts, request.spec.cuts(sample.prompt.text, request.total_frames)))
    yield from alike.values()


def make_samples(
    run: RunDir,
    generator: Generator,
    samples: list[Sample],
    request: Request,
    clip: torch.Tensor | None,
    advance: Callable[[], None],
) -> None:
    """Videos made in one pass, streamed to disk; a record is written last. clip: latents of a given image or clip."""
    spec, total_frames, start = generator.spec, request.total_frames, request.start
    g = spec.model.geometry
    device, dtype = generator.device, DTYPES[spec.dtype]
    began = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    chunks: list[list[dict[str, Any]]] = [[] for _ in samples]
    stored = 0
    initial = start.initial(samples, device, dtype) if isinstance(start, Continuation) else clip
    with contextlib.ExitStack() as open_files:
        videos = [
            open_files.enter_context(
                WriterThread(VideoWriter(run.video_path(sample.name), g.width, g.height, g.fps, spec.model.pixel_scale))
            )
            for sample in samples
        ]
        size = (total_frames, g.latent_channels, g.latent_height, g.latent_width)
        latents = [
            open_files.enter_context(LatentsWriter(run.latents_path(sample.name), size, dtype))
            for sample in samples
            if request.latents
        ]
        watch = open_files.enter_context(observer(request.watch, run, samples))
        asked = [(sample.prompt.text, sample.prompt.id, sample.seed) for sample in samples]
        last = time.perf_counter()
        goes_on = isinstance(start, Continuation)
        for parts in generator.generate_batch(asked, total_frames, initial, watch, goes_on):
            stored = max(stored, parts[0].stored)
            for file, chunk in zip(latents, parts, strict=False):  # none where they are not kept
                file.write(chunk.latents)
            for video, chunk in zip(videos, parts, strict=True):
                video.write(chunk.frames)
            now = time.perf_counter()
            whole, last = (now - last) / len(samples), now
            for chunk, rows in zip(parts, chunks, strict=True):
                seconds = {f"{key}_s": round(value, 6) for key, value in chunk.seconds.items()}
                seconds["chunk_s"] = round(whole, 6)
                given = {"given": True} if start is not None and chunk.start < start.latent_frames else {}
                rows.append({**seconds, "tokens": chunk.tokens, **given})
                advance()
    frames = videos[0].frames
    wall = (time.perf_counter() - began) / len(samples)
    for video, rows in zip(videos, chunks, strict=True):
        for row, took in zip(rows, video.seconds, strict=True):
            row["write_s"] = round(took, 6)
    for k, (sample, rows) in enumerate(zip(samples, chunks, strict=True)):
        run.commit(
            {
                **sample_record(sample, g, spec.model.pixel_scale, frames),
                **({} if start is None else {"start_from": start.of(sample.name)}),
                **({"latents": latents[k].record()} if latents else {}),
                "latent_frames": total_frames,
                "chunk_frames": spec.chunk_frames,
                **({} if len(samples) == 1 else {"batch": len(samples)}),
                "wall_seconds": round(wall, 3),
                "peak_memory_bytes": peak_memory(device),
                "cache_bytes": stored,
                "environment": environment(str(device)),
                "chunks": rows,
            }
        )


def probed(name: str | None, run: RunDir) -> Callable[[str], bool] | None:
    """Whether a sample has what the observer of that name writes; None: there is none, or it does not say what it writes."""
    file = None if name is None else getattr(find_observer(name), "file", None)
    return None if file is None else lambda sample: file(run.path / "probes", sample).is_file()


@contextlib.contextmanager
def observer(name: str | None, run: RunDir, samples: list[Sample]) -> Iterator[Watch | None]:
    """The observer of that dotted name, for these samples; its `close` is called when their videos are whole."""
    if name is None:
        yield None
        return
    watch = find_observer(name)(run.path / "probes", [sample.name for sample in samples])
    yield watch
    watch.close()


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
