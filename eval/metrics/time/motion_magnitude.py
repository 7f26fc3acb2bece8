"""How much moves, whichever way: dense optical flow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.measure.metric import ClipInfo, Value
from eval.measure.watch import Clip, Frame, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean

FASTEST = 0.05  # share of the pixels, as VBench's dynamic degree has it
SHORT_SIDE = (64, 192)  # work pixels: smaller decoded frames are enlarged (bicubic), larger ones reduced (area)
FARTHEST = 1 / 8  # of the short side in one frame: what moves farther is not found any more
UNEXPLAINED = 0.4  # of what unrelated pictures differ by; followed motion leaves up to .3, lost motion .5 and more
NOISE = 4.0  # grey levels: so small a difference is no motion that was lost
FOLLOWED = 0.5  # share of a window's pairs that must have been followed


class FlowLength:
    """Length of the optical flow from the frame before, decoded pixels a second: mean, and mean of the fastest 5 %; and
    whether it was followed, 1 or 0.

    [3] per frame, NaN for the first. Not followed: the mean is beyond FARTHEST, or the earlier frame moved along the flow
    is not the later one (root mean square difference, over the root mean square difference of unrelated pictures of its
    contrast). A length that was not followed is too small.
    """

    def __init__(self, info: ClipInfo) -> None:
        short = min(info.height, info.width) // info.pixel_scale
        self._factor = min(max(short, SHORT_SIDE[0]), SHORT_SIDE[1]) / short
        self._farthest = FARTHEST * short * self._factor
        self._fps = info.fps
        self._previous: NDArray[np.uint8] | None = None

    def __call__(self, frame: Frame) -> FloatArray:
        previous, image = self._previous, work_image(frame.luma, self._factor)
        self._previous = image
        if previous is None:
            return np.full(3, math.nan)
        flow = np.empty((*image.shape, 2), np.float32)
        flow = np.asarray(cv2.calcOpticalFlowFarneback(previous, image, flow, 0.5, 3, 15, 3, 5, 1.2, 0))
        lengths = np.sqrt((flow**2).sum(2)).ravel()
        slower = lengths.size - max(1, round(FASTEST * lengths.size))
        fastest = np.partition(lengths, slower)[slower:]
        followed = lengths.mean() <= self._farthest and explains(flow, previous, image)
        return np.array([*(np.array([lengths.mean(), fastest.mean()]) / self._factor * self._fps), float(followed)])


def explains(flow: NDArray[np.float32], previous: NDArray[np.uint8], image: NDArray[np.uint8]) -> bool:
    """Whether the later picture [h, w] is the earlier one moved along the flow [h, w, 2], where that ends inside it."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + flow[..., 0], y + flow[..., 1]
    there = cv2.remap(image.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if not inside.any():
        return False
    left = math.sqrt(float(((there - previous)[inside] ** 2).mean()))
    return left <= max(NOISE, UNEXPLAINED * math.sqrt(2) * float(previous.std()))


def work_image(luma: NDArray[np.float32], factor: float) -> NDArray[np.uint8]:
    """Luma 0..255 [h, w], resized by `factor` and rounded to 8 bits, which is what OpenCV's flow takes."""
    if factor != 1:
        size = (round(luma.shape[1] * factor), round(luma.shape[0] * factor))
        luma = np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA))
    return luma.round().clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class MotionMagnitude(WindowMetric):
    """Mean length of Farneback's optical flow over all pixels, in decoded pixels a second.

    Every pair of neighbouring frames counts in the window of its later frame. Luma is taken in decoded pixels and
    resized smoothly to a short side of 64..192 px, so neither block edges of enlarged pixels nor large frames matter.

    Valid for motion of up to about an eighth of the short side from frame to frame (32 px/s for 16 px at 16 frames a second,
    960 px/s for 480 px). There it reads .8 to 1 of the true speed where the picture has texture, less where it has none,
    because flat places have no flow. Beyond, the flow loses what it should follow and reads less and less (.58 at twice
    that): such pairs are told by what the flow leaves unexplained (FlowLength), and a window is NaN where more than half of
    its pairs are. A single cut among pairs that were followed counts with the length that was found.

    Jitter counts as motion: read it beside signed progress where there is one (Farneback, SCIA 2003; OpenCV, 3 levels
    of a half, window 15, 3 iterations, polynomial of 5 pixels and sigma 1.2).
    """

    name: ClassVar[str] = "motion_magnitude"
    version: ClassVar[int] = 2
    observes: ClassVar[tuple[Observation, ...]] = (FlowLength,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("motion_magnitude", "decoded px/s", None, "mean length of the optical flow"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        lengths = window_mean(clip.observed(FlowLength), windows)
        return {"motion_magnitude": np.where(lengths[:, 2] >= FOLLOWED, lengths[:, 0], math.nan)}
