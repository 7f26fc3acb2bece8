"""How often intervals hold the truth, by simulation: the tables of docs/evaluation.md. Run it to print them.

Bootstraps of the mean (Efron & Tibshirani 1993), percentile and BCa, are written here alone, to be compared with. Widths
are beside Student's t. Every trial is one table of n prompts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.stats.intervals import mean_interval

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Values]
Intervals = tuple[Values, Values]
RESAMPLES = 1000
PROMPTS = (4, 8, 12, 16, 20, 24, 48, 128)
# name: how to draw, and the true mean
REAL: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(0, 1, shape), 0.0),
    "skewed (exponential)": (lambda rng, shape: rng.exponential(1, shape), 1.0),
}
SHARES: dict[str, tuple[Draw, float]] = {
    **{f"0 or 1, p = {p}": (lambda rng, shape, p=p: (rng.random(shape) < p).astype(float), p) for p in (0.1, 0.3, 0.5)},
    "shares of 30 clips, mean .1": (lambda rng, shape: rng.binomial(30, rng.beta(0.2, 1.8, shape)) / 30, 0.1),
}


def changes(before: float, after: float, together: float) -> tuple[Draw, float]:
    """Differences of two 0 or 1 values of each video, 1 with these probabilities and both 1 with the last."""
    gains, losses = after - together, before - together

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
        u = rng.random(shape)
        return np.where(u < gains, 1.0, np.where(u < gains + losses, -1.0, 0.0))

    return draw, gains - losses


DIFFERENCES: dict[str, tuple[Draw, float]] = {
    ".1 against .1": changes(0.1, 0.1, 0.05),
    ".5 against .3": changes(0.3, 0.5, 0.2),
    ".9 against .6": changes(0.6, 0.9, 0.55),
}


def bootstraps(values: Values, rng: np.random.Generator) -> NDArray[np.float64]:
    """Percentile and BCa intervals of the mean from the same resamples: [2 methods, 2 ends]."""
    means, mean = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1), values.mean()
    off = values - mean
    acceleration = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
    below = np.clip((means < mean).mean(), 1 / RESAMPLES, 1 - 1 / RESAMPLES)
    z = stats.norm.ppf(below) + stats.norm.ppf([0.025, 0.975])
    corrected = stats.norm.cdf(stats.norm.ppf(below) + z / (1 - acceleration * z))
    return np.quantile(means, [[0.025, 0.975], corrected])


def told(intervals: Intervals, truth: float) -> tuple[float, float]:
    """Coverage and mean width."""
    low, high = intervals
    return float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean())


def of_reals(name: str, prompts: int, trials: int = 2000) -> list[float]:
    """Coverage of t, percentile and BCa, then the widths of the last two beside t's."""
    draw, truth = REAL[name]
    rng = np.random.default_rng(prompts)
    values = draw(rng, (prompts, trials))
    coverage, width = told(mean_interval(values)[1:3], truth)
    found, widths = [coverage], []
    for ends in np.stack([bootstraps(column, rng) for column in values.T], axis=1):
        coverage, other = told((ends[:, 0], ends[:, 1]), truth)
        found, widths = [*found, coverage], [*widths, other / width]
    return [*found, *widths]


def of_bounded(kind: dict[str, tuple[Draw, float]], name: str, prompts: int, trials: int = 2000) -> list[float]:
    """Coverage of t and of the score interval."""
    draw, truth = kind[name]
    values = draw(np.random.default_rng(prompts), (prompts, trials))
    bounds = (0.0, 1.0) if kind is SHARES else (-1.0, 1.0)
    return [told(mean_interval(values, of)[1:3], truth)[0] for of in (None, bounds)]


def tables() -> dict[str, list[list[float]]]:
    """{first cells of a line: numbers for each of PROMPTS}, all lines of both tables."""
    reals = {name: [of_reals(name, n) for n in PROMPTS] for name in REAL}
    return reals | {
        name: [of_bounded(kind, name, n) for n in PROMPTS] for kind in (SHARES, DIFFERENCES) for name in kind
    }


def markdown(found: dict[str, list[list[float]]]) -> str:
    rule = f"|---|---|{'---:|' * len(PROMPTS)}"
    lines = [f"| values | interval | {' | '.join(map(str, PROMPTS))} |", rule]
    kinds = ["Student's t", "percentile", "BCa", "width of percentile / t", "width of BCa / t"]
    for name, numbers in found.items():
        words = kinds if name in REAL else ["Student's t", "Wilson" if name in SHARES else "Tango"]
        for k, word in enumerate(words):
            lines.append(f"| {name} | {word} | {' | '.join(f'{each[k]:.2f}' for each in numbers)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(tables()))
