"""Tiny world: whether the sprite has the shape that the caption names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.world import parse_caption
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.sprite import TinySprite, find_sprite


@dataclass(frozen=True)
class Shape(WindowMetric):
    """Which of the world's shapes the sprite's coverage correlates with best, over frames with a sprite of any colour.

    A featureless blob is nearest to the disc, so prompts with discs flatter a model that draws blobs: shape_match, the
    correlation with the caption's shape itself, stands beside the share of frames recognised. That of a wrong shape is far
    from 0, .64 on average: .67 for disc and ring, .80 for disc and cross, .45 for ring and cross.
    """

    name: ClassVar[str] = "shape"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (TinySprite,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("shape", "share of frames", True, "the sprite is recognised as the caption's shape", share=True),
        Value(
            "shape_match",
            "correlation",
            True,
            "correlation of the sprite with the caption's shape",
            floor="wrong shape .64",
        ),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        wanted = parse_caption(clip.info.caption)[0]
        match = find_sprite(clip).match
        right = match[:, wanted] >= match.max(1)
        known = ~np.isnan(match[:, wanted])
        return {
            "shape": window_mean(np.where(known, right.astype(np.float64), np.nan), windows),
            "shape_match": window_mean(match[:, wanted], windows),
        }
