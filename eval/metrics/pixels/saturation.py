"""How saturated the picture is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2

from eval.measure.metric import ClipInfo, Value
from eval.measure.watch import Clip, Frame, Look, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean


def mean_saturation(info: ClipInfo) -> Look:
    """0..1 per frame."""

    def look(frame: Frame) -> float:
        return float(cv2.mean(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2HSV))[1] / 255)

    return look


@dataclass(frozen=True)
class Saturation(WindowMetric):
    """Mean over pixels of HSV saturation, (max - min) / max over R, G, B; black counts as 0 (OpenCV, 8 bit).

    There is no published standard; oversaturation is how Deep Forcing (arXiv 2512.05081) describes drift.
    """

    name: ClassVar[str] = "saturation"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (mean_saturation,)
    values: ClassVar[tuple[Value, ...]] = (Value("saturation", "0..1", None, "mean HSV saturation"),)

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {"saturation": window_mean(clip.observed(mean_saturation), windows)}
