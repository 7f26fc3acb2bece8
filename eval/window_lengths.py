"""Which lengths of windows there are scores of, and which of them a reader takes: the one place where it is decided.

Scores of the protocol `windows` are kept for every length that was ever asked for; a table or curve is of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from eval.protocol import Protocol

NAME = "windows"
ROUNDED = 0.25  # by how much of itself a length may differ that was read from times, which are rounded to frames


def window_lengths(table: pd.DataFrame) -> dict[str, list[float]]:
    """{run: lengths in seconds} of the rows under `windows`, those without a value too; {} if there are none.

    table: with the columns run, protocol and window_seconds.
    """
    rows = table[table["protocol"] == NAME]
    return {str(run): sorted(map(float, each.unique())) for run, each in rows.groupby("run")["window_seconds"]}


def choose_length(table: pd.DataFrame, wanted: float | None = None) -> float:
    """The length asked for, or that of most runs; of several the usual one, then the shortest. The usual one if there are
    no windows at all."""
    if wanted is not None:
        return wanted
    usual = Protocol().window_seconds
    counts = Counter(length for lengths in window_lengths(table).values() for length in lengths)
    return min(counts, key=lambda length: (-counts[length], length != usual, length), default=usual)


def of_length(table: pd.DataFrame, length: float) -> pd.DataFrame:
    """Without the windows of other lengths; rows of other protocols stay."""
    return table[(table["protocol"] != NAME) | (table["window_seconds"] == length)]


def other_lengths(table: pd.DataFrame, length: float) -> list[str]:
    """One line for each run that has windows of other lengths only."""
    return [
        f"{run} has windows of about {_told(lengths)} s, not {length:g}: say window_seconds={lengths[0]:.3g}, or evaluate it "
        f"with window_seconds={length:g}"
        for run, lengths in window_lengths(table).items()
        if length not in lengths
    ]


def length_of_rows(rows: pd.DataFrame, known: Iterable[float]) -> float:
    """The length of the windows of one scored folder, whose rows do not say it: one of those `known` if times that are
    rounded to frames fit it; NaN without windows.

    rows: of the protocol `windows`. A series' first window has that length, where a second one follows, or else the only
    one; rows of whole videos beside windows are longer.
    """
    series = ["sample", "metric"]
    followed = rows[rows["t_start"] > 0].set_index(series).index
    first = rows[rows["t_start"] == 0]
    several = first[first.set_index(series).index.isin(followed)]
    found = float((several if len(several) else first)["t_end"].median())
    near = [length for length in known if abs(length - found) <= ROUNDED * length]
    return min(near, key=lambda length: abs(length - found), default=found)


def _told(lengths: list[float]) -> str:
    return " and ".join(f"{length:.3g}" for length in lengths)
