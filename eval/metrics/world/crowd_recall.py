"""Crowd: leave and return. Whether a subject comes back as the one that left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.crowd import NAME
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.crowd_presence import both
from eval.metrics.world.subjects import CrowdSubjects, find_subjects, truth
from eval.metrics.world.visits import visit_colours


@dataclass(frozen=True)
class CrowdRecall(WindowMetric):
    """RGB distance between a subject's mean colour in a visit and in the one before: what a single absence loses.

    A window has the mean over the moments of its visits. NaN in the first visit, and where either of the two was hardly seen:
    read it beside on_time, which says whether the subject came back at all. Two draws of one named colour are .23 apart on
    average.
    """

    name: ClassVar[str] = "crowd_recall"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = NAME
    observes: ClassVar[tuple[Observation, ...]] = (CrowdSubjects,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("recall_error", "RGB distance", False, "distance of a returning subject's colour from the one that left"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        found, expected = find_subjects(clip), truth(clip.info.caption, clip.frames)
        colours = visit_colours(found, expected)
        lost = np.full(colours.shape[:2], np.nan)
        lost[1:] = np.sqrt(((colours[1:] - colours[:-1]) ** 2).sum(-1))
        per_moment = np.take_along_axis(lost, expected.visit, 0)
        return {"recall_error": window_mean(per_moment.reshape(-1), both(windows))}
