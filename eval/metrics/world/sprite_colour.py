"""Tiny world: whether the sprite keeps its colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, distance_from_first, window_mean
from eval.metrics.world.sprite import TinySprite, find_sprite, hue_error


@dataclass(frozen=True)
class SpriteColour(WindowMetric):
    """Over the frames with a sprite of any colour: distance of its mean RGB from the first window's, and hue error.

    The caption names the hue to within 14 degrees (the world jitters it), so a real video's hue error is not 0.
    """

    name: ClassVar[str] = "sprite_colour"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (TinySprite,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("sprite_drift", "RGB distance", False, "distance of the sprite's colour from the first window's"),
        Value("sprite_hue_error", "degrees", False, "distance of the sprite's hue from the caption's"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {
            "sprite_drift": distance_from_first(window_mean(find_sprite(clip).rgb, windows)),
            "sprite_hue_error": 360 * window_mean(hue_error(clip), windows),
        }
