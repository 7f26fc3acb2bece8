"""Intervals against what was published, against scipy and against likelihoods maximised by brute force."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import interval_coverage
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from eval.stats.intervals import Bounds, holm, mean_interval, of_difference, p_values, student_t

NAN = math.nan
SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)
Z2 = stats.norm.ppf(0.975) ** 2


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=float)[:, None]


def ends(values: NDArray[np.float64], bounds: Bounds = None) -> list[float]:
    _, low, high, _ = mean_interval(values, bounds)
    return [float(low[0]), float(high[0])]


def changes(gains: int, losses: int, n: int) -> NDArray[np.float64]:
    return column(*[1.0] * gains, *[-1.0] * losses, *[0.0] * (n - gains - losses))


@settings(max_examples=30)
@given(st.lists(st.one_of(st.just(NAN), st.floats(-100, 100)), min_size=1, max_size=40))
def test_real_numbers_have_students_interval_at_every_n(values: list[float]) -> None:
    known = np.array([v for v in values if not math.isnan(v)])
    mean, low, high, n = mean_interval(column(*values))
    assert n[0] == len(known)
    if len(known) < 2:
        assert np.isnan([low[0], high[0], p_values(column(*values))[0]]).all()
    elif np.ptp(known) == 0:
        assert low[0] == mean[0] == high[0]
    else:
        half = stats.t(len(known) - 1).ppf(0.975) * stats.sem(known)
        wanted = [known.mean(), known.mean() - half, known.mean() + half]
        np.testing.assert_allclose([mean[0], low[0], high[0]], wanted, atol=1e-9)


def test_columns_are_apart() -> None:
    values = np.random.default_rng(0).normal(0, 1, (20, 3))
    values[5:, 0] = values[1:, 2] = NAN
    _, low, high, n = mean_interval(values)
    assert n.tolist() == [5, 20, 1]
    for k in range(2):
        assert [low[k], high[k]] == pytest.approx(ends(values[:, k : k + 1]))
    assert math.isnan(low[2])


@pytest.mark.parametrize(
    ("ones", "n", "low", "high"),
    [  # Newcombe, Stat. Med. 17:857 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_shares_of_whole_videos_have_wilsons_interval(ones: int, n: int, low: float, high: float) -> None:
    found = column(*[1.0] * ones, *[0.0] * (n - ones))
    assert ends(found, SHARE) == pytest.approx([low, high], abs=5e-5)
    assert ends(1 - found, SHARE) == pytest.approx([1 - high, 1 - low], abs=5e-5)
    assert ends(found / 2, (0.0, 0.5)) == pytest.approx([low / 2, high / 2], abs=5e-5)


@pytest.mark.parametrize("n", [2, 3, 8, 128])
def test_equal_values_have_no_interval_of_width_nothing(n: int) -> None:
    """Of zeros 0 to z^2 / (n + z^2), and as far either way for a difference."""
    reach = Z2 / (n + Z2)
    assert ends(np.zeros((n, 1)), SHARE) == pytest.approx([0, reach])
    assert ends(np.ones((n, 1)), SHARE) == pytest.approx([1 - reach, 1])
    assert ends(np.zeros((n, 1)), CHANGE) == pytest.approx([-reach, reach])
    low, high = ends(np.full((n, 1), 0.5), SHARE)
    assert low < 0.5 < high


def likeliest(gains: int, losses: int, n: int, difference: float) -> float:
    """Tango's score with the share of losses that makes the counts likeliest, sought by brute force."""

    def unlikely(lost: float) -> float:
        shares = np.array([lost + difference, lost, 1 - 2 * lost - difference])
        counts = np.array([gains, losses, n - gains - losses])
        return -float(np.sum(counts * np.log(np.maximum(shares, 1e-300))))

    found = optimize.minimize_scalar(
        unlikely, bounds=(max(0.0, -difference), (1 - difference) / 2), method="bounded", options={"xatol": 1e-13}
    )
    variance = 2 * found.x + difference - difference**2
    return float((gains - losses - n * difference) / math.sqrt(n * variance))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 20))
