"""What a metric is: a clip and its time windows in, one number per window and value out.

Frames are numpy uint8 RGB. N frames, H and W pixels of the file, W windows where a docstring says so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601 weights of gamma-encoded R, G, B, as in OpenCV's RGB2GRAY


class Window(NamedTuple):
    """Frames start .. end - 1, which is t_start .. t_end in seconds."""

    start: int
    end: int
    t_start: float
    t_end: float


@dataclass(frozen=True)
class Value:
    """One number that a metric gives per window; `name` is what the table's `metric` column says.

    higher_is_better: None where neither direction is better by itself (then read it beside the real video's).
    """

    name: str
    unit: str
    higher_is_better: bool | None
    description: str


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded video and what its run says of it; hashed by identity, so that work can be shared between metrics.

    frames: uint8 [N, H, W, 3]. pixel_scale: every decoded pixel is pixel_scale x pixel_scale pixels of the file.
    world: name of the procedural world that the prompt describes, or None.
    """

    frames: NDArray[np.uint8]
    fps: float
    prompt: str
    pixel_scale: int = 1
    world: str | None = None

    def __post_init__(self) -> None:
        frames, scale = self.frames, self.pixel_scale
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}; they must be uint8 [N, H, W, 3]")
        if scale < 1 or frames.shape[1] % scale or frames.shape[2] % scale:
            raise ValueError(f"pixel_scale={scale} does not divide the frame of {frames.shape[1]} x {frames.shape[2]}")
        if not self.fps > 0 or not math.isfinite(self.fps):
            raise ValueError(f"fps={self.fps} must be a positive number")

    @functools.cached_property
    def mean_rgb(self) -> FloatArray:
        """Mean colour of each frame, [N, 3] in 0..1."""
        return np.array([cv2.mean(frame)[:3] for frame in self.frames]).reshape(-1, 3) / 255

    @functools.cached_property
    def pooled(self) -> NDArray[np.float32]:
        """All frames averaged back to decoded pixels, [N, H / scale, W / scale, 3] in 0..1. For small worlds only."""
        n, height, width, _ = self.frames.shape
        scale = self.pixel_scale
        rows = self.frames.reshape(n, height // scale, scale, width * 3).sum(2, dtype=np.uint32)
        cells = rows.reshape(n, height // scale, width // scale, scale, 3).sum(3)
        return np.asarray(cells / np.float32(255 * scale**2), dtype=np.float32)

    def luma(self, index: int) -> NDArray[np.float32]:
        """Luma (BT.601) of one frame in decoded pixels, [H / scale, W / scale] in 0..255."""
        grey = cv2.cvtColor(self.frames[index], cv2.COLOR_RGB2GRAY).astype(np.float32)
        if self.pixel_scale > 1:
            size = (grey.shape[1] // self.pixel_scale, grey.shape[0] // self.pixel_scale)
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        return np.asarray(grey, dtype=np.float32)


class Metric(Protocol):
    """A measurement. Its parameters are constants of its module: a change of any of them is a new `version`.

    name: of the scores file. needs: "video" for any video, or the name of the world whose captions it checks.
    values: what it gives; names are unique over all metrics.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    needs: ClassVar[Literal["video", "tiny"]]
    values: ClassVar[tuple[Value, ...]]

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        """One array [W] per name in `values`; NaN where there was nothing to measure.

        Raises ValueError with one clear line if the clip cannot be measured at all.
        """


def applies(metric: Metric, world: str | None) -> bool:
    """Whether a metric can score videos of this world (None: any video)."""
    return metric.needs in ("video", world)


def windows(n_frames: int, fps: float, window_seconds: float = 2.0) -> list[Window]:
    """Cut a video into windows; the last, partial one is kept only if it is at least half as long as the others.

    Raises ValueError if a window has no whole frame.
    """
    length = window_seconds * fps
    if not math.isfinite(length) or round(length) < 1:
        raise ValueError(f"window_seconds={window_seconds} at {fps} frames a second must hold at least one frame")
    found, start, index = [], 0, 0
    while start < n_frames:
        index += 1
        end = min(round(index * length), n_frames)
        if end == round(index * length) or 2 * (end - start) >= length:
            found.append(Window(start, end, start / fps, end / fps))
        start = end
    return found


def window_mean(per_frame: FloatArray, windows: Sequence[Window]) -> FloatArray:
    """Mean over each window's frames, leaving NaN frames out: [N] or [N, K] -> [W] or [W, K]; NaN if none is left."""
    valid = ~np.isnan(per_frame)
    filled = np.where(valid, per_frame, 0.0)
    total = np.array([filled[w.start : w.end].sum(0) for w in windows])
    count = np.array([valid[w.start : w.end].sum(0) for w in windows])
    return np.asarray(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0))


def distance_from_first(per_window: FloatArray) -> FloatArray:
    """Euclidean distance of each row from the first, [W, K] -> [W]; all NaN if the first window has no value."""
    return np.asarray(np.sqrt(((per_window - per_window[:1]) ** 2).sum(1)))
