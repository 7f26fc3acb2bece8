"""How far the mean colour of the picture has moved since the first window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from eval.colour import mean_rgb
from eval.metric import Clip, FloatArray, Observation, Value, Window, distance_from_first, window_mean

# IEC 61966-2-1: linear sRGB to CIE XYZ; rows sum to the D65 white point.
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def srgb_to_lab(rgb: FloatArray) -> FloatArray:
    """Gamma-encoded sRGB in 0..1 -> CIELAB (D65, L in 0..100), [..., 3] (CIE 15:2004)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ XYZ.T / XYZ.sum(1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


@dataclass(frozen=True)
class ColourDrift:
    """CIE 1976 colour difference between a window's mean colour and the first window's (0 there by construction).

    The mean is taken over pixels and frames in gamma-encoded RGB and then turned into CIELAB. Our measure: the published
    ones compare histograms (LongVideoEvalKit), which see changes of content that a mean does not.
    """

    name: ClassVar[str] = "colour_drift"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "video"
    observes: ClassVar[tuple[Observation, ...]] = (mean_rgb,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("colour_drift", "CIELAB Delta E", False, "distance of the mean colour from the first window's"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {"colour_drift": distance_from_first(srgb_to_lab(window_mean(clip.observed(mean_rgb), windows)))}
