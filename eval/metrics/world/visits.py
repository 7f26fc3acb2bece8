"""The crowd's subjects visit by visit: what they looked like each time that they came."""

from __future__ import annotations

import numpy as np

from eval.measure.windows import FloatArray
from eval.metrics.world.subjects import Subjects, Truth

FEWEST = 3  # frames in which a subject must be wholly in view for a visit to have a colour


def visit_colours(found: Subjects, expected: Truth) -> FloatArray:
    """Mean colour of each subject in each visit, [visits, 2, 3]; NaN where it was hardly seen."""
    colours = np.full((expected.visit.max() + 1, 2, 3), np.nan)
    for visit in range(len(colours)):
        for subject in (0, 1):
            seen = (expected.visit[:, subject] == visit) & found.whole[:, subject]
            if seen.sum() >= FEWEST:
                colours[visit, subject] = found.rgb[seen, subject].mean(0)
    return colours
