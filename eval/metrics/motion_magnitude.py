"""How much moves, whichever way: dense optical flow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.metric import Clip, FloatArray, Frame, Observation, Value, Video, Window, window_mean

FASTEST = 0.05  # share of the pixels, as VBench's dynamic degree has it
SHORT_SIDE = (64, 192)  # work pixels: smaller decoded frames are enlarged (bicubic), larger ones reduced (area)


class FlowLength:
    """Length of the optical flow from the frame before, decoded pixels a second: mean, and mean of the fastest 5 %.

    [2] per frame, NaN for the first.
    """

    def __init__(self, video: Video) -> None:
        short = min(video.height, video.width) // video.pixel_scale
        self._factor = min(max(short, SHORT_SIDE[0]), SHORT_SIDE[1]) / short
        self._fps = video.fps
        self._previous: NDArray[np.uint8] | None = None

    def __call__(self, frame: Frame) -> FloatArray:
        previous, image = self._previous, work_image(frame.luma, self._factor)
        self._previous = image
        if previous is None:
            return np.full(2, math.nan)
        flow = np.empty((*image.shape, 2), np.float32)
        flow = np.asarray(cv2.calcOpticalFlowFarneback(previous, image, flow, 0.5, 3, 15, 3, 5, 1.2, 0))
        lengths = np.sqrt((flow**2).sum(2)).ravel()
        slower = lengths.size - max(1, round(FASTEST * lengths.size))
        fastest = np.partition(lengths, slower)[slower:]
        return np.array([lengths.mean(), fastest.mean()], np.float64) / self._factor * self._fps


def work_image(luma: NDArray[np.float32], factor: float) -> NDArray[np.uint8]:
    """Luma 0..255 [h, w], resized by `factor` and rounded to 8 bits, which is what OpenCV's flow takes."""
    if factor != 1:
        size = (round(luma.shape[1] * factor), round(luma.shape[0] * factor))
        luma = np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA))
    return luma.round().clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class MotionMagnitude:
    """Mean length of Farneback's optical flow over all pixels, in decoded pixels a second.

    Every pair of neighbouring frames counts in the window of its later frame. Luma is taken in decoded pixels and
    resized smoothly to a short side of 64..192 px, so neither block edges of enlarged pixels nor large frames matter.
    Jitter counts as motion: read it beside signed progress where there is one (Farneback, SCIA 2003; OpenCV, 3 levels
    of a half, window 15, 3 iterations, polynomial of 5 pixels and sigma 1.2).
    """

    name: ClassVar[str] = "motion_magnitude"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "video"
    observes: ClassVar[tuple[Observation, ...]] = (FlowLength,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("motion_magnitude", "decoded px/s", None, "mean length of the optical flow"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {"motion_magnitude": window_mean(clip.observed(FlowLength)[:, 0], windows)}
