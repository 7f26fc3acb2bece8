"""Whether a video that moves at its beginning still moves at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import ROUNDING, FloatArray, Window
from eval.metrics.time.motion_magnitude import FlowLength

SECONDS = 5.0  # of the beginning and of the end
FAST = 8 * 6 / 256  # short sides a second: VBench's 6 of 256 pixels between frames an eighth of a second apart
SHARE = 0.25  # of the frames, as VBench asks of its pairs


def moves(fastest: FloatArray, short_side: int) -> bool:
    """Whether enough frames are fast. fastest: per frame, decoded pixels a second; NaN, without a frame before, is not."""
    known = fastest[~np.isnan(fastest)]
    return bool(known.size) and float((known > FAST * short_side).mean()) >= SHARE


@dataclass(frozen=True)
class MotionKept(WindowMetric):
    """1 if a video that moves in its first 5 s moves in its last 5 s too, 0 if not; a run's mean is a share of videos.

    A stretch moves if in a quarter of its frames the fastest 5 % of the optical flow are longer than .1875 short sides a
    second on average: VBench's rule for its dynamic degree (16 pairs and 6 of 256 pixels, vbench 0.1.5), with Farneback's
    flow between neighbouring frames where VBench has RAFT's. One number a video, in its last window. NaN for a video that
    does not move at first, which has no motion to keep, and for those shorter than 10 s. Jitter is motion too.
    """

    name: ClassVar[str] = "motion_kept"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (FlowLength,)
    values: ClassVar[tuple[Value, ...]] = (
        Value(
            "motion_kept",
            "0 or 1",
            True,
            "a video that moves in its first 5 s still moves in its last",
            share=True,
            whole=True,
        ),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        fastest, info = clip.observed(FlowLength)[:, 1], clip.info
        short = min(info.height, info.width) // info.pixel_scale
        ends = round(SECONDS * info.fps)
        kept = math.nan
        if clip.frames / info.fps >= 2 * SECONDS - ROUNDING and moves(fastest[:ends], short):
            kept = float(moves(fastest[-ends:], short))
        return {"motion_kept": np.array([kept])}
