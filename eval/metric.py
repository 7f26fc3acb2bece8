"""The earlier name of eval.measure: what a metric is, and windows."""

from __future__ import annotations

from eval.measure.metric import SELF_FORCING, Chunks, Value, applies
from eval.measure.watch import Clip, Frame, Look, Observation
from eval.measure.watch import WindowMetric as Metric
from eval.measure.windows import (
    ROUNDING,
    FloatArray,
    Window,
    distance_from_first,
    grain,
    overlap,
    window_mean,
    windows,
)
from eval.metrics.pixels.colour import LUMA

__all__ = [
    "LUMA", "ROUNDING", "SELF_FORCING", "Chunks", "Clip", "FloatArray", "Frame", "Look", "Metric", "Observation", "Value",
    "Window", "applies", "distance_from_first", "grain", "overlap", "window_mean", "windows",
]  # fmt: skip
