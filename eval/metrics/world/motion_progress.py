"""Tiny world: whether the sprite really circles, the way and at the speed that the world does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.sprite import TinySprite, caption_speed, find_sprite


@dataclass(frozen=True)
class MotionProgress(WindowMetric):
    """Mean signed step of the sprite's angle around the middle over the step that the caption prescribes.

    1 is a real video, 0 a stuck or merely jittering sprite, negative runs backwards. A step goes from one frame to the
    next the short way round and counts in the window of its later frame, across chunk boundaries too, so steps add up
    over a video. It is NaN where either frame has no sprite, or has it so near the middle that it has no angle.
    """

    name: ClassVar[str] = "motion_progress"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = "tiny"
    observes: ClassVar[tuple[Observation, ...]] = (TinySprite,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("progress", "of true speed", True, "signed angular progress of the sprite; 1 is right"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        steps = np.diff(find_sprite(clip).angle, prepend=np.nan)
        steps = (steps + np.pi) % (2 * np.pi) - np.pi
        return {"progress": window_mean(steps, windows) / caption_speed(clip.info.caption)}
