"""Windows of a video: where they lie, and what is made of numbers of its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
ROUNDING = 1e-6  # seconds: far below a frame, far above what sums of times round by


class Window(NamedTuple):
    """Frames start .. end - 1, which is t_start .. t_end in seconds."""

    start: int
    end: int
    t_start: float
    t_end: float


def windows(n_frames: int, fps: float, window_seconds: float) -> list[Window]:
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


def grain(windows: Sequence[Window], n_frames: int) -> int:
    """The most frames that every window begins at a multiple of, and ends at one or with the video: see ClipInfo.grain."""
    borders = {border for window in windows for border in (window.start, window.end)} - {n_frames}
    return math.gcd(*borders) or n_frames


def overlap(starts: FloatArray, ends: FloatArray, start: float, end: float) -> FloatArray:
    """Seconds of each window, starts .. ends [W], that lie in start .. end: [W]; 0 for what only rounding lets in."""
    shared = np.minimum(ends, end) - np.maximum(starts, start)
    return np.where(shared > ROUNDING, shared, 0.0)


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
