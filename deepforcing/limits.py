"""Ranges of the numbers that settings hold: what lies outside is a slip of the keyboard, refused before it costs anything."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

LARGEST_SIZE = 100_000  # latent frames, tokens of anything: of every whole number in a cache policy or a rollout rule
LONGEST_SECONDS = 86_400  # a day


def within(low: float, high: float, **values: float | None) -> None:
    """Raise ValueError, naming the first of the values that is not finite or lies outside low..high, both included.

    None is a value that is not given.
    """
    for name, value in values.items():
        if value is not None and not low <= value <= high:  # NaN is on neither side
            raise ValueError(f"{name}={value} must be at least {low} and at most {high}")


def check_numbers(value: Any, name: str = "") -> None:
    """Every number in a tree of dataclasses, lists and tuples: finite and at most LARGEST_SIZE in size.

    For parts that anybody may add to, such as cache policies; their own checks say what is sensible, this one what is
    absurd. Raises ValueError naming the field.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            check_numbers(getattr(value, field.name), field.name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_numbers(item, name)
    elif isinstance(value, int) and abs(value) > LARGEST_SIZE:
        raise ValueError(f"{name}={value} must be at most {LARGEST_SIZE}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}={value} must be a finite number")
