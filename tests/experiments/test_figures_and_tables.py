from __future__ import annotations

import itertools
import math
import re

import pytest

from experiments.figures.drift import (
    HEIGHT,
    LABEL_LETTERS,
    Curve,
    drift_panel,
    nice_ticks,
    shortened,
    spread,
    tick_text,
)
from experiments.results.configs import difference_rows, differing, flatten, yaml_lines
from experiments.tables.estimate import decimals_for, number


def test_what_differs_between_specs() -> None:
    specs = [{"cache": {"sink": s, "window": 21}, "seeds": [0]} for s in (0, 10)] + [
        {"cache": {"sink": 10}, "seeds": [0]}
    ]
    assert differing(specs) == ["cache.sink", "cache.window"]
    assert difference_rows(specs, differing(specs)) == [
        ("cache.sink", ["0", "10", "10"]), ("cache.window", ["21", "21", "–"])
    ]  # fmt: skip
    lines = [(line.depth, line.text, line.differs) for line in yaml_lines(specs[0], ["cache.sink"])]
    assert lines == [(0, "cache:", False), (1, "sink: 0", True), (1, "window: 21", False), (0, "seeds: [0]", False)]
    assert flatten({"a": {"b": {}}, "c": None}) == {"a.b": {}, "c": None}


def test_panel_breaks_lines_at_gaps_and_keeps_labels_apart() -> None:
    t = [0.5, 1.5, 2.5, 3.5, 4.5]
    gap = [1.0, 2.0, math.nan, 4.0, 5.0]
    curves = [Curve(i, f"run {i} <x>", "none", t, gap, gap, gap) for i in range(3)]
    svg = drift_panel(curves, 5.0, None, "m")
    assert svg.count('class="line"') == 6
    assert "nan" not in svg
    assert "<x>" not in svg
    assert 'class="trained"' not in svg
    heights = sorted(float(y) for y in re.findall(r'class="label"[^>]* y="([\d.]+)"', svg))
    assert len(heights) == 3
    assert all(b - a > 11 for a, b in itertools.pairwise(heights))
    assert max(heights) < HEIGHT
    assert spread([5.0, 50.0], 12, 0, 100) == [5.0, 50.0]
    assert "nan" not in drift_panel([], 5.0, 1.0, "nothing")
    flat = drift_panel([Curve(0, "zero", "none", t, *[[0.0] * 5] * 3)], 5.0, None, "flat")
    assert re.findall(r'text-anchor="end">([^<]+)<', flat) == ["−1", "−0.5", "0", "0.5", "1"]


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("deep_sink", "deep_sink"),
        ("deep_forcing_release", "deep_forcing_rel…"),
        ("deep_sink (tiny decoder)", "deep_sink (tiny)"),
        ("deep_forcing_release (tiny decoder)", "deep_forc… (tiny)"),
        ("sink_frames=3 (tiny decoder)", "sink_fram… (tiny)"),
        ("(tiny decoder)", "(tiny decoder)"),
    ],
)
def test_a_label_at_the_end_of_a_line_keeps_the_tiny_decoder(label: str, short: str) -> None:
    assert shortened(label) == short
    assert len(short) <= LABEL_LETTERS


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3e-4, 2e-4), (1200, 98000), (0.97, 0.99)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    assert all(len(tick_text(tick)) <= 7 for tick in ticks)


def test_numbers_read_well() -> None:
    assert number(-0.0004, 2, sign=True) == "0.00"
    assert number(-1.5, 1) == "−1.5"
    assert number(math.nan, 2) == "–"
    assert decimals_for([0.97, 0.99], [0.02]) == 3
    assert decimals_for([120.0], [5.0]) == 1
    assert decimals_for([0.97], [3e-5]) == 4
    assert decimals_for([math.nan]) == 0
