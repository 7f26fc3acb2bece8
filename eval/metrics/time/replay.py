"""Whether late frames copy early ones: the roll-back that frame differences and drift scores do not see."""

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

EARLY_SECONDS = 2.5
LATE_SECONDS = 5.0  # frames before this are near the early ones merely because they follow them
THRESHOLD = 0.02  # root mean square error, of a range of 1: about 5 grey levels
SHORT_SIDE = 32  # frames are compared after area averaging to at most this many pixels


class NearestEarly:
    """Least root mean square difference (0..1) of each frame from those of the first 2.5 s; NaN before 5 s.

    Frames are area-averaged to a short side of at most SHORT_SIDE decoded pixels. Only the early ones are kept, so memory
    does not grow with a video's length.
    """

    def __init__(self, info: ClipInfo) -> None:
        factor = min(1.0, SHORT_SIDE * info.pixel_scale / min(info.height, info.width)) / info.pixel_scale
        self._size = (max(1, round(info.width * factor)), max(1, round(info.height * factor)))
        self._early, self._late = max(1, round(EARLY_SECONDS * info.fps)), round(LATE_SECONDS * info.fps)
        self._small: list[NDArray[np.uint8]] = []  # the early frames, until the first late one makes a matrix of them
        self._matrix, self._squares = np.zeros((0, 0)), np.zeros(0)
        self._seen = 0

    def __call__(self, frame: Frame) -> float:
        index, self._seen = self._seen, self._seen + 1
        if self._early <= index < self._late:
            return math.nan
        # Area averaging of bytes rounds to a grey level, which is a tenth of the threshold.
        small = np.asarray(cv2.resize(frame.rgb, self._size, interpolation=cv2.INTER_AREA), np.uint8).reshape(-1)
        if index < self._early:
            self._small.append(small)
        if index < self._late:
            return math.nan
        if self._small:
            self._matrix = np.stack(self._small).astype(np.float64) / 255
            self._squares = (self._matrix**2).sum(1)
            self._small = []
        point = small.astype(np.float64) / 255
        squared = (point**2).sum() - 2 * self._matrix @ point + self._squares
        return float(np.sqrt(max(squared.min(), 0) / len(point)))


@dataclass(frozen=True)
class Replay(WindowMetric):
    """d(t) = least root mean square RGB difference (0..1) of frame t from any frame of the first 2.5 s.

    replay_distance is the mean of d over a window's frames, replay the share of them with d <= 0.02. Only frames from
    5 s on count; windows before that are NaN. Frames are compared in decoded pixels, area-averaged to a short side of
    at most 32. A frozen video replays itself (1), colour drift hides a replay, and true periodic motion replays
    honestly: a real video that turns once in 5 s scores a half. So read it beside the real video's value.
    """

    name: ClassVar[str] = "replay"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (NearestEarly,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("replay", "share of frames", None, "late frames that nearly copy a frame of the first 2.5 s", share=True),
        Value("replay_distance", "RMS, 0..1", None, "difference of late frames from the nearest of the first 2.5 s"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        distance = clip.observed(NearestEarly)
        near = np.where(np.isnan(distance), np.nan, (distance <= THRESHOLD).astype(np.float64))
        return {"replay": window_mean(near, windows), "replay_distance": window_mean(distance, windows)}
