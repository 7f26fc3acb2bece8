from __future__ import annotations

import math

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


def test_numbers_read_well() -> None:
    assert number(-0.0004, 2, sign=True) == "0.00"
    assert number(-1.5, 1) == "−1.5"
    assert number(math.nan, 2) == "–"
    assert decimals_for([0.97, 0.99], [0.02]) == 3
    assert decimals_for([120.0], [5.0]) == 1
    assert decimals_for([0.97], [3e-5]) == 4
    assert decimals_for([math.nan]) == 0
