"""The tidy table for tables and trackers: scores of run directories and of scored folders, named by protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from deepforcing.records import SCHEMA, Strict, Text, check_name, first_problem, read_object
from eval.protocol import NAMES, Protocol
from eval.score_files import read_scores as read_score_file
from eval.store import stored
from eval.videos import open_run
from experiments.tables.runs import Run

COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
SCORES = "scores.parquet"  # in a scored folder: what evaluate videos=... out=DIR writes


def scored_folder(path: Path) -> Run:
    """A folder of scores without run records as a run that has nothing but its name. Raises ValueError if it is none."""
    check_name(path.resolve())
    if not (path / SCORES).is_file():
        raise ValueError(f"{path} is no scored folder: it has no {SCORES} (evaluate videos=DIR out={path} writes it)")
    return Run(path, path.resolve().name, {}, ())


def read_scores(runs: Sequence[Run], window_seconds: float) -> pd.DataFrame:
    """COLUMNS and weights_sha256 of all runs and scored folders. window_seconds: of the protocol `windows`.

    weights_sha256 is NaN where a folder does not say it. Raises ValueError if scores are unreadable.
    """
    opened = [open_run(run.path) for run in runs if run.record]
    parts = [stored(opened, None, Protocol(name, window_seconds)) for name in NAMES]
    parts += [read_folder(run) for run in runs if not run.record]
    columns = [*COLUMNS, "weights_sha256"]
    parts = [part[columns] for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def read_folder(folder: Run) -> pd.DataFrame:
    """Of what evaluate videos=... out=DIR wrote. Raises ValueError if it is unreadable."""
    rows = read_score_file(folder.path / SCORES, COLUMNS[1:])
    known = weights_of(folder.path / "summary.json")
    pairs = zip(rows["metric"], rows["protocol"], strict=True)
    return rows.assign(run=folder.name, weights_sha256=[known.get(pair, math.nan) for pair in pairs])


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


def check_windows(table: pd.DataFrame, window_seconds: float) -> None:
    """ValueError if the windows of a scored folder are of another length; runs keep all lengths apart.

    table: of the protocol `windows`. A series' first window has that length, where a second one follows; rows of whole
    videos have none.
    """
    table = table[table["value"].notna()]
    series = ["run", "sample", "metric"]
    followed = table[table["t_start"] > 0].set_index(series).index
    first = table[(table["t_start"] == 0) & table.set_index(series).index.isin(followed)]
    for run, rows in first.groupby("run"):
        length = float(rows["t_end"].median())
        if abs(length - window_seconds) > 0.25 * window_seconds:  # they are rounded to frames
            raise ValueError(
                f"{run} has windows of about {length:.3g} s, not {window_seconds:g}: say window_seconds={length:.3g}"
            )
