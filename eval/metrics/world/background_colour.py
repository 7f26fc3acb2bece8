"""Tiny world: whether the background keeps its colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.world import BACKGROUND_RGB, parse_caption
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window
from eval.metrics.world.background import background_pictures, mean_over_pixels, shared
from eval.metrics.world.sprite import TinySprite


@dataclass(frozen=True)
class BackgroundColour(WindowMetric):
    """Mean background colour with the sprite masked out: RGB distance from the first window and from the caption's.

    The distance from the first window uses the pixels that are background in both. The caption names the colour only
    roughly (the world jitters each channel by up to 0.06), so a real video's distance from it is not 0.
    """

    name: ClassVar[str] = "background_colour"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (TinySprite,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("background_drift", "RGB distance", False, "distance of the background colour from the first window's"),
        Value("background_error", "RGB distance", False, "distance of the background colour from the caption's"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        named = np.array(BACKGROUND_RGB[parse_caption(clip.info.caption)[4]])
        moved, wrong = [], []
        first = None
        for picture in background_pictures(clip, windows):
            first = picture if first is None else first
            now, before = shared(picture, first)
            moved.append(mean_over_pixels(now) - mean_over_pixels(before))
            wrong.append(mean_over_pixels(picture) - named)
        return {
            "background_drift": np.sqrt((np.array(moved) ** 2).sum(1)),
            "background_error": np.sqrt((np.array(wrong) ** 2).sum(1)),
        }
