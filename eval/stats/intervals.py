"""95 % intervals of a mean over prompts, the p-value of its being 0, and Holm's adjustment for several of them.

Three kinds of values, told apart by their `bounds`:

None     any real numbers: Student's t at every n. A percentile bootstrap is too narrow for the 4 to 48 prompts of this
         field, BCa hardly better (docs/evaluation.md has the simulation, tests/eval/interval_coverage.py makes it).
(0, b)   0 or 1 of each video, times b: Wilson's score interval (JASA 1927). A share of a video's frames or clips spreads
         less, so n is divided by observed over greatest possible variance (the effective sample size of surveys; Kott &
         Carr, 1997), with Student's t for the normal quantile.
(-b, b)  differences of such values, paired: Tango's score interval for paired proportions (Stat. Med. 1998), of which
         McNemar's test is the p-value; Student's t where there are values between -b, 0 and b, which it serves well.

Equal values say nothing of their spread: the greatest possible is taken, so eight equal zeros have an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.measure.windows import FloatArray

CONFIDENCE = 0.95
TAIL = (1 + CONFIDENCE) / 2  # the quantile at the upper end
HALVINGS = 60  # of Tango's interval: to the last bit
Bounds = tuple[float, float] | None


def of_difference(bounds: Bounds) -> Bounds:
    """The bounds of a difference of two values with these bounds."""
    return None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])


def mean_interval(
    values: FloatArray, bounds: Bounds = None
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.int_]]:
    """Mean over prompts and its 95 % interval: [prompts, K] -> mean, low, high, n, each [K]; NaN is left out.

    Column by column; NaN with fewer than two prompts. Student's t may reach beyond what a metric can be. Raises ValueError
    for bounds of another form, or values beyond them.
    """
    mean, n, low, high = *_mean(values), np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    for column in np.flatnonzero(n >= 2):
        low[column], high[column] = _interval(_known(values[:, column]), bounds)
    return mean, low, high, n


def p_values(values: FloatArray, bounds: Bounds = None) -> FloatArray:
    """Two-sided p-values of means of 0, [prompts, K] -> [K]: below .05 where `mean_interval` excludes 0.

    NaN with fewer than two prompts, and for bounds that begin at 0, where there is nothing to test. Raises ValueError as
    `mean_interval`.
    """
    return np.array([_p_value(_known(column), bounds) for column in values.T])


def holm(p: Sequence[float] | FloatArray) -> FloatArray:
    """Holm's step-down adjusted p-values of one family of tests; NaN is no test and stays (Scand. J. Stat. 1979)."""
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full(values.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    return adjusted


def ratio(total: NDArray[Any], count: NDArray[Any]) -> FloatArray:
    """total / count, NaN where the count is 0."""
    return np.asarray(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0))


def _known(values: FloatArray) -> FloatArray:
    return np.asarray(values[~np.isnan(values)], dtype=np.float64)


def _mean(values: FloatArray) -> tuple[FloatArray, NDArray[np.int_]]:
    valid = ~np.isnan(values)
    n = valid.sum(0)
    return ratio(np.where(valid, values, 0.0).sum(0), n), n


def _interval(values: FloatArray, bounds: Bounds) -> tuple[float, float]:
    if bounds is None:
        half = float(stats.t.ppf(TAIL, len(values) - 1)) * _error(values)
        mean = float(values.mean())
        return mean - half, mean + half
    scale = _scale(values, bounds)
    if bounds[0] < 0 and not _counts(values / scale):
        return _interval(values, None)
    low, high = (_wilson if bounds[0] == 0 else _tango)(values / scale)
    return low * scale, high * scale


def _p_value(values: FloatArray, bounds: Bounds) -> float:
    if len(values) < 2:
        return math.nan
    if bounds is None:
        return float(2 * stats.t.sf(abs(student_t(values)), len(values) - 1)) if values.any() else 1.0
    scale = _scale(values, bounds)
    if bounds[0] == 0:
        return math.nan
    if not _counts(values / scale):
        return _p_value(values, None)
    return float(2 * stats.norm.sf(abs(_tango_score(values / scale, 0.0))))


def student_t(values: FloatArray) -> float:
    """mean / (standard deviation / sqrt(n)) of values [n], the deviation with n - 1.

    NaN with fewer than two or if all are 0, infinite if they are equal but not 0.
    """
    if len(values) < 2:
        return math.nan
    mean, error = float(values.mean()), _error(values)
    if error > 0:
        return mean / error
    return math.copysign(math.inf, mean) if mean else math.nan


def _error(values: FloatArray) -> float:
    # Equal values have no spread, which a mean that was rounded would lend them.
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if np.ptp(values) else 0.0


def _scale(values: FloatArray, bounds: tuple[float, float]) -> float:
    low, high = bounds
    if not 0 < high < math.inf or low not in (0, -high):
        raise ValueError(f"bounds={bounds} must be (0, b) or (-b, b)")
    if len(values) and not (low <= values.min() and values.max() <= high):
        raise ValueError(
            f"values from {values.min():g} to {values.max():g} lie beyond their bounds, {low:g} to {high:g}"
        )
    return high


def _counts(values: FloatArray) -> bool:
    """Whether the variance is known from the mean, all values being -1, 0 or 1, or not at all, all being equal."""
    return bool(np.isin(values, (-1.0, 0.0, 1.0)).all()) or not np.ptp(values) or not values.var()


def _wilson(values: FloatArray) -> tuple[float, float]:
    mean, n, z = float(values.mean()), float(len(values)), float(stats.norm.ppf(TAIL))
    if not _counts(values):
        n *= max(1.0, mean * (1 - mean) / float(values.var(ddof=1)))
        z = float(stats.t.ppf(TAIL, len(values) - 1))
    middle = mean + z**2 / (2 * n)
    half = z * math.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2))
    low, high = ((middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)  # rounding may lead a little beyond


def _tango(values: FloatArray) -> tuple[float, float]:
    """Where the score passes the quantiles, by halving: it falls with the difference."""
    z, mean = float(stats.norm.ppf(TAIL)), float(values.mean())
    ends = []
    for sign in (-1, 1):
        inside, outside = mean, float(sign)
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            if abs(_tango_score(values, middle)) <= z:
                inside = middle
            else:
                outside = middle
        ends.append(inside)
    return ends[0], ends[1]


def _tango_score(values: FloatArray, difference: float) -> float:
    """(mean - difference) / its error if `difference` were true: Tango's statistic.

    Its variance is that of the likeliest shares of gains and losses with this difference. 0 where the distance is.
    """
    n, mean, size = len(values), float(values.mean()), float(np.abs(values).mean())
    gains, losses = n * (size + mean) / 2, n * (size - mean) / 2
    b = (2 * n - gains + losses) * difference - gains - losses
    c = -losses * difference * (1 - difference)
    share_of_losses = (math.sqrt(max(0.0, b**2 - 8 * n * c)) - b) / (4 * n)
    variance = 2 * share_of_losses + difference * (1 - difference)
    distance = mean - difference
    if abs(distance) < 1e-15:
        return 0.0
    return math.copysign(math.inf, distance) if variance <= 0 else distance * math.sqrt(n / variance)
