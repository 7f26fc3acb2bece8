"""Tiny world: whether the background keeps its texture, which no caption names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window
from eval.metrics.world.background import background_pictures, mean_over_pixels, shared
from eval.metrics.world.sprite import TinySprite

MIN_CONTRAST = 0.002  # standard deviation, half a grey level: a flatter picture has no texture to compare


@dataclass(frozen=True)
class BackgroundTexture(WindowMetric):
    """Pearson correlation of a window's mean background with the first window's, each channel's mean taken out.

    Over the pixels that are background in both windows. 1 in the first window by construction, 0 if unrelated.
    """

    name: ClassVar[str] = "background_texture"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (TinySprite,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("texture", "correlation", True, "correlation of the background's texture with the first window's"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        found = np.full(len(windows), np.nan)
        first = None
        for index, picture in enumerate(background_pictures(clip, windows)):
            first = picture if first is None else first
            now, before = (part - mean_over_pixels(part) for part in shared(picture, first))
            both, own, reference = (float(mean_over_pixels(part).mean()) for part in (now * before, now**2, before**2))
            if min(own, reference) >= MIN_CONTRAST**2:
                found[index] = both / math.sqrt(own * reference)
        return {"texture": found}
