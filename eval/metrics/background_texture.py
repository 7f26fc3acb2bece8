"""Tiny world: whether the background keeps its texture, which no caption names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from eval.background import background_pictures, mean_over_pixels, shared_with_first
from eval.metric import Clip, FloatArray, Observation, Value, Window
from eval.sprite import tiny_frames

MIN_CONTRAST = 0.002  # standard deviation, half a grey level: a flatter picture has no texture to compare


@dataclass(frozen=True)
class BackgroundTexture:
    """Pearson correlation of a window's mean background with the first window's, each channel's mean taken out.

    Over the pixels that are background in both windows. 1 in the first window by construction, 0 if unrelated.
    """

    name: ClassVar[str] = "background_texture"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (tiny_frames,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("texture", "correlation", True, "correlation of the background's texture with the first window's"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        now, first = shared_with_first(background_pictures(clip, windows))
        now = now - mean_over_pixels(now)[:, None]
        first = first - mean_over_pixels(first)[:, None]
        both, own, reference = (mean_over_pixels(part).mean(1) for part in (now * first, now**2, first**2))
        textured = np.minimum(own, reference) >= MIN_CONTRAST**2
        return {"texture": np.where(textured, both / np.sqrt(np.where(textured, own * reference, 1)), np.nan)}
