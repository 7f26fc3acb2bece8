"""The embedded world's background, seen past the sprite: one picture per window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepforcing.tiny.world import SIZE
from eval.metric import Clip, FloatArray, Window, window_mean
from eval.sprite import find_sprite, tiny_frames

MIN_PIXELS = SIZE * SIZE // 8  # fewer common background pixels than this are not compared


def background_pictures(clip: Clip, windows: Sequence[Window]) -> FloatArray:
    """Mean of each pixel over the frames in which it is background, [W, SIZE * SIZE, 3] in 0..1; NaN if it never is."""
    seen = np.where(find_sprite(clip).background[..., None], clip.observed(tiny_frames), np.nan)
    return window_mean(seen.reshape(len(seen), -1), windows).reshape(len(windows), -1, 3)


def shared_with_first(pictures: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Each picture and the first one with only the pixels kept that both know: two arrays [W, SIZE * SIZE, 3].

    The texture differs from place to place, so comparing the same pixels keeps the sprite's place out of the result.
    A window that shares too few pixels with the first is all NaN.
    """
    known = ~np.isnan(pictures[..., 0])
    both = known & known[:1]
    both &= both.sum(1, keepdims=True) >= MIN_PIXELS
    keep = both[..., None]
    return np.where(keep, pictures, np.nan), np.where(keep, pictures[:1], np.nan)


def mean_over_pixels(pictures: FloatArray) -> FloatArray:
    """Mean over the known pixels, [W, P, 3] -> [W, 3]; NaN where none is known."""
    known = ~np.isnan(pictures)
    count = known.sum(1)
    total = np.where(known, pictures, 0.0).sum(1)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
