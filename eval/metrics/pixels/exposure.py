"""How bright the picture is, and how far that has moved since the first window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.pixels.colour import LUMA, mean_rgb


@dataclass(frozen=True)
class Exposure(WindowMetric):
    """Mean luma (BT.601 weights of gamma-encoded RGB), and its absolute distance from the first window's.

    There is no published standard; Self-Forcing++ (arXiv 2510.02283) names over-exposure as what VBench fails to punish.
    """

    name: ClassVar[str] = "exposure"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (mean_rgb,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("luma", "0..1", None, "mean brightness"),
        Value("exposure_drift", "0..1", False, "distance of the mean brightness from the first window's"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        luma = window_mean(clip.observed(mean_rgb), windows) @ np.array(LUMA)
        return {"luma": luma, "exposure_drift": np.abs(luma - luma[:1])}
