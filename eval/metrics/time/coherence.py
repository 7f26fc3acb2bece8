"""How alike two frames are, by how far apart in time they are."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.measure.metric import ClipInfo, Value
from eval.measure.watch import Clip, Frame, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean

DISTANCES = (0.5, 2.0, 8.0, 32.0)  # seconds
SHORT_SIDE = 16  # frames are compared after area averaging to at most this many pixels
MIN_CONTRAST = 1.0  # standard deviation in grey levels: a flatter picture has nothing to compare


class Likeness:
    """Correlation of a frame with those DISTANCES before it, [K]; NaN before the video has any, or for flat pictures.

    The last 32 s are kept as small pictures, so memory does not depend on the video's length.
    """

    def __init__(self, info: ClipInfo) -> None:
        factor = min(1.0, SHORT_SIDE * info.pixel_scale / min(info.height, info.width)) / info.pixel_scale
        self._size = (max(1, round(info.width * factor)), max(1, round(info.height * factor)))
        self._apart = [max(1, round(seconds * info.fps)) for seconds in DISTANCES]
        self._past: deque[NDArray[np.float32] | None] = deque(maxlen=max(self._apart))  # None: flat

    def __call__(self, frame: Frame) -> FloatArray:
        small = cv2.resize(frame.rgb, self._size, interpolation=cv2.INTER_AREA).astype(np.float32)
        small -= small.mean((0, 1))
        length = math.sqrt(float((small**2).sum()))
        now = small.ravel() / length if length >= MIN_CONTRAST * math.sqrt(small.size) else None
        found = [self._with(now, apart) for apart in self._apart]
        self._past.append(now)
        return np.array(found)

    def _with(self, now: NDArray[np.float32] | None, apart: int) -> float:
        then = self._past[-apart] if len(self._past) >= apart else None
        return math.nan if now is None or then is None else float(now @ then)


@dataclass(frozen=True)
class Coherence(WindowMetric):
    """Pearson correlation of frame t with frame t - dt, for dt of 0.5, 2, 8 and 32 s; over dt the means are a curve.

    Of RGB area-averaged to a short side of at most 16 decoded pixels, each channel's mean taken out, so that a change of
    brightness or tint is none. A pair counts in the window of its later frame. 1 for a still, about 0 for unrelated
    pictures; a curve that falls early and a real video's that does not are told apart (asked for in VBench's issue 206,
    there with DINO features, which see content where this sees layout). NaN where no pair of a window has texture.
    """

    name: ClassVar[str] = "coherence"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (Likeness,)
    values: ClassVar[tuple[Value, ...]] = tuple(
        Value(f"coherence_{seconds:g}s", "correlation", None, f"correlation of frames {seconds:g} s apart")
        for seconds in DISTANCES
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        alike = window_mean(clip.observed(Likeness), windows)
        return {value.name: alike[:, i] for i, value in enumerate(self.values)}
