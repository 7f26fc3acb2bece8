"""How much moves, whichever way: dense optical flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.metric import Clip, FloatArray, Value, Window, window_mean

SHORT_SIDE = (64, 192)  # work pixels: smaller decoded frames are enlarged (bicubic), larger ones reduced (area)


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
    values: ClassVar[tuple[Value, ...]] = (
        Value("motion_magnitude", "decoded px/s", None, "mean length of the optical flow"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        n, height, width, _ = clip.frames.shape
        short = min(height, width) // clip.pixel_scale
        factor = min(max(short, SHORT_SIDE[0]), SHORT_SIDE[1]) / short
        per_frame = np.full(n, np.nan)
        flow = np.zeros((0, 0, 2), np.float32)
        previous: NDArray[np.uint8] | None = None
        for index in range(n):
            image = work_image(clip.luma(index), factor)
            if previous is not None:
                flow = np.empty((*image.shape, 2), np.float32) if flow.size == 0 else flow
                flow = np.asarray(cv2.calcOpticalFlowFarneback(previous, image, flow, 0.5, 3, 15, 3, 5, 1.2, 0))
                per_frame[index] = np.sqrt((flow**2).sum(2)).mean() / factor * clip.fps
            previous = image
        return {"motion_magnitude": window_mean(per_frame, windows)}


def work_image(luma: NDArray[np.float32], factor: float) -> NDArray[np.uint8]:
    """Luma 0..255 [h, w], resized by `factor` and rounded to 8 bits, which is what OpenCV's flow takes."""
    if factor != 1:
        size = (round(luma.shape[1] * factor), round(luma.shape[0] * factor))
        luma = np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA))
    return luma.round().clip(0, 255).astype(np.uint8)
