"""Videos that move: a texture that slides and a disc that crosses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


def moving(frames: int, height: int, width: int, speed: float, seed: int = 0) -> Iterator[Frame]:
    """uint8 [H, W, 3], one after the other; the texture slides by `speed` px a frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 20, width // 8 + 60, 3)).astype(np.uint8)
    large: NDArray[Any] = cv2.GaussianBlur(coarse.repeat(8, 0).repeat(8, 1), (0, 0), 2)
    for index in range(frames):
        down, right = int(index * speed / 2) % 120, int(index * speed) % 400
        frame: NDArray[Any] = large[down : down + height, right : right + width].copy()
        cv2.circle(frame, (int(20 + 2 * speed * index) % width, height // 2), height // 6, (220, 30, 30), -1)
        yield frame


def write(path: Path, frames: Iterable[Frame], fps: int) -> Path:
    """An mp4 file as any generator writes one: libx264 with FFmpeg's defaults."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.pix_fmt = "yuv420p"
        for index, frame in enumerate(frames):
            if not index:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
