"""The tidy table for tables and trackers: scores of run directories and of scored folders, named by protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from deepforcing.records import SCHEMA, Strict, Text, check_name, first_problem, read_object
from eval.metrics.vbench.quality import with_quality
from eval.protocol import Protocol
from eval.score_files import read_scores as read_score_file
from eval.store import stored
from eval.videos import open_run
from eval.window_lengths import NAME as WINDOWS
from eval.window_lengths import choose_length, length_of_rows, of_length, other_lengths, window_lengths
from experiments.results.exported import exported_scores
from experiments.results.runs import Run

COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
READ = [*COLUMNS, "weights_sha256", "window_seconds"]
SCORES = "scores.parquet"  # in a scored folder: what evaluate videos=... out=DIR writes


def scored_folder(path: Path) -> Run:
    """A folder of scores without run records as a run that has nothing but its name. Raises ValueError if it is none."""
    check_name(path.resolve())
    if not (path / SCORES).is_file():
        raise ValueError(f"{path} is no scored folder: it has no {SCORES} (evaluate videos=DIR out={path} writes it)")
    return Run(path, path.resolve().name, {}, ())


@dataclass(frozen=True)
class Scores:
    """table: COLUMNS and weights_sha256 under all protocols, `windows` of one length. window_seconds: that length. other:
    one line for each run that has windows of other lengths only."""

    table: pd.DataFrame
    window_seconds: float
    other: tuple[str, ...]


def read_scores(runs: Sequence[Run], window_seconds: float | None = None) -> Scores:
    """Of all runs and scored folders. window_seconds: of the protocol `windows`; None: what there is (eval.window_lengths).

    With VBench's Quality for every clip that has its seven dimensions (eval.metrics.vbench.quality). weights_sha256 is NaN
    where a folder does not say it. Raises ValueError if scores are unreadable.
    """
    own = [open_run(run.path) for run in runs if run.record and not run.exported]
    parts = [stored(own, None, None)[READ], exported_scores(runs)[READ]]
    parts = [part for part in parts if len(part)] or parts[:1]
    table = pd.concat(parts, ignore_index=True)
    known = {Protocol().window_seconds, *([window_seconds] if window_seconds else [])}
    known |= {length for lengths in window_lengths(table).values() for length in lengths}
    parts = [table]
    for run in runs:
        if not run.record:
            parts.append(read_folder(run, sorted(known)))
            known |= {length for lengths in window_lengths(parts[-1]).values() for length in lengths}
    parts = [part for part in parts if len(part)]
    every = pd.concat(parts, ignore_index=True) if parts else table
    length = choose_length(every, window_seconds)
    columns = [*COLUMNS, "weights_sha256"]
    table = of_length(every, length)[columns].reset_index(drop=True)
    return Scores(with_quality(table) if len(table) else table, length, tuple(other_lengths(every, length)))


def read_folder(folder: Run, lengths: Sequence[float]) -> pd.DataFrame:
    """READ of what evaluate videos=... out=DIR wrote. lengths: that its windows may have. Raises ValueError if it is
    unreadable."""
    rows = read_score_file(folder.path / SCORES, COLUMNS[1:])
    rows = rows.assign(window_seconds=length_of_rows(rows[rows["protocol"] == WINDOWS], lengths))
    known = weights_of(folder.path / "summary.json")
    pairs = zip(rows["metric"], rows["protocol"], strict=True)
    rows = rows.assign(run=folder.name, weights_sha256=[known.get(pair, math.nan) for pair in pairs])
    return rows[READ]


class About(Strict):
    """What a scored folder's summary says beside its numbers, as far as it is read."""

    weights: dict[Text, dict[Text, Text]] | None = None


class Summary(Strict):
    about: About | None = None


def weights_of(summary: Path) -> dict[tuple[str, str], str]:
    """{(metric, protocol): sha256 of the weights} as a scored folder's summary tells it; empty if there is none.

    Raises ValueError if it is damaged or of a later version.
    """
    if not summary.exists():
        return {}
    record = read_object(summary)
    try:
        Summary.model_validate(record)
    except ValidationError as error:
        raise ValueError(f"{summary}: {first_problem(error)}; evaluate again") from None
    about = record.get("about") or {}
    if about.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"{summary} has schema {str(about['schema'])[:40]}, this version reads schema {SCHEMA}")
    told = about.get("weights") or {}
    return {(name, protocol): value for protocol, of in told.items() for name, value in of.items()}
