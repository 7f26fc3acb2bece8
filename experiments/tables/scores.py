"""The tidy table for tables and trackers: scores of run directories and of scored folders, named by protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eval.protocol import NAMES, Protocol
from eval.store import same_weights, stored
from eval.videos import open_run, read_json
from experiments.tables.runs import Run

COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
SCORES = "scores.parquet"  # in a scored folder: what evaluate videos=... out=DIR writes


def scored_folder(path: Path) -> Run:
    """A folder of scores without run records as a run that has nothing but its name. Raises ValueError if it is none."""
    if not (path / SCORES).is_file():
        raise ValueError(f"{path} is no scored folder: it has no {SCORES} (evaluate videos=DIR out={path} writes it)")
    return Run(path, path.resolve().name, {}, ())


def read_scores(runs: Sequence[Run], window_seconds: float) -> pd.DataFrame:
    """COLUMNS of all runs and scored folders. window_seconds: of the protocol `windows`.

    Raises ValueError for scores that are unreadable, of windows of another length (folders; runs keep all lengths
    apart), or that cannot be compared because the weights were others.
    """
    opened = [open_run(run.path) for run in runs if run.record]
    parts = [stored(opened, None, Protocol(name, window_seconds)) for name in NAMES]
    parts += [read_folder(run, window_seconds) for run in runs if not run.record]
    parts = [part[[*COLUMNS, "weights_sha256"]] for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(parts, ignore_index=True)
    same_weights(table)
    return table[COLUMNS]


def read_folder(folder: Run, window_seconds: float) -> pd.DataFrame:
    """COLUMNS and weights_sha256, NaN where the folder's summary does not say it. Raises ValueError as read_scores."""
    file = folder.path / SCORES
    try:
        rows = pd.read_parquet(file)
        lacking = [column for column in COLUMNS[1:] if column not in rows]
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        raise ValueError(f"{file} is unreadable ({error}); evaluate again") from None
    if lacking:
        raise ValueError(f"{file} lacks the columns {', '.join(lacking)}; evaluate again")
    windows = rows[rows["protocol"] == "windows"]
    length = float((windows["t_end"] - windows["t_start"]).median()) if len(windows) else window_seconds
    if abs(length - window_seconds) > 0.25 * window_seconds:  # they are rounded to frames, and the last may be shorter
        raise ValueError(
            f"{file} has windows of about {length:.3g} s, not {window_seconds:g}: window_seconds={length:.3g}"
        )
    return rows.assign(run=folder.name, weights_sha256=rows["metric"].map(weights_of(folder.path / "summary.json")))


def weights_of(summary: Path) -> dict[str, str]:
    """{metric: sha256 of its weights} as a scored folder's summary tells it; empty if it tells nothing."""
    try:
        told = read_json(summary).get("about", {}).get("weights", {})
        return {str(name): str(value) for name, value in told.items()}
    except (ValueError, AttributeError):
        return {}
