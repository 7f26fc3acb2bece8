"""Tiny world: whether the sprite has the shape that the caption names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from deepforcing.tiny.world import SHAPES, parse_caption, pixel_grid, shape_mask
from eval.metric import Clip, FloatArray, Observation, Value, Window, window_mean
from eval.sprite import Sprite, find_sprite, tiny_frames

REACH = 5.0  # pixels from the sprite's centre that are compared


def shape_correlations(sprite: Sprite) -> FloatArray:
    """Pearson correlation of the coverage with each shape drawn at its centre, [N, 3]; NaN without a sprite."""
    x, y = pixel_grid()
    dx = x - torch.from_numpy(np.asarray(sprite.x, dtype=np.float32))[:, None, None]
    dy = y - torch.from_numpy(np.asarray(sprite.y, dtype=np.float32))[:, None, None]
    near = ((dx**2 + dy**2).sqrt() <= REACH).numpy()
    count = np.maximum(near.sum((1, 2)), 1)

    def centred(picture: FloatArray) -> FloatArray:
        mean = np.where(near, picture, 0).sum((1, 2)) / count
        return np.where(near, picture - mean[:, None, None], 0)

    found = centred(sprite.coverage)
    columns = []
    for shape in range(len(SHAPES)):
        drawn = centred(shape_mask(shape, dx, dy).numpy())
        norm = np.sqrt((found**2).sum((1, 2)) * (drawn**2).sum((1, 2)))
        columns.append(np.divide((found * drawn).sum((1, 2)), norm, out=np.full(len(norm), np.nan), where=norm > 0))
    return np.where(sprite.seen[:, None], np.stack(columns, -1), np.nan)


@dataclass(frozen=True)
class Shape:
    """Which of the world's shapes the sprite's coverage correlates with best, over frames with a sprite of any colour.

    A featureless blob is nearest to the disc, so prompts with discs flatter a model that draws blobs: shape_match, the
    correlation with the caption's shape itself, stands beside the share of frames recognised.
    """

    name: ClassVar[str] = "shape"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (tiny_frames,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("shape", "share of frames", True, "the sprite is recognised as the caption's shape", share=True),
        Value("shape_match", "correlation", True, "correlation of the sprite with the caption's shape"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        wanted = parse_caption(clip.video.prompt)[0]
        match = shape_correlations(find_sprite(clip))
        right = match[:, wanted] >= match.max(1)
        known = ~np.isnan(match[:, wanted])
        return {
            "shape": window_mean(np.where(known, right.astype(np.float64), np.nan), windows),
            "shape_match": window_mean(match[:, wanted], windows),
        }
