"""docs/policies.md says of every policy of conf/cache what it is: its length and what it reads are held against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from presets import NAMES, policy

from deepforcing.cache.ahead import long_video, plans
from deepforcing.cache.policy import Retention

PAGE = Path(__file__).parents[1] / "docs" / "policies.md"
CHUNK = 3
HEAD = "| `cache=` | source | licence | parity | positions | longest video | frames read | stored |"


def rows() -> dict[str, tuple[list[str], int]]:
    """By policy: its cells, and which of the row's names it is."""
    found = {}
    text = PAGE.read_text()
    for line in text[text.index(HEAD) :].split("\n\n")[0].splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for i, name in enumerate(re.findall(r"`([a-z_]+)`", cells[0])):
            assert name not in found, f"{name} has two rows"
            found[name] = cells, i
    return found


def read_by(retention: Retention) -> set[int]:
    """Frames that one query reads in a long video, by the plans."""
    every = [plan for _, plan in plans(retention, CHUNK, 2 * long_video(retention, CHUNK))]
    late = every[len(every) // 2 :]
    sees = [p.sees or (range(p.count if p.reads is None else len(p.reads)),) for p in late]
    return {len(frame) + CHUNK for plan in sees for frame in plan}


def test_every_preset_has_its_row_and_every_row_its_preset() -> None:
    assert set(rows()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_length_and_reads_are_the_codes(name: str) -> None:
    (_, source, licence, parity, _, longest, read, stored), at = rows()[name]
    made = policy(name)
    said = longest.split(";")[at if ";" in longest else 0].strip()
    limit = made.max_frames(CHUNK)
    assert said.split(" ")[0] == ("none" if limit is None else str(limit))
    if name == "keep_all":
        return
    assert licence or source.startswith("ours")
    assert parity
    assert stored
    rules = getattr(made.retention, "rules", (made.retention,))
    assert {int(number) for number in re.findall(r"\d+", read)} == set().union(*map(read_by, rules))
