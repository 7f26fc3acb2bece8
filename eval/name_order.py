"""The order that people mean by numbered file names: the numbers' values decide, and only where that is clear."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

Key = tuple[Any, ...]
ROMAN = re.compile(r"(m{0,3})(cm|cd|d?c{0,3})(xc|xl|l?x{0,3})(ix|iv|v?i{0,3})")
OF_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}
SPELLED = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
ORDINAL = [
    "zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
]  # fmt: skip
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
    numbers, words that are numbers (iv, two, third, 二, x², aa after z), text that sorts otherwise without regard to case and
    punctuation.
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
    return [
        *found,
        *in_words(stems),
        decimal,
        letters_alone,
        lambda stem: by_value(unicodedata.normalize("NFKC", stem)),
    ]


def in_words(stems: Sequence[str]) -> Iterator[Callable[[str], Key]]:
    """An order for every place at which the names have words that may all be numbers of one kind."""
    split = {stem: re.findall(r"[^\W_]+", stem.casefold()) for stem in stems}
    if len({len(words) for words in split.values()}) != 1:
        return
    for place, words in enumerate(zip(*split.values(), strict=True)):
        for value in (roman, lettered, spelled, character):
            if len(set(words)) == 1 or (value is roman and max(map(len, words)) == 1):  # d and l are letters first
                continue
            if all(value(word) is not None for word in words):
                yield lambda stem, value=value, place=place: (value(split[stem][place]),)  # type: ignore[misc]


def roman(word: str) -> int | None:
    if not ROMAN.fullmatch(word):
        return None
    values = [OF_ROMAN[letter] for letter in word]
    return sum(-one if one < after else one for one, after in zip(values, [*values[1:], 0], strict=True))


def lettered(word: str) -> Key | None:
    """a ... z, aa, ab ..., as columns of a table."""
    return (len(word), word) if re.fullmatch("[a-z]{1,2}", word) else None


def spelled(word: str) -> int | None:
    return next((names.index(word) for names in (SPELLED, ORDINAL) if word in names), None)


def character(word: str) -> float | None:
    """A character that is a number and none of the ten digits: 三."""
    return unicodedata.numeric(word, None) if len(word) == 1 and not word.isdecimal() else None
