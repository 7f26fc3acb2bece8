"""Words that tables and reports share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

# Metrics of the embedded worlds that are means over the frames in which something was found, whatever became of the others: by
# what that is, and the metric that says how often it was.
OF_THE_FOUND = {
    "sprite": ("presence", ("progress", "cover", "shape", "shape_match", "sprite_drift", "sprite_hue_error")),
    "subject": ("on_time", ("place_error", "identity_drift", "subject_shape", "recall_error")),
    "landmark": ("landmarks", ("pan_progress", "landmark_kept", "landmark_shape")),
}
INTERVALS = (
    "Intervals are 95 % intervals of the mean over prompts: Student's t, which takes prompts to be normally distributed; of "
    "what is 0 or 1 of a frame or clip Wilson's, and Tango's of its differences."
)

ONE_PROMPT = "one prompt: nothing here can be told from chance."


def marks(comparisons: int) -> str:
    """What bold and a star say in a table with so many tests."""
    plain = "bold: the interval excludes zero"
    if not comparisons:
        return plain
    return f"{plain}; *: also after Holm's adjustment for {_all_of(comparisons)}"


def _all_of(comparisons: int) -> str:
    return "the one comparison made here" if comparisons == 1 else f"all {comparisons} comparisons made here"


def found_only(metrics: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Of some metrics those that count only frames in which something was found: what, beside which metric to read them."""
    chosen = [(thing, beside, [m for m in metrics if m in of]) for thing, (beside, of) in OF_THE_FOUND.items()]
    return [each for each in chosen if each[2]]


def join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def runs_argument(paths: Sequence[str]) -> str:
    """`runs=[...]` as a shell needs it."""
    return shlex.quote(f"runs=[{','.join(paths)}]")
