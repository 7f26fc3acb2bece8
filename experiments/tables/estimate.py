"""An estimate with its interval and its tests, and how its numbers are written."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from eval.stats.intervals import CONFIDENCE, holm

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its 95 % interval; `n` prompts. NaN where there is nothing to say.

    p: that it is 0, of the test that belongs to the interval. holm: the same, adjusted for all comparisons made beside it.
    """

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan
    holm: float = math.nan

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def star(self) -> str:
        """The mark beside the plain one: also told from zero after Holm's adjustment."""
        return "*" if self.holm < 1 - CONFIDENCE else ""

    def times(self, scale: float) -> Estimate:
        return replace(self, value=self.value * scale, low=self.low * scale, high=self.high * scale)

    def minus(self, known: float) -> Estimate:
        """Beside a number without an interval of its own. No test: nothing says how sure the other number is."""
        low, high = self.low - known, self.high - known
        return replace(self, value=self.value - known, low=low, high=high, p=math.nan, holm=math.nan)


def adjusted(family: Mapping[Key, Estimate]) -> dict[Key, Estimate]:
    """Estimates with Holm's adjustment for all of them that are tests."""
    p = holm([estimate.p for estimate in family.values()])
    return {key: replace(e, holm=float(q)) for (key, e), q in zip(family.items(), p, strict=True)}


def comparisons(family: Iterable[Estimate | None]) -> int:
    """How many of them are tests."""
    return sum(math.isfinite(estimate.p) for estimate in family if estimate is not None)


NAN = float("nan")
MISSING = Estimate(NAN, NAN, NAN, 0)


def number(value: float, decimals: int, sign: bool = False) -> str:
    """Fixed decimals, a real minus, a dash for NaN, no "-0.00"."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    if not any(c in "123456789" for c in text):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(estimate: Estimate, decimals: int, sign: bool = False) -> str:
    """ "[low, high]", or nothing where there is no interval."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    return f"[{number(estimate.low, decimals, sign)}, {number(estimate.high, decimals, sign)}]"


def decimals_for(values: Sequence[float], differences: Sequence[float] = ()) -> int:
    """Decimals that show three digits of the largest value, or one more where differences are small beside it."""

    def wanted(numbers: Sequence[float], digits: int) -> int:
        largest = max((abs(v) for v in numbers if math.isfinite(v)), default=0.0)
        return digits - 1 - math.floor(math.log10(largest)) if largest > 0 else 0

    base = wanted(values, 3)
    return min(6, max(0, base, min(wanted(differences, 2), base + 1)))
