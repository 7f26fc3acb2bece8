"""Tiny world: how far the sprite gets around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.world import PERIOD
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window
from eval.metrics.world.sprite import TinySprite, find_sprite


@dataclass(frozen=True)
class Cover(WindowMetric):
    """Radius of gyration of the sprite's centres over the last whole turn's time (80 frames) before a window's end.

    Real videos give the ring's radius, 4.2 px; a stuck sprite gives 0. NaN before one turn's time has passed, and where
    fewer than half of those frames have a sprite.
    """

    name: ClassVar[str] = "cover"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (TinySprite,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("cover", "decoded px", None, "radius of gyration of the sprite's places over one turn's time"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        sprite = find_sprite(clip)
        places = np.stack([sprite.x, sprite.y], -1)
        radii = np.full(len(windows), np.nan)
        for index, window in enumerate(windows):
            if window.end < PERIOD:
                continue
            turn = places[window.end - PERIOD : window.end]
            turn = turn[~np.isnan(turn[:, 0])]
            if 2 * len(turn) >= PERIOD:
                radii[index] = np.sqrt(((turn - turn.mean(0)) ** 2).sum(1).mean())
        return {"cover": radii}
