"""One video in stages: finished as a run of 15 s, of 30 s ... while it is rolled out once.

The first 15 s of a video are the video of 15 s, so every stage is an ordinary finished sample of the run of that length, and
whoever stops after one keeps it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from deepforcing.environment import environment
from deepforcing.generator import Generator
from deepforcing.prompts import Sample
from deepforcing.runs import RunDir
from deepforcing.video import VideoWriter
from experiments.request import Request, check_request
from experiments.videos import peak_memory, run_record, sample_record


@dataclass(frozen=True)
class Stage:
    seconds: float
    request: Request
    run: RunDir


def stages_of(config: DictConfig, lengths: Sequence[float]) -> list[Stage]:
    """A run of each length, ascending. config: a rollout's. Raises ValueError for settings that cannot run."""
    found = []
    for seconds in lengths:
        alone = config.copy()
        alone.seconds = float(seconds)
        request = check_request(alone)
        run = RunDir.create(str(config.runs_root), request.name, request.identity, run_record(alone, request))
        found.append(Stage(float(seconds), request, run))
    return found


def finished(stages: Sequence[Stage], generator: Generator, sample: Sample) -> Iterator[Stage]:
    """Each stage when its video is whole, whether made before or now. Closed early, it leaves nothing half made.

    Raises ValueError where another process makes the same video.
    """
    with contextlib.ExitStack() as held:
        todo = [s for s in stages if sample.name not in s.run.completed()]
        if not all(held.enter_context(stage.run.claim(sample.name)) for stage in todo):
            raise ValueError(f"{sample.name} of {todo[0].run.path} is in another process's hands")
        made = made_now(todo, generator, sample) if todo else iter(())
        for stage in stages:
            if stage in todo:
                next(made)
            yield stage


def made_now(todo: Sequence[Stage], generator: Generator, sample: Sample) -> Iterator[Stage]:
    """Roll out once, as far as the longest; every chunk goes to all stages that it belongs to."""
    spec = generator.spec
    g, last = spec.model.geometry, todo[-1].request
    began, rows, stored = time.perf_counter(), [], 0
    with contextlib.ExitStack() as files:
        writers: list[tuple[Stage, contextlib.ExitStack, VideoWriter]] = []
        for stage in todo:
            own = files.enter_context(contextlib.ExitStack())
            path = stage.run.video_path(sample.name)
            writers.append(
                (stage, own, own.enter_context(VideoWriter(path, g.width, g.height, g.fps, spec.model.pixel_scale)))
            )
        for chunk in generator.generate(sample.prompt.text, sample.prompt.id, sample.seed, last.total_frames):
            started = time.perf_counter()
            for _, _, video in writers:
                video.write(chunk.frames)
            rows.append(row(chunk, time.perf_counter() - started))
            stored = max(stored, chunk.stored)
            stage, own, video = writers[0]
            if chunk.start + spec.chunk_frames < stage.request.total_frames:
                continue
            own.close()
            del writers[0]
            stage.run.commit(
                {
                    **sample_record(sample, g, spec.model.pixel_scale, video.frames),
                    "latent_frames": stage.request.total_frames,
                    "chunk_frames": spec.chunk_frames,
                    "wall_seconds": round(time.perf_counter() - began, 3),
                    "peak_memory_bytes": peak_memory(generator.device),
                    "cache_bytes": stored,
                    "environment": environment(str(generator.device)),
                    "chunks": list(rows),
                }
            )
            yield stage


def row(chunk: Any, writing: float) -> dict[str, Any]:
    seconds = {f"{key}_s": round(value, 6) for key, value in chunk.seconds.items()}
    return {**seconds, "write_s": round(writing, 6), "tokens": chunk.tokens}
