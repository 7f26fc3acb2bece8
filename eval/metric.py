"""What a metric is: observations of a video's frames and its time windows in, one number per window and value out.

A metric names what it must note of every frame; the frames pass once, and only the notes stay (eval/watch.py). So memory
grows by a few kilobytes a frame, whatever the frame's size.

Frames are numpy uint8 RGB. N frames, H and W pixels of the file, W windows where a docstring says so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
ROUNDING = 1e-6  # seconds: far below a frame, far above what sums of times round by
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

    higher_is_better: None where neither direction is better by itself (then read it beside the real video's). share: it
    is 0 or 1 of each frame or clip, so 0..1 of a video, and its intervals are of proportions (eval.stats.intervals). floor:
    what is wrong altogether gets, in words that titles take, where that is not 0. whole: it is one number of the whole video.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    description: str
    share: bool = False
    floor: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Chunks:
    """In what pieces a video was made: latent frames of a chunk and of the cache's window, frames of a latent frame.

    The first latent frame decodes to a single frame. As it stands: Self Forcing and its kin.
    """

    chunk_frames: int = 3
    window_frames: int = 21
    temporal_stride: int = 4

    def __post_init__(self) -> None:
        if min(self.chunk_frames, self.window_frames, self.temporal_stride) < 1:
            raise ValueError(f"{self} must have whole numbers of at least 1")

    def frames_of(self, latent_frames: int) -> int:
        return self.temporal_stride * latent_frames

    def first_frame(self, latent: NDArray[np.int_]) -> NDArray[np.int_]:
        """The frame with which each latent frame begins; 0 for the first."""
        return np.asarray(np.maximum(self.temporal_stride * (latent - 1) + 1, 0))


SELF_FORCING = Chunks()


@dataclass(frozen=True)
class Video:
    """What is known of a video before its frames come.

    height, width: pixels of the file. fps: frames a second. prompt: "" where none is known. pixel_scale: every decoded
    pixel is pixel_scale x pixel_scale pixels of the file. world: name of the procedural world that the prompt
    describes, or None. chunks: in what pieces it was made. grain: every window begins at a multiple of so many frames, and
    ends at one or with the video, so what is only summed over windows may be summed over so many frames at once. Raises
    ValueError if it cannot be.
    """

    height: int
    width: int
    fps: float
    prompt: str
    pixel_scale: int = 1
    world: str | None = None
    chunks: Chunks = SELF_FORCING
    grain: int = 1

    def __post_init__(self) -> None:
        height, width, scale = self.height, self.width, self.pixel_scale
        if height < 1 or width < 1:
            raise ValueError(f"a frame of {height} x {width} pixels has nothing to measure")
        if scale < 1 or height % scale or width % scale:
            raise ValueError(f"pixel_scale={scale} does not divide the frame of {height} x {width}")
        if not self.fps > 0 or not math.isfinite(self.fps):
            raise ValueError(f"fps={self.fps} must be a positive number")


class Frame:
    """One frame while it passes. rgb: uint8 [H, W, 3], a part of a batch: copy what is to outlast it."""

    def __init__(self, rgb: NDArray[np.uint8], pixel_scale: int) -> None:
        self.rgb = rgb
        self.pixel_scale = pixel_scale

    @functools.cached_property
    def luma(self) -> NDArray[np.float32]:
        """Luma (BT.601) in decoded pixels, [H / scale, W / scale] in 0..255. Not to be written to."""
        grey = cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if self.pixel_scale > 1:
            size = (grey.shape[1] // self.pixel_scale, grey.shape[0] // self.pixel_scale)
            grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
        return grey


# Something to note of every frame of a video: called once per video, it returns what is then called with each frame in
# order and gives a number or a small array (of the same shape every time) that is no view of the frame. One that looks at
# several frames together gives None instead, and has a method `finish`: what that returns after the last frame is what was
# observed. Metrics that name the same observation share it. It raises ValueError in one line if a video cannot be observed so.
Look = Callable[[Frame], float | NDArray[Any] | None]
Observation = Callable[[Video], Look]


@dataclass(frozen=True, eq=False)
class Clip:
    """A video whose frames have passed, and what was observed of them (made by eval.watch.Watch).

    frames: how many, N. noted: [N, ...] per observation. refused: why there is none, for those that could not be made.
    Hashed by identity, so that work can be shared between metrics.
    """

    video: Video
    frames: int
    noted: Mapping[Observation, Any]
    refused: Mapping[Observation, str]

    def observed(self, observation: Observation) -> Any:
        """What an observation gave for each frame, [N, ...], or made of all. Raises ValueError if it could not be made.

        KeyError if no metric of the Watch names it in `observes`.
        """
        if observation in self.refused:
            raise ValueError(self.refused[observation])
        return self.noted[observation]


class Metric(Protocol):
    """A measurement. Its parameters are constants of its module: a change of any of them is a new `version`.

    name: of the scores file. needs: "video" for any video, or the name of the world whose captions it checks.
    observes: what must be noted of every frame. values: what it gives; names are unique over all metrics.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    needs: ClassVar[Literal["video", "tiny"]]
    observes: ClassVar[tuple[Observation, ...]]
    values: ClassVar[tuple[Value, ...]]

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        """One array [W] per name in `values`, [1] of those that are `whole`; NaN where there was nothing to measure.

        Raises ValueError with one clear line if the clip cannot be measured at all.
        """


def applies(metric: Metric, world: str | None) -> bool:
    """Whether a metric can score videos of this world (None: any video)."""
    return metric.needs in ("video", world)


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
    """The most frames that every window begins at a multiple of, and ends at one or with the video: see Video.grain."""
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
