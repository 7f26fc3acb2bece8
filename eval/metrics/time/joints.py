"""Whether the picture jumps where one chunk ends and the next begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eval.measure.metric import Chunks, Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.pixels.colour import LUMA, mean_rgb
from eval.metrics.time.motion_magnitude import FlowLength


def chunk_joints(chunks: Chunks, frames: int) -> FloatArray:
    """Whether a chunk other than the first begins at a frame, [N] of 0 and 1."""
    starts = np.arange(1, frames // chunks.frames_of(1) + 2) * chunks.chunk_frames
    return marked(chunks.first_frame(starts), frames)


def window_joints(chunks: Chunks, frames: int) -> FloatArray:
    """The same for the first chunk that begins at or after every multiple of the window."""
    starts = np.arange(1, frames // chunks.frames_of(1) + 2) * chunks.chunk_frames
    crossed = starts // chunks.window_frames > (starts - chunks.chunk_frames) // chunks.window_frames
    return marked(chunks.first_frame(starts[crossed]), frames)


def marked(places: NDArray[np.int_], frames: int) -> FloatArray:
    found = np.zeros(frames)
    found[places[places < frames]] = 1
    return found


def excess(steps: FloatArray, joints: FloatArray, to_neighbour: int) -> FloatArray:
    """At each joint, the step minus the mean of those `to_neighbour` frames before and after it; NaN elsewhere.

    steps, joints: [N]. Of neighbours that the video does not have, or that are joints too, the other one counts alone.
    """
    padded = np.pad(np.where(joints > 0, np.nan, steps), to_neighbour, constant_values=np.nan)
    before, after = padded[: len(steps)], padded[2 * to_neighbour :]
    known = ~np.isnan(np.stack([before, after]))
    total = np.nan_to_num(before) + np.nan_to_num(after)
    inside = np.divide(total, known.sum(0), out=np.full(len(steps), np.nan), where=known.any(0))
    return np.where(joints > 0, steps - inside, np.nan)


@dataclass(frozen=True)
class Joints(WindowMetric):
    """By how much more a frame differs from the one before it where a chunk begins than inside chunks.

    The step into a frame is the change of mean luma (absolute, in grey levels of 255) or the mean length of the optical
    flow (motion_magnitude's). chunk_*: the step into a chunk minus the mean of the two steps into latent frames inside the
    chunks before and after it. Only first frames of latent frames are compared, because a decoder that makes several
    frames of one has a rhythm of its own. window_*: the step into the first chunk at or after every multiple of the cache's
    window, minus the mean of the steps into the chunks before and after it: what users report as a flicker every 5 s
    (Reward-Forcing's issue 10). 0 where joints are like any other place, real video included; a steady change cancels.

    A run says how long its chunks and its window are (Chunks); any other video is taken for chunks of 3 latent frames of 4
    frames each but the first, and a window of 21, the layout of Self Forcing and its kin. NaN in windows of time without a
    joint, chunk_* for chunks of one latent frame, window_* for windows of a single chunk. Our definition: no published one
    is known to us.
    """

    name: ClassVar[str] = "joints"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (mean_rgb, FlowLength)
    values: ClassVar[tuple[Value, ...]] = (
        Value("chunk_brightness_jump", "grey levels", None, "change of brightness where chunks begin, minus inside"),
        Value("chunk_flow_jump", "decoded px/s", None, "optical flow where chunks begin, minus inside"),
        Value("window_brightness_jump", "grey levels", None, "change of brightness at multiples of the window, minus beside"),
        Value("window_flow_jump", "decoded px/s", None, "optical flow at multiples of the window, minus beside"),
    )  # fmt: skip

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        luma = clip.observed(mean_rgb) @ np.array(LUMA) * 255
        steps = {
            "brightness": np.abs(np.diff(luma, prepend=np.nan)),
            "flow": clip.observed(FlowLength)[:, 0],
        }
        chunks = clip.info.chunks
        kinds = (
            ("chunk", chunk_joints(chunks, clip.frames), chunks.temporal_stride),
            ("window", window_joints(chunks, clip.frames), chunks.frames_of(chunks.chunk_frames)),
        )
        return {
            f"{kind}_{what}_jump": window_mean(excess(of, joints, apart), windows)
            for kind, joints, apart in kinds
            for what, of in steps.items()
        }
