"""By which code, and of which weights, the videos of a table are: what a reviewer asks of rows that stand side by side.

Nothing is refused: a run goes on after a pull, and rows of two generators have weights of their own. A leaderboard keeps
weights apart (board.settings).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepforcing.runs import canonical_json
from experiments.results.runs import Run
from experiments.tables.words import plural

DIGITS = 10  # of a commit, and of a file's sha256
FEW = 6  # rows are named, but the longest of longer lists
DIRTY = "uncommitted changes"


def version_notes(runs: Sequence[Run]) -> list[str]:
    """A sentence where the videos are of several versions of the code, or of one that nobody can check out; one where rows are
    of different weights. Both name the rows. runs: with the samples that the table is of; without any they say nothing."""
    of_code: dict[str, dict[str, int]] = {}
    for run in runs:
        for sample in run.samples:
            counts = of_code.setdefault(code(sample.get("environment") or run.record.get("environment") or {}), {})
            counts[run.label] = counts.get(run.label, 0) + 1
    videos = {run.label: len(run.samples) for run in runs}
    found = []
    if len(of_code) > 1:
        rows = {name: [row(n, label, videos[label]) for label, n in of.items()] for name, of in of_code.items()}
        found.append(f"Videos were made by different versions of the code: {parted(rows)}.")
    elif of_code and DIRTY in (only := next(iter(of_code))):
        found.append(f"All videos were made by {only}.")
    return [*found, *weights_note([run for run in runs if run.samples])]


def code(environment: Mapping[str, Any]) -> str:
    """ "1a2b3c4d5e", "1a2b3c4d5e with uncommitted changes", or the package's version where there is no checkout."""
    if commit := environment.get("git_commit"):
        return f"{str(commit)[:DIGITS]}{f' with {DIRTY}' if environment.get('git_dirty') else ''}"
    version = (environment.get("packages") or {}).get("deepforcing")
    return f"package {version}, no commit recorded" if version else "a version that was not recorded"


def row(count: int, label: str, videos: int) -> str:
    return label if count == videos else f"{count} of {plural(videos, 'video')} of {label}"


def weights_note(runs: Sequence[Run]) -> list[str]:
    """Of the parts of the models' identities that differ. Of rendered videos, which no model made, nothing is said."""
    models = [(run.label, (run.record.get("identity") or {}).get("model")) for run in runs]
    known = [(label, model) for label, model in models if isinstance(model, dict)]
    parts = dict.fromkeys(part for _, model in known for part in model)
    differ = [part for part in parts if len({canonical_json(model.get(part)) for _, model in known}) > 1]
    of: dict[str, list[str]] = {}
    for label, model in known:
        of.setdefault(", ".join(f"{part.replace('_', ' ')} {short(model.get(part))}" for part in differ), []).append(
            label
        )
    return [f"Rows are of different models: {parted(of)}."] if differ else []


def short(value: object) -> str:
    """The first digits of a digest, alone or in a record of more."""
    if isinstance(value, dict):
        value = value.get("sha256", canonical_json(value))
    return "none" if value is None else str(value)[:DIGITS]


def parted(rows: Mapping[str, Sequence[str]]) -> str:
    """ "x (a, b); y (all others)"."""
    longest = max(rows, key=lambda name: len(rows[name]))
    told = {name: ", ".join(labels) for name, labels in rows.items()}
    if len(rows[longest]) > FEW and len(rows) > 1:
        told[longest] = "all others"
    return "; ".join(f"{name} ({labels})" for name, labels in told.items())
