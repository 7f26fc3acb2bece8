"""Random weights for VBench's image networks (benchmarks.vbench.weights), and videos of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.vbench.weights import (
    CLIP_FILES,
    randomise,
    save,
    save_torchscript,
    write_aesthetic_head,
    write_clip,
    write_dino,
    write_musiq,
)
from deepforcing.video import VideoWriter
from eval.measure.metric import Metric
from eval.metrics.vbench.aesthetic_quality import AestheticQuality
from eval.metrics.vbench.background_consistency import BackgroundConsistency
from eval.metrics.vbench.imaging_quality import ImagingQuality
from eval.metrics.vbench.subject_consistency import SubjectConsistency

__all__ = [
    "CLIP_FILES",
    "DIMENSIONS",
    "randomise",
    "save",
    "save_torchscript",
    "write_aesthetic_head",
    "write_clip",
    "write_dino",
    "write_image_weights",
    "write_musiq",
    "write_video",
]  # fmt: skip

DIMENSIONS: dict[str, Metric] = {
    "subject_consistency": SubjectConsistency(),
    "background_consistency": BackgroundConsistency(),
    "aesthetic_quality": AestheticQuality(),
    "imaging_quality": ImagingQuality(),
}


def write_image_weights(folder: Path) -> None:
    """Random weights of all four dimensions, where VBENCH_CACHE_DIR and TORCH_HOME=folder/torch_home have them."""
    for name in CLIP_FILES:
        write_clip(folder, name)
    write_aesthetic_head(folder)
    write_musiq(folder)
    write_dino(folder)


def image_cache(folder: Path) -> Iterator[Path]:
    """Random weights of all four dimensions, where VBENCH_CACHE_DIR and TORCH_HOME point until it is closed."""
    write_image_weights(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBENCH_CACHE_DIR", str(folder))
        patch.setenv("TORCH_HOME", str(folder / "torch_home"))
        patch.setenv("HOME", str(folder / "home"))
        yield folder


def write_video(path: Path, frames: int, height: int, width: int, seed: int = 0) -> Path:
    """A texture that moves and changes, with a disc that moves otherwise; 8 frames a second."""
    generator = np.random.default_rng(seed)
    texture = generator.integers(0, 256, (height // 4 + 64, width // 4 + 64, 3)).repeat(4, 0).repeat(4, 1)
    y, x = np.mgrid[:height, :width]
    made = []
    for t in range(frames):
        picture = texture[3 * t % 256 :, 7 * t % 256 :][:height, :width] * (0.6 + 0.4 * math.cos(0.7 * t))
        picture[(y - height / 2) ** 2 + (x - (20 + 6 * t) % width) ** 2 < 18**2] = (220, 30, 30)
        made.append(picture.astype(np.uint8))
    with VideoWriter(path, width, height, fps=8) as video:
        video.write(np.stack(made))
    return path
