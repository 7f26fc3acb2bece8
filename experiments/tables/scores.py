"""The tidy table for tables and trackers: scores of run directories and of scored folders, named by protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eval.protocol import NAMES, Protocol
from eval.store import load_scores
from experiments.tables.runs import Run

COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
SCORES = "scores.parquet"  # in a scored folder: what evaluate videos=... out=DIR writes


def scored_folder(path: Path) -> Run:
    """A folder of scores without run records as a run that has nothing but its name. Raises ValueError if it is none."""
    if not (path / SCORES).is_file():
        raise ValueError(f"{path} is no scored folder: it has no {SCORES} (evaluate videos=DIR out={path} writes it)")
    return Run(path, path.resolve().name, {}, ())


def read_scores(runs: Sequence[Run], window_seconds: float) -> pd.DataFrame:
    """COLUMNS of all runs and scored folders. window_seconds: of the protocol `windows`."""
    folders = [run for run in runs if not run.record]
    paths = [run.path for run in runs if run.record]
    parts = [load_scores(paths, protocol=Protocol(name, window_seconds)) for name in NAMES]
    for folder in folders:
        try:
            rows = pd.read_parquet(folder.path / SCORES)
            lacking = [column for column in COLUMNS[1:] if column not in rows]
        except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
            raise ValueError(f"{folder.path / SCORES} is unreadable ({error}); evaluate again") from None
        if lacking:
            raise ValueError(f"{folder.path / SCORES} lacks the columns {', '.join(lacking)}; evaluate again")
        parts.append(rows.assign(run=folder.name))
    parts = [part[COLUMNS] for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
