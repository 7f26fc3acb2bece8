"""Crowd: whether the subjects remain who they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.crowd import NAME, parse_caption
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.crowd_presence import both
from eval.metrics.world.subjects import CrowdSubjects, find_subjects, truth
from eval.metrics.world.visits import visit_colours


@dataclass(frozen=True)
class CrowdIdentity(WindowMetric):
    """Over the moments at which a subject is wholly in view, wherever it is: its colour and its shape.

    identity_drift: RGB distance from its own mean colour in its first visit, that is before anything was forgotten. The
    caption gives the colour only roughly: two draws of one name are .23 apart on average, so that is what forgetting all but
    the caption costs. subject_shape: share in which the named shape fits best.
    """

    name: ClassVar[str] = "crowd_identity"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = NAME
    observes: ClassVar[tuple[Observation, ...]] = (CrowdSubjects,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("identity_drift", "RGB distance", False, "distance of the subjects' colours from their first visit's"),
        Value("subject_shape", "share of moments", True, "a subject is recognised as the caption's shape", share=True),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        found, expected = find_subjects(clip), truth(clip.info.caption, clip.frames)
        drift = np.sqrt(((found.rgb - visit_colours(found, expected)[0]) ** 2).sum(-1))
        classes = parse_caption(clip.info.caption)
        wanted = found.match[:, [0, 1], [classes[0], classes[2]]]
        right = np.where(np.isnan(wanted), np.nan, wanted >= found.match.max(-1))
        return {
            "identity_drift": window_mean(drift.reshape(-1), both(windows)),
            "subject_shape": window_mean(right.reshape(-1), both(windows)),
        }
