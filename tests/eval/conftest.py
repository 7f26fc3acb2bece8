from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import clip_of
from numpy.typing import NDArray

from deepforcing.tiny.world import VOCABULARY, caption, random_classes, render, sample_scenes
from deepforcing.video import VideoWriter, sha256_file
from eval.measure.watch import Clip

sys.path.append(str(Path(__file__).parent))  # for `import vbench_files`
SCALE = 8


def rendered_frames(seed: int, frames: int) -> tuple[str, NDArray[np.uint8]]:
    """Caption and uint8 [N, 16, 16, 3] of a random scene; seeds 0..5 show every shape and colour."""
    generator = torch.Generator().manual_seed(seed)
    classes = random_classes(1, generator)
    classes[0, 0], classes[0, 1] = seed % len(VOCABULARY[0]), seed % len(VOCABULARY[1])
    video = render(sample_scenes(classes, generator), frames)[0].permute(0, 2, 3, 1)
    return caption(classes[0]), np.ascontiguousarray((video * 255).round().byte().numpy())


@pytest.fixture
def tiny_clip() -> Callable[[NDArray[np.uint8], str], Clip]:
    """Decoded frames [N, 16, 16, 3] as a clip of the tiny world, enlarged as its files are."""

    def make(frames: NDArray[np.uint8], prompt: str) -> Clip:
        return clip_of(frames.repeat(SCALE, 1).repeat(SCALE, 2), 16, prompt, SCALE, "tiny")

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A run directory of rendered videos: {sample name: (seed, frames)}."""

    def make(samples: dict[str, tuple[int, int]], name: str = "real-0123abcd", world: str | None = "tiny") -> Path:
        run = tmp_path / name
        (run / "samples").mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"schema": 1, "name": "real", "pixel_scale": SCALE, "world": world}))
        for sample, (seed, count) in samples.items():
            write_sample(run, sample, seed, count)
        return run

    return make


def write_sample(run: Path, sample: str, seed: int, count: int) -> None:
    prompt, frames = rendered_frames(seed, count)
    video = run / "samples" / f"{sample}.mp4"
    with VideoWriter(video, 16, 16, fps=16, pixel_scale=SCALE) as writer:
        writer.write(frames)
    record = {
        "schema": 1,
        "sample": sample,
        "prompt_id": sample.rsplit("-s", 1)[0],
        "prompt": prompt,
        "seed": int(sample.rsplit("-s", 1)[1]),
        "video": video.name,
        "sha256": sha256_file(video),
        "fps": 16,
        "frames": count,
    }
    (run / "samples" / f"{sample}.json").write_text(json.dumps(record))


@pytest.fixture
def rendered() -> Callable[[int, int], tuple[str, NDArray[np.uint8]]]:
    return rendered_frames


@pytest.fixture
def add_sample() -> Callable[[Path, str, int, int], None]:
    return write_sample
