"""Who sees which pair in which order and on which side: randomised, balanced, and the same again for the same seed.

Every rater sees every pair once, so answers can be set beside each other. Over the raters a pair's two videos stand at A
equally often; for one rater every run of the comparison does. With odd numbers "equally" means up to one.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

# The four questions of the paper's study (table 2), in our words.
QUESTIONS = {
    "colour": "In which video do the colours stay more consistent from beginning to end?",
    "motion": "Which video has more natural and lively motion?",
    "subject": "In which video does the main subject stay more the same from beginning to end?",
    "overall": "Which video do you prefer overall?",
}
CHECKED = "overall"  # the question that an attention check goes by


@dataclass(frozen=True)
class Shown:
    """One pair as a rater sees it: which of its two videos is A. first: the subject's, or of a check the intact one."""

    pair: str
    first_is_a: bool


def choose(opponents: Sequence[str], samples: Sequence[str], pairs: int, seed: int) -> list[tuple[str, str]]:
    """(opponent, sample) of each pair: opponents equally often, samples too, no combination twice.

    One sample after the other: a rater who met the subject's video again in the next pair would know it. Raises ValueError
    if there are not so many combinations.
    """
    most = len(opponents) * len(samples)
    if pairs > most:
        raise ValueError(
            f"pairs={pairs} is more than there are: {len(opponents)} runs beside the subject, {len(samples)} videos that all "
            f"of them have, so at most pairs={most}"
        )
    if pairs < len(opponents):
        raise ValueError(f"pairs={pairs} is less than one for each of the {len(opponents)} runs beside the subject")
    shuffled = random.Random(f"samples {seed}").sample(samples, len(samples))
    cycle = math.lcm(len(opponents), len(samples))
    return [
        (opponents[n % len(opponents)], shuffled[(n + n // cycle) % len(samples)])
        for n in range(pairs)
    ]  # fmt: skip


def orders(opponent_of: dict[str, str], checks: Sequence[str], raters: int, seed: int) -> list[list[Shown]]:
    """What each rater sees. opponent_of: {pair: opponent}; checks: names of the attention checks.

    Two raters after each other have opposite sides, and orders of their own; a check is never the first.
    """
    found = []
    for rater in range(raters):
        draw = random.Random(f"sides {seed} {rater // 2}")
        sides = dict(zip(checks, halves(len(checks), draw, draw.random() < 0.5), strict=True))
        extra = draw.random() < 0.5
        for opponent in dict.fromkeys(opponent_of.values()):
            own = [pair for pair, of in opponent_of.items() if of == opponent]
            sides |= zip(own, halves(len(own), draw, extra), strict=True)
            extra ^= bool(len(own) % 2)
        order = random.Random(f"order {seed} {rater}")
        shown = order.sample(list(opponent_of), len(opponent_of))
        for check in checks:
            shown.insert(order.randint(1, len(shown)), check)
        found.append([Shown(pair, sides[pair] ^ bool(rater % 2)) for pair in shown])
    return found


def halves(count: int, draw: random.Random, extra: bool) -> list[bool]:
    """As many true as false in random order; of an odd number one more of `extra`."""
    values = [*itertools.islice(itertools.cycle((extra, not extra)), count)]
    draw.shuffle(values)
    return values
