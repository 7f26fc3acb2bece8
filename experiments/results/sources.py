"""Whatever has scores: run directories, exported folders (exported.py), scored folders (scores.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.results.exported import is_exported, read_exported
from experiments.results.runs import Run, labelled, read_runs
from experiments.results.scores import scored_folder


def read_sources(paths: Sequence[Path]) -> list[Run]:
    """In order; an exported folder is its runs. Raises ValueError for a path that is none of these, and if two runs have one
    name."""
    runs: list[Run] = []
    for path in paths:
        if (path / "run.json").is_file():
            runs += read_runs([path])
        else:
            runs += read_exported(path) if is_exported(path) else [scored_folder(path)]
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two of the runs and folders are called {', '.join(twice)}: rename one of them")
    return labelled(runs)
