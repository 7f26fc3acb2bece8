"""VBench's temporal flickering: how little a frame differs from the next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.metric import Clip, FloatArray, Frame, Observation, Value, Video, Window


class Change:
    """Mean absolute difference from the frame before over pixels and channels, 0..255 per frame; NaN for the first."""

    def __init__(self, video: Video) -> None:
        self._previous: NDArray[np.uint8] | None = None

    def __call__(self, frame: Frame) -> float:
        previous, self._previous = self._previous, frame.rgb.copy()
        return math.nan if previous is None else float(cv2.norm(previous, frame.rgb, cv2.NORM_L1) / frame.rgb.size)


@dataclass(frozen=True)
class TemporalFlickering:
    """(255 - mean over neighbouring frames, pixels and channels of |f_t - f_(t+1)|) / 255, as VBench computes it.

    A window is scored as VBench scores a clip of just those frames; one window over a whole video is VBench's score of
    it. Frames as they are in the file. Motion lowers it too: it is meant for still scenes (VBench, CVPR 2024).
    """

    name: ClassVar[str] = "temporal_flickering"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "video"
    observes: ClassVar[tuple[Observation, ...]] = (Change,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("temporal_flickering", "0..1", True, "1 - mean absolute difference of neighbouring frames"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        error = clip.observed(Change)[1:]
        means = [error[w.start : w.end - 1].mean() if w.end - w.start > 1 else np.nan for w in windows]
        return {"temporal_flickering": (255 - np.array(means)) / 255}
