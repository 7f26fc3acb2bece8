"""Pan: whether landmarks are what the caption says, and remain what they were as long as they are in view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from deepforcing.tiny.pan import LANDMARKS, NAME, parse_caption
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.landscape import PanLandscape, find_landscape
from eval.metrics.world.strip import first_colours, numbers


@dataclass(frozen=True)
class PanLandmarks(WindowMetric):
    """Over the places in view at which a landmark ought to be: is one there, does it stay, is it the caption's.

    landmarks: share of the places whose colour is one of the world's. landmark_kept: of those, the share whose colour is
    the one that this landmark had when it was first wholly in view. landmark_shape: of those, the share that the named kind
    and height fit best. The last two are NaN where there are none.
    """

    name: ClassVar[str] = "pan_landmarks"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = NAME
    observes: ClassVar[tuple[Observation, ...]] = (PanLandscape,)
    values: ClassVar[tuple[Value, ...]] = (
        Value(
            "landmarks", "share of places", True, "a landmark of a clear colour is where one ought to be", share=True
        ),
        Value("landmark_kept", "share of places", True, "a landmark keeps the colour that it came with", share=True),
        Value("landmark_shape", "share of places", True, "a landmark is recognised as the caption's", share=True),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        found = find_landscape(clip)
        there = found.colour >= 0
        classes = parse_caption(clip.info.caption)
        right = found.kind == classes[0] * len(LANDMARKS) + classes[1]
        number = numbers(found)
        first = first_colours(found)
        came_with = np.vectorize(first.get, otypes=[np.int64])(number, -1)
        return {
            "landmarks": window_mean(there.mean(1), windows),
            "landmark_kept": mean_of(found.colour == came_with, there & (came_with >= 0), windows),
            "landmark_shape": mean_of(right, there, windows),
        }


def mean_of(per_place: NDArray[np.bool_], counted: NDArray[np.bool_], windows: Sequence[Window]) -> FloatArray:
    """Mean [W] of what is said of each place [N, K] over the places that count."""
    return np.array(
        [
            per_place[w.start : w.end][counted[w.start : w.end]].mean() if counted[w.start : w.end].any() else np.nan
            for w in windows
        ]
    )
