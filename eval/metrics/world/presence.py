"""Tiny world: whether the sprite that the caption names is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.sprites import HUES
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.sprite import TinySprite, hue_error

HUE_BOUND = 0.5 / len(HUES)  # turns: half-way to the next colour of the vocabulary


@dataclass(frozen=True)
class Presence(WindowMetric):
    """Share of frames with a sprite of plausible area whose hue is nearer to the caption's than to any other colour."""

    name: ClassVar[str] = "presence"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (TinySprite,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("presence", "share of frames", True, "a sprite of the caption's colour is there", share=True),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        error = hue_error(clip)  # NaN without a sprite, which compares as False
        return {"presence": window_mean((error <= HUE_BOUND).astype(np.float64), windows)}
