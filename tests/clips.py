"""A clip from frames in memory, as if a file with them had been watched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.metric import Clip, Metric, Video
from eval.metrics import WEIGHT_FREE
from eval.watch import Watch


def clip_of(
    frames: NDArray[np.uint8],
    fps: float = 16,
    prompt: str = "",
    pixel_scale: int = 1,
    world: str | None = None,
    metrics: Iterable[Metric] = WEIGHT_FREE,
    cuts: Sequence[int] = (),
) -> Clip:
    """uint8 [N, H, W, 3]. cuts: where one batch ends and the next begins."""
    watch = Watch(Video(frames.shape[1], frames.shape[2], fps, prompt, pixel_scale, world), metrics)
    for batch in np.split(frames, cuts):
        watch.add(batch)
    return watch.finish()
