"""Crowd: how far the subjects are from where they ought to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.crowd import LOOP, NAME
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.crowd_presence import both
from eval.metrics.world.subjects import CrowdSubjects, find_subjects, truth


@dataclass(frozen=True)
class CrowdPlace(WindowMetric):
    """Mean distance of subjects that are wholly in view from their places along the lane, the short way round the loop.

    0 in real video; a subject at a random place of its loop would be LOOP / 4 = 15 px off. NaN in windows in which none is
    seen whole.
    """

    name: ClassVar[str] = "crowd_place"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = NAME
    observes: ClassVar[tuple[Observation, ...]] = (CrowdSubjects,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("place_error", "decoded px", False, "distance of the subjects in view from where they ought to be"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        found, expected = find_subjects(clip), truth(clip.info.caption, clip.frames)
        error = np.abs((found.x - expected.x + LOOP / 2) % LOOP - LOOP / 2)
        return {"place_error": window_mean(error.reshape(-1), both(windows))}
