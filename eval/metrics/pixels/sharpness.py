"""How much fine detail (or noise) the picture has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2

from eval.measure.metric import ClipInfo, Value
from eval.measure.watch import Clip, Frame, Look, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean


def laplacian_variance(info: ClipInfo) -> Look:
    """Grey levels squared per frame."""

    def look(frame: Frame) -> float:
        return float(cv2.Laplacian(frame.luma, cv2.CV_32F, ksize=1).var())

    return look


@dataclass(frozen=True)
class Sharpness(WindowMetric):
    """Variance of the Laplacian (4-neighbour kernel, reflected border) of the luma in decoded pixels; mean over frames.

    Blur lowers it and noise raises it, so neither direction is better (Pech-Pacheco et al., ICPR 2000).
    """

    name: ClassVar[str] = "sharpness"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (laplacian_variance,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("sharpness", "grey levels squared", None, "variance of the Laplacian of the luma (0..255)"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {"sharpness": window_mean(clip.observed(laplacian_variance), windows)}
