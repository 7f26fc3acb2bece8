"""The pan's landmarks as a strip: which colours came into view, one after the other."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from eval.metrics.world.landscape import IN_VIEW, Landscape

VOTES = 6  # frames in which a landmark is wholly in view that tell its first colour, half a chunk


def numbers(found: Landscape) -> NDArray[np.int64]:
    """[N, K] the number of each landmark in view."""
    return np.asarray(found.number[:, None] + np.arange(IN_VIEW))


def first_colours(found: Landscape) -> dict[int, int]:
    """Of every landmark, by number, the colour that it came with: the commonest of its first VOTES frames, -1 if unclear."""
    votes: dict[int, list[int]] = {}
    for row, colours in zip(numbers(found), found.colour, strict=True):
        for number, colour in zip(row, colours, strict=True):
            own = votes.setdefault(int(number), [])
            if len(own) < VOTES:
                own.append(int(colour))
    return {number: Counter(own).most_common(1)[0][0] for number, own in votes.items()}


def arrivals(found: Landscape) -> dict[int, int]:
    """{number: frame} of the landmarks that came into view at the far edge, each for the first time."""
    last = np.maximum.accumulate(found.number + IN_VIEW - 1)
    frames = np.flatnonzero(np.diff(last)) + 1
    return {int(n): int(f) for f in frames for n in range(last[f - 1] + 1, last[f] + 1)}
