"""A clip from frames in memory, as if a file with them had been watched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.measure.metric import ClipInfo
from eval.measure.watch import Clip, Watch, WindowMetric
from eval.metrics import WEIGHT_FREE


def watch_of(info: ClipInfo, metrics: Iterable[WindowMetric] = WEIGHT_FREE) -> Watch:
    """What watches a video for some metrics."""
    return Watch(info, [observation for metric in metrics for observation in metric.observes])


def clip_of(
    frames: NDArray[np.uint8],
    fps: float = 16,
    prompt: str = "",
    pixel_scale: int = 1,
    world: str | None = None,
    metrics: Iterable[WindowMetric] = WEIGHT_FREE,
    cuts: Sequence[int] = (),
) -> Clip:
    """uint8 [N, H, W, 3]. cuts: where one batch ends and the next begins."""
    watch = watch_of(ClipInfo(len(frames), fps, frames.shape[1], frames.shape[2], prompt, pixel_scale, world), metrics)
    for batch in np.split(frames, cuts):
        watch.add(batch)
    return watch.finish()
