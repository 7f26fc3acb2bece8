"""Pan: whether the camera really moves, the way and at the speed that the world's does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from deepforcing.tiny.pan import NAME, SPEED
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, window_mean
from eval.metrics.world.landscape import PanLandscape, find_landscape


@dataclass(frozen=True)
class PanProgress(WindowMetric):
    """Mean signed step of the camera over the step that the caption prescribes.

    1 is a real video, 0 a camera that stands or shakes, negative goes back. A step is told by the landmarks' places from one
    frame to the next, modulo their spacing, and counts in the window of its later frame. NaN where either frame has none.
    """

    name: ClassVar[str] = "pan_progress"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = NAME
    observes: ClassVar[tuple[Observation, ...]] = (PanLandscape,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("pan_progress", "of true speed", True, "signed progress of the camera; 1 is right"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        return {"pan_progress": window_mean(find_landscape(clip).steps, windows) / SPEED}
