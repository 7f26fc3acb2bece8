"""How far the mean colour of the picture has moved since the first window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, distance_from_first, window_mean
from eval.metrics.pixels.colour import mean_rgb, srgb_to_lab


@dataclass(frozen=True)
class ColourDrift(WindowMetric):
    """CIE 1976 colour difference between a window's mean colour and the first window's (0 there by construction).

    The mean is taken over pixels and frames in gamma-encoded RGB and then turned into CIELAB: one colour for the whole
    picture, so it cannot see what leaves its mean as it was, such as two halves that are exchanged or saturation that rises
    here and falls there; cell_colour_drift can. Our measure: the published ones compare histograms (LongVideoEvalKit).
    """

    name: ClassVar[str] = "colour_drift"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (mean_rgb,)
    values: ClassVar[tuple[Value, ...]] = (
        Value(
            "colour_drift",
            "mean colour, Delta E 1976",
            False,
            "CIELAB distance of the mean colour from the first window's",
        ),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {"colour_drift": distance_from_first(srgb_to_lab(window_mean(clip.observed(mean_rgb), windows)))}
