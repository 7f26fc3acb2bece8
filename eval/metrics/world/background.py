"""The embedded world's background, seen past the sprite: one picture per window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from deepforcing.tiny.world import SIZE
from eval.measure.watch import Clip
from eval.measure.windows import FloatArray, Window
from eval.metrics.world.sprite import find_sprite

MIN_PIXELS = SIZE * SIZE // 8  # fewer common background pixels than this are not compared


def background_pictures(clip: Clip, windows: Sequence[Window]) -> Iterator[FloatArray]:
    """Of each window, the mean of each pixel over the frames in which it is background, [SIZE * SIZE, 3] in 0..1.

    NaN for a pixel that never is. They come one after the other, so that a long video takes no more memory.
    """
    sprite, grain = find_sprite(clip), clip.info.grain
    for window in windows:
        part = slice(window.start // grain, -(-window.end // grain))
        times = sprite.times[part].sum(0).reshape(-1, 1)
        total = sprite.background[part].sum(0).reshape(-1, 3)
        yield np.divide(total, times * sprite.white, out=np.full(total.shape, np.nan), where=times > 0)


def shared(picture: FloatArray, first: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A picture and the first one [P, 3] with only the pixels kept that both know.

    The texture differs from place to place, so comparing the same pixels keeps the sprite's place out of the result.
    All NaN if they share too few.
    """
    both = ~np.isnan(picture[:, :1]) & ~np.isnan(first[:, :1])
    if both.sum() < MIN_PIXELS:
        both[:] = False
    return np.where(both, picture, np.nan), np.where(both, first, np.nan)


def mean_over_pixels(picture: FloatArray) -> FloatArray:
    """Mean over the known pixels, [P, 3] -> [3]; NaN where none is known."""
    known = ~np.isnan(picture)
    count = known.sum(0)
    total = np.where(known, picture, 0.0).sum(0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
