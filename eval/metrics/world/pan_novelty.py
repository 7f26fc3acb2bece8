"""Pan: whether the landscape keeps being new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepforcing.tiny.pan import NAME, SPACING, SPEED
from eval.measure.metric import Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window
from eval.metrics.world.landscape import PanLandscape, find_landscape
from eval.metrics.world.strip import arrivals, first_colours

RUN = 4  # landmarks: the world has 6 * 5^3 = 750 runs of colours, a minute of it some 80 landmarks


@dataclass(frozen=True)
class PanNovelty(WindowMetric):
    """Landmarks that came into view and with them a run of four colours that this video had not shown, over how many landmarks
    a camera at the true speed passes in that time.

    About 1 in real video (.95 in the last seconds of a minute, where a run comes again by chance), 0 for a camera that stands,
    a landscape that begins again, and landmarks without a clear colour. Each landmark counts in the window in which it comes.
    """

    name: ClassVar[str] = "pan_novelty"
    version: ClassVar[int] = 1
    world: ClassVar[str | None] = NAME
    observes: ClassVar[tuple[Observation, ...]] = (PanLandscape,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("novelty", "of the true rate", True, "landmarks that are new, and so are the three before them"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        found = find_landscape(clip)
        colours, new = first_colours(found), np.zeros(clip.frames)
        seen: set[tuple[int, ...]] = set()
        for number, frame in sorted(arrivals(found).items()):
            run = run_of(colours, number)
            if -1 not in run and run not in seen:
                new[frame] += 1
            seen.add(run)
        return {
            "novelty": np.array([new[w.start : w.end].sum() * SPACING / (SPEED * (w.end - w.start)) for w in windows])
        }


def run_of(colours: Mapping[int, int], number: int) -> tuple[int, ...]:
    """The colours of a landmark and of those before it, -1 where one is unclear or never came."""
    return tuple(colours.get(n, -1) for n in range(number - RUN + 1, number + 1))
