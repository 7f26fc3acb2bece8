"""A folder of two small videos that something else made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deepforcing.video import VideoWriter


def moving(frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([np.roll(picture, t, axis=1) for t in range(frames)])


def write(path: Path, frames: np.ndarray, fps: int = 16) -> Path:
    with VideoWriter(path, frames.shape[2], frames.shape[1], fps=fps) as writer:
        writer.write(frames)
    return path


def two_videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    write(folder / "a_b c-0.mp4", moving(80))
    write(folder / "d.mp4", moving(40, seed=1))
    return folder