def test_a_difference_ends_where_tangos_score_is_the_quantile(gains: int, losses: int, neither: int) -> None:
    n = gains + losses + neither
    if n < 2:
        return
    for end, sign in zip(ends(changes(gains, losses, n), CHANGE), (1, -1), strict=True):
        assert -1 < end < 1
        assert likeliest(gains, losses, n, end) == pytest.approx(sign * math.sqrt(Z2), abs=1e-4)


def test_a_difference_is_mcnemars_test_turned_round() -> None:
    for gains, losses in itertools.product(range(7), repeat=2):
        (p,) = p_values(changes(gains, losses, 16), CHANGE)
        score = abs(gains - losses) / math.sqrt(gains + losses) if gains + losses else 0.0
        assert p == pytest.approx(2 * stats.norm.sf(score))


def test_all_won_ends_at_one() -> None:
    low, high = ends(np.ones((9, 1)), CHANGE)
    assert high == pytest.approx(1)
    assert low == pytest.approx(-ends(-np.ones((9, 1)), CHANGE)[1])
    assert likeliest(9, 0, 9, low) == pytest.approx(math.sqrt(Z2), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.sampled_from([None, SHARE, CHANGE]))
def test_an_interval_holds_its_mean_and_its_bounds_and_agrees_with_its_p(values: list[float], bounds: Bounds) -> None:
    if bounds == SHARE:
        values = [abs(v) for v in values]
    mean, low, high, _ = mean_interval(column(*values), bounds)
    assert low[0] - 1e-9 <= mean[0] <= high[0] + 1e-9
    if bounds == SHARE or (bounds == CHANGE and np.isin(values, (-1, 0, 1)).all()):
        assert bounds[0] <= low[0]
        assert high[0] <= bounds[1]
    (p,) = p_values(column(*values), bounds)
    if bounds == SHARE:
        assert math.isnan(p)
    elif abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == bool(low[0] > 0 or high[0] < 0)


def test_shares_that_spread_little_count_for_more() -> None:
    """With eight videos of about half their frames each the interval is near Student's, not that of eight coins."""
    values = column(0.45, 0.5, 0.52, 0.48, 0.55, 0.5, 0.47, 0.53)
    assert ends(values, SHARE) == pytest.approx(ends(values), abs=0.002)
    assert ends(values - 0.2, CHANGE) == ends(values - 0.2)
    assert p_values(values - 0.5, CHANGE) == p_values(values - 0.5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=2, max_size=12))
def test_shares_in_between_have_wilsons_interval_at_their_effective_number(values: list[float]) -> None:
    """n divided by observed over greatest possible variance, at least n, and Student's t for the normal quantile."""
    x = np.array(values)
    if np.isin(x, (0, 1)).all() or len(set(values)) == 1:
        return
    p, t = x.mean(), stats.t.ppf(0.975, len(x) - 1)
    n = len(x) * max(1.0, p * (1 - p) / x.var(ddof=1))
    # where |p - true| = t sqrt(true (1 - true) / n)
    a, b, c = 1 + t**2 / n, -(2 * p + t**2 / n), p**2
    wanted = sorted(np.roots([a, b, c]).real)
    assert ends(column(*values), SHARE) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("scale", [0.5, 2.0, 100.0])
def test_bounds_scale_intervals_and_leave_tests_as_they_are(scale: float) -> None:
    """A difference of differences has twice the bounds."""
    for values in (changes(3, 1, 9), np.zeros((5, 1)), column(-0.5, 0, 0.25, 1)):
        scaled = (-scale, scale)
        assert ends(values * scale, scaled) == pytest.approx([scale * end for end in ends(values, CHANGE)])
        assert p_values(values * scale, scaled) == pytest.approx(p_values(values, CHANGE))


