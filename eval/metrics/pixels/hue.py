"""How much of the first frame's distribution of hues is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from eval.measure.metric import ClipInfo, Value
from eval.measure.watch import Clip, Frame, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean

BINS = 180  # OpenCV's 8-bit hues, two degrees each


class HuesLikeFirst:
    """100 (1 - half the L1 distance of the frame's hue histogram from the first frame's), shares of pixels, per frame."""

    def __init__(self, info: ClipInfo) -> None:
        self._first: FloatArray | None = None

    def __call__(self, frame: Frame) -> float:
        hues = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2HSV)
        counts = cv2.calcHist([hues], [0], None, [BINS], [0, BINS]).ravel().astype(np.float64)
        shares = counts / counts.sum()
        if self._first is None:
            self._first = shares
        return float(100 * (1 - np.abs(shares - self._first).sum() / 2))


@dataclass(frozen=True)
class Hue(WindowMetric):
    """100 (1 - half the L1 distance of two 180-bin hue histograms): 100 the same hues, 0 none in common.

    hue_similarity: of each frame with the first, mean over a window. hue_similarity_last: of the last frame with the
    first, one number a video: the form in which ID-Forcing reports hue drift (2610.03120, by
    description). Every pixel counts alike, so hues of dark and pale pixels, which are mostly noise, do as well; grey is
    hue 0, as in OpenCV. Where on the picture a hue is plays no part.
    """

    name: ClassVar[str] = "hue"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (HuesLikeFirst,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("hue_similarity", "0..100", True, "hues in common with the first frame"),
        Value(
            "hue_similarity_last", "0..100", True, "hues that the last frame has in common with the first", whole=True
        ),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        alike = clip.observed(HuesLikeFirst)
        return {"hue_similarity": window_mean(alike, windows), "hue_similarity_last": alike[-1:]}
