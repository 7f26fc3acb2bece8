"""A study's design and its agreement against known truth."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.raters.agreement import alpha
from experiments.raters.design import choose, orders


def test_alpha_of_published_examples() -> None:
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): examples A, B and C, nominal."""
    binary = zip("0100000010", "1110010000", strict=True)
    assert alpha(map(list, binary)) == pytest.approx(0.095, abs=5e-4)
    two = zip("aabbdcccedda", "babbbcccEddd".lower(), strict=True)
    assert alpha(map(list, two)) == pytest.approx(0.692, abs=5e-4)
    four = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    units = [[value for value in unit if value != "."] for unit in zip(*four, strict=True)]
    assert alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_at_its_ends() -> None:
    assert alpha([[1, 1], [2, 2]]) == 1
    assert alpha([[1, 2], [2, 1]]) < 0
    assert math.isnan(alpha([[1, 1], [1, 1]]))
    assert math.isnan(alpha([[1], [2]]))
    draw = random.Random(0)
    assert abs(alpha([[draw.random() < 0.5 for _ in range(10)] for _ in range(400)])) < 0.03


@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_pairs_are_balanced_and_never_twice(opponents: int, samples: int, data: st.DataObject) -> None:
    pairs = data.draw(st.integers(opponents, opponents * samples))
    found = choose(
        [f"o{n}" for n in range(opponents)], [f"s{n}" for n in range(samples)], pairs, data.draw(st.integers(0, 99))
    )
    assert len(set(found)) == pairs
    for part in (0, 1):
        counts = Counter(pair[part] for pair in found)
        assert max(counts.values()) - min(counts.values()) <= 1 + part


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 3), st.integers(1, 7), st.integers(0, 99))
def test_sides_and_orders(opponents: int, each: int, checks: int, raters: int, seed: int) -> None:
    opponent_of = {f"p{n}": f"o{n % opponents}" for n in range(opponents * each)}
    named = [f"c{n}" for n in range(checks)]
    found = orders(opponent_of, named, raters, seed)
    assert found == orders(opponent_of, named, raters, seed)
    for order in found:
        assert sorted(shown.pair for shown in order) == sorted([*opponent_of, *named])
        assert order[0].pair in opponent_of
        for opponent in set(opponent_of.values()):
            sides = [shown.first_is_a for shown in order if opponent_of.get(shown.pair) == opponent]
            assert abs(2 * sum(sides) - len(sides)) <= 1
        sides = [shown.first_is_a for shown in order if shown.pair in opponent_of]
        assert abs(2 * sum(sides) - len(sides)) <= 1
    for pair in opponent_of:
        left = sum(shown.first_is_a for order in found for shown in order if shown.pair == pair)
        assert abs(2 * left - raters) <= 1


def test_orders_differ_between_raters() -> None:
    opponent_of = {f"p{n}": f"o{n % 4}" for n in range(16)}
    found = orders(opponent_of, ["c0", "c1"], 24, 0)
    assert len({tuple(shown.pair for shown in order) for order in found}) == 24
