"""How far raters agree: Krippendorff's alpha for nominal values (Content Analysis, 2004; the worked examples in his
"Computing Krippendorff's Alpha-Reliability", 2011, are the test)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def alpha(units: Iterable[Sequence[Hashable]]) -> float:
    """1 - observed / expected disagreement. units: of each thing that was rated the values that its raters gave it.

    1: all agree; 0: as by chance. Units with one value say nothing. NaN where no unit has two values, or all values are
    the same one: then nothing could have disagreed. Where nearly all choose the same, chance alone would agree nearly
    always, and alpha is low although few disagree.
    """
    rated = [Counter(values) for values in units if len(values) > 1]
    total = Counter[Hashable]()
    observed = 0.0
    for counts in rated:
        total += counts
        n = counts.total()
        observed += (n * n - sum(c * c for c in counts.values())) / (n - 1)
    n = total.total()
    expected = (n * n - sum(c * c for c in total.values())) / (n - 1) if n > 1 else 0.0
    return 1 - observed / expected if expected else math.nan
