"""The order that people mean by numbered file names: the numbers' values decide, and only where that is clear."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

Key = tuple[Any, ...]
HEXADECIMAL = re.compile(r"(?<![^\W_])[0-9a-f]+(?![^\W_])")  # words that may be such a number


def by_value(stem: str) -> Key:
    """Text and numbers in turn, so that 2 comes before 10: "0-10_ema" is ("", 0, "-", 10, "_ema")."""
    parts = re.split(r"(\d+)", stem)
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts))


def numbers(stem: str) -> tuple[int, ...]:
    return by_value(stem)[1::2]


def in_order(files: Sequence[Path]) -> list[Path]:
    """The files in the one order that their names have, numbers by value; the endings do not count.

    Raises ValueError, naming two of them, where another reading of the names gives another order: two numbers that count
    apart (1_0, 0_1), one number for several files, names with and without a number, decimals (1.9, 1.10), hexadecimal
    numbers, text that sorts otherwise without regard to case and punctuation.
    """
    ordered = sorted(files, key=lambda file: by_value(file.stem))
    stems = [file.stem for file in ordered]
    for one, other in pairwise(ordered):
        if by_value(one.stem) == by_value(other.stem):
            raise ValueError(f"{one.name} and {other.name} stand at the same place")
    counted = [numbers(stem) for stem in stems]
    if len(set(counted)) > 1 and sum(map(bool, counted)) > 1:  # numbers tell the files apart, not text alone
        found: dict[tuple[int, ...], Path] = {}
        for file, number in zip(ordered, counted, strict=True):
            if not number:
                raise ValueError(f"{file.name} has no number, as others have")
            if number in found:
                raise ValueError(f"{found[number].name} and {file.name} have the same number")
            found[number] = file
    for reading in readings(stems):
        told = [(file, key) for file, stem in zip(ordered, stems, strict=True) if (key := reading(stem)) is not None]
        for (one, key_of_one), (other, key_of_other) in pairwise(told):
            if key_of_one > key_of_other:
                raise ValueError(f"it is not clear which of {one.name} and {other.name} comes first")
    return ordered


def readings(stems: Sequence[str]) -> list[Callable[[str], Key | None]]:
    """Other orders that names may mean; None for a name that one says nothing about."""

    def nth(place: int) -> Callable[[str], Key | None]:
        def key(stem: str) -> Key | None:
            found = numbers(stem)
            return (found[place],) if -len(found) <= place < len(found) else None

        return key

    def signed(stem: str) -> Key | None:
        found = re.search(r"-?\d+", stem)
        return (int(found[0]),) if found else None

    def decimal(stem: str) -> Key:
        parts = re.split(r"(\d+(?:\.\d+)?)", stem)
        return tuple(float(part) if index % 2 else part for index, part in enumerate(parts))

    def letters_alone(stem: str) -> Key:
        parts = by_value(stem)
        return tuple(part if index % 2 else re.sub(r"[\W_]", "", part).casefold() for index, part in enumerate(parts))

    most = max((len(numbers(stem)) for stem in stems), default=0)
    found: list[Callable[[str], Key | None]] = [nth(place) for place in range(-most, most)]
    if len({bool(re.match(r"\D*-\d", stem)) for stem in stems}) > 1:
        found.append(signed)
    words = [HEXADECIMAL.findall(stem.casefold()) for stem in stems]
    alike = len({HEXADECIMAL.sub("#", stem.casefold()) for stem in stems}) == 1
    if alike and any(re.search(r"\d[a-f]|[a-f]\d", word) for of_one in words for word in of_one):
        found.append(lambda stem: tuple(int(word, 16) for word in HEXADECIMAL.findall(stem.casefold())))
    return [*found, decimal, letters_alone]
