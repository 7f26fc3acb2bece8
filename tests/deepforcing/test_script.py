"""Prompt schedules: what a line means, where its prompts begin, and what is refused."""

from __future__ import annotations

import pytest

from deepforcing.geometry import Geometry
from deepforcing.script import Cue, chunk_starts, is_schedule, parse

G = Geometry()


@pytest.mark.parametrize(
    ("line", "cues"),
    [
        ("a red disc", [("a red disc", 0, None)]),
        ("a sign that says [stop]", [("a sign that says [stop]", 0, None)]),
        ("A [10s] | B", [("A", 0, 10), ("B", 10, None)]),
        ("A[ 2.5 s ]|B [1s]| C [3s]", [("A", 0, 2.5), ("B", 2.5, 3.5), ("C", 3.5, 6.5)]),
        ("A [0s-4s] | B [4s-6s] | C", [("A", 0, 4), ("B", 4, 6), ("C", 6, None)]),
        ("A [5s] | B [5s-7s]", [("A", 0, 5), ("B", 5, 7)]),
        ("A [60s]", [("A", 0, 60)]),
        ("he said [so] [5s] | B", [("he said [so]", 0, 5), ("B", 5, None)]),
    ],
)
def test_parse(line: str, cues: list[tuple[str, float, float | None]]) -> None:
    assert parse(line) == tuple(Cue(*cue) for cue in cues)
    assert is_schedule(line) == (line not in ("a red disc", "a sign that says [stop]"))


WRONG = {
    "A | B": r"part 1 .*'A'\) must end with how long it holds",
    "A [5s] | B [soon] | C": r"part 2 .*must end with how long",
    "A [5s] | B [soon]": r"part 2 .*must end with how long",
    "A [5s] | B [-5s]": r"part 2 .*must end with how long",
    "A [5s] | | B": r"part 2 .*has no prompt",
    "A [5s] |": r"part 2 .*has no prompt",
    "[5s] | B": r"part 1 .*has no prompt",
    "A [0s] | B": r"must last longer than 0 s",
    "A [5s] | B [9s-7s]": r"part 2 .*ends at 7 s and begins at 9 s",
    "A [5s] | B [4s-7s]": r"part 2 .*begins at 4 s and overlaps the part before, which holds until 5 s",
    "A [5s] | B [6s-7s]": r"leaves a gap: it must begin at 5 s",
    "A [1s-5s] | B": r"part 1 .*leaves a gap: it must begin at 0 s",
}


@pytest.mark.parametrize("line", WRONG)
def test_refused_lines(line: str) -> None:
    with pytest.raises(ValueError, match=WRONG[line]) as caught:
        parse(line)
    assert "\n" not in str(caught.value)


def test_chunk_starts_are_those_of_videos_of_that_length() -> None:
    """A prompt of 5 s lasts as long as a video of 5 s does: 21 latent frames."""
    total = G.latent_frames(60, 3)
    assert chunk_starts(parse("A [5s] | B [5s-30s] | C"), G, 3, total) == {0: "A", 21: "B", 120: "C"}
    assert chunk_starts(parse("A [5s] | B [55s]"), G, 3, total) == {0: "A", 21: "B"}
    assert chunk_starts(parse("A"), G, 3, total) == {0: "A"}
    assert chunk_starts(parse("A [1s] | B"), G, 1, 21) == {0: "A", 5: "B"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("A [5s] | B [60s]", r"ends at 65 s and so runs past the end of a video of 59\.8 s"),
        ("A [5s] | B [30s]", r"ends at 35 s and so ends before a video of 59\.8 s; leave the last part's time off"),
        ("A [60s] | B", r"part 2 .*begins at 60 s, past the end"),
        ("A [90s] | B [90s-95s]", r"part 2 .*begins at 90 s, past the end"),
        ("A [0.1s] | B [0.2s] | C", r"parts 2 and 3 .*begin in one chunk; each must last at least 0\.75 s"),
    ],
)
def test_schedules_that_do_not_fit_the_video(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        chunk_starts(parse(line), G, 3, 240)
