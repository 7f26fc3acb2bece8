"""Real video of an embedded world as an ordinary run: what every score is to be read against.

    from experiments.reference import reference_run

The captions and seeds are a rollout's; the details that captions leave open are drawn from them by the seed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from deepforcing.environment import environment
from deepforcing.prompts import Sample
from deepforcing.runs import RunDir
from deepforcing.tiny.model import TinySpec
from deepforcing.tiny.worlds import CHUNK_FRAMES, TRAIN_FRAMES, find_world
from deepforcing.video import VideoWriter
from experiments.videos import sample_record

NAME = "real_video"


def reference_run(
    runs_root: str | Path,
    plan: Sequence[Sample],
    seconds: float,
    advance: Callable[[], None] = lambda: None,
    world: str = "tiny",
) -> RunDir:
    """Render every sample of the plan that is missing. Raises ValueError for a prompt the world cannot draw."""
    drawn, spec = find_world(world), TinySpec(world=world)
    g, scale = spec.geometry, spec.pixel_scale
    latent_frames = g.latent_frames(seconds, CHUNK_FRAMES)
    frames = g.pixel_frames(latent_frames)
    geometry = ("height", "width", "fps", "spatial_stride", "temporal_stride", "patch", "latent_channels")
    record = {
        "label": "real video",
        "spec": {"generator": "renderer", "data_version": drawn.DATA_VERSION, "train_seconds": g.seconds(TRAIN_FRAMES)},
        "geometry": {key: getattr(g, key) for key in geometry},
        "pixel_scale": scale,
        "world": world,
        "environment": environment("cpu"),
        "checkpoint": None,
    }
    identity = {"generator": "renderer", "data_version": drawn.DATA_VERSION, "frames": frames, "pixel_scale": scale}
    run = RunDir.create(runs_root, NAME, identity, record)
    for sample in run.todo(plan):
        with run.claim(sample.name) as mine:
            if mine:
                began = time.perf_counter()
                digest = hashlib.sha256(f"{sample.seed}/{sample.prompt.id}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
                scene = drawn.sample_scenes(torch.tensor([drawn.parse_caption(sample.prompt.text)]), generator)
                with VideoWriter(run.video_path(sample.name), g.width, g.height, g.fps, scale) as video:
                    for first in range(0, frames, 240):
                        video.write(drawn.render(scene, min(240, frames - first), first)[0])
                run.commit(
                    {
                        **sample_record(sample, g, scale, frames),
                        "latent_frames": latent_frames,
                        "chunk_frames": CHUNK_FRAMES,
                        "wall_seconds": round(time.perf_counter() - began, 3),
                        "peak_memory_bytes": None,
                        "chunks": [],
                    }
                )
        advance()
    return run