@pytest.mark.parametrize("bounds", [(0.0, 0.0), (0.0, math.inf), (-1.0, 2.0), (0.0, -1.0), (0.0, NAN)])
def test_bounds_of_another_form_are_refused(bounds: Bounds) -> None:
    with pytest.raises(ValueError, match=r"must be \(0, b\) or \(-b, b\)"):
        mean_interval(np.zeros((3, 1)), bounds)


def test_values_beyond_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values from 0 to 1\.5 lie beyond their bounds, 0 to 1"):
        mean_interval(column(0, 1.5), SHARE)
    with pytest.raises(ValueError, match=r"bounds=\(1, 2\) must be"):
        p_values(column(1, 1.5), (1, 2))


def test_bounds_of_differences() -> None:
    assert of_difference(None) is None
    assert of_difference(SHARE) == CHANGE
    assert of_difference(CHANGE) == (-2, 2)


def test_student_t_at_its_edges() -> None:
    assert math.isnan(student_t(np.array([1.0])))
    assert math.isnan(student_t(np.zeros(4)))
    assert student_t(np.full(4, -2.0)) == -math.inf
    assert student_t(np.full(10, 0.1)) == math.inf  # whose deviation is not quite 0 as numpy rounds it
    assert student_t(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 * math.sqrt(3))


def test_p_values_are_students() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, (9, 4))
    np.testing.assert_allclose(p_values(values), stats.ttest_1samp(values, 0).pvalue)
    assert p_values(np.zeros((4, 1))).tolist() == [1]
    assert p_values(np.full((4, 1), 2.0)).tolist() == [0]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    np.testing.assert_array_equal(holm([NAN, 0.03, NAN]), [NAN, 0.03, NAN])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_is_between_nothing_and_bonferroni_and_keeps_the_order(p: list[float], random: object) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    for (a, b), (x, y) in zip(itertools.pairwise(p), itertools.pairwise(adjusted), strict=True):
        assert a == b or (a < b) <= (x <= y)
    rejected = sorted(p)
    count = next((k for k, value in enumerate(rejected) if value * (len(p) - k) > 0.05), len(p))
    assert (adjusted <= 0.05).sum() == count


@pytest.mark.slow
def test_coverage_is_what_the_documentation_says() -> None:
    """Both tables of docs/evaluation.md, simulated again; every number within rounding."""
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    heading, _, *lines = interval_coverage.markdown(interval_coverage.tables()).splitlines()
    assert heading in text
    assert len(lines) == 5 * 2 + 2 * 7
    for line in lines:
        words = line.split(" | ")[:2]
        (told,) = [each for each in text.splitlines() if each.split(" | ")[:2] == words]
        numbers, known = ([float(n) for n in each.strip(" |").split(" | ")[2:]] for each in (line, told))
        np.testing.assert_allclose(numbers, known, atol=0.011)


@pytest.mark.parametrize("prompts", [4, 8, 16, 20, 24, 48])
def test_students_interval_covers_the_truth_about_as_often_as_it_says(prompts: int) -> None:
    """Trials are columns. A percentile bootstrap covers the mean of 8 normal values in 88 %, of 20 in 92 %."""
    _, low, high, _ = mean_interval(np.random.default_rng(prompts).normal(3, 2, (prompts, 4000)))
    assert ((low <= 3) & (high >= 3)).mean() == pytest.approx(0.95, abs=0.011)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.3])
def test_wilsons_interval_covers_the_truth_where_students_does_not(p: float) -> None:
    values = (np.random.default_rng(8).random((8, 1000)) < p).astype(float)
    _, low, high, _ = mean_interval(values, SHARE)
    assert ((low <= p) & (high >= p)).mean() > 0.92


def test_one_value_has_a_mean_and_two_have_a_t() -> None:
    mean, low, high, n = mean_interval(column(0.7))
    assert (mean[0], n[0]) == (0.7, 1)
    assert np.isnan([low[0], high[0]]).all()
    assert student_t(np.array([1.0, 2.0])) == pytest.approx(stats.ttest_1samp([1.0, 2.0], 0).statistic)
    assert math.isnan(student_t(np.array([1.0])))
