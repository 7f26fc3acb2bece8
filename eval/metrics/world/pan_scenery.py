"""Pan: whether sky and ground keep their colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from deepforcing.tiny.pan import NAME
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window, distance_from_first, window_mean
from eval.metrics.world.landscape import PanLandscape, find_landscape


@dataclass(frozen=True)
class PanScenery(WindowMetric):
    """RGB distance of the sky's colour, and of the ground's, from the first window's: the mean of the two."""

    name: ClassVar[str] = "pan_scenery"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = NAME
    observes: ClassVar[tuple[Observation, ...]] = (PanLandscape,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("scenery_drift", "RGB distance", False, "distance of sky and ground from the first window's"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        found = find_landscape(clip)
        drifts = [distance_from_first(window_mean(part, windows)) for part in (found.sky, found.ground)]
        return {"scenery_drift": (drifts[0] + drifts[1]) / 2}
