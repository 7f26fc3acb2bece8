"""How bright the picture is, and how far that has moved since the first window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from eval.colour import mean_rgb
from eval.metric import LUMA, Clip, FloatArray, Observation, Value, Window, window_mean


@dataclass(frozen=True)
class Exposure:
    """Mean luma (BT.601 weights of gamma-encoded RGB), and its absolute distance from the first window's.

    There is no published standard; Self-Forcing++ (arXiv 2510.02283) names over-exposure as what VBench fails to punish.
    """

    name: ClassVar[str] = "exposure"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "video"
    observes: ClassVar[tuple[Observation, ...]] = (mean_rgb,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("luma", "0..1", None, "mean brightness"),
        Value("exposure_drift", "0..1", False, "distance of the mean brightness from the first window's"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        luma = window_mean(clip.observed(mean_rgb), windows) @ np.array(LUMA)
        return {"luma": luma, "exposure_drift": np.abs(luma - luma[:1])}
