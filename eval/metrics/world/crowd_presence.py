"""Crowd: whether the subjects are there when they ought to be, and away when they ought to be away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.crowd import NAME
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.subjects import CrowdSubjects, find_subjects, truth

NEAR = 4.0  # pixels, a token: a subject that far from its place, four frames early or late, is on time


@dataclass(frozen=True)
class CrowdPresence(WindowMetric):
    """Whether what the caption lets one expect at each moment is there. Frozen, late and lost subjects all fail.

    on_time: of the moments at which a subject ought to be wholly in view and unhidden, the share at which one of its named
    colour is within a token's width of its place. empty_stage: of the frames in which both ought to be outside, the share with
    nothing coloured in view; NaN in windows without such frames.
    """

    name: ClassVar[str] = "crowd_presence"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = NAME
    observes: ClassVar[tuple[Observation, ...]] = (CrowdSubjects,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("on_time", "share of moments", True, "a subject that ought to be in view is in its place", share=True),
        Value("empty_stage", "share of frames", True, "nothing is in view when both are away", share=True),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        found, expected = find_subjects(clip), truth(clip.info.caption, clip.frames)
        there = np.abs(found.x - expected.x) <= NEAR  # NaN where it is not whole, which compares as False
        on_time = window_mean(np.where(expected.clear, there, np.nan).reshape(-1), both(windows))
        return {
            "on_time": on_time,
            "empty_stage": window_mean(np.where(expected.away, found.empty, np.nan), windows),
        }


def both(windows: Sequence[Window]) -> list[Window]:
    """The windows of numbers [N, 2] laid out flat: subject beside subject."""
    return [Window(2 * w.start, 2 * w.end, w.t_start, w.t_end) for w in windows]
