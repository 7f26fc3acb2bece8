"""Writing a result folder that travels (exported.py says what is in it)."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepforcing.runs import atomic_write_json, atomic_write_text
from deepforcing.video import sha256_file
from eval.csv_cells import guarded
from eval.score_files import write_scores
from eval.store import stored
from eval.videos import open_run
from experiments.results.cost import costs
from experiments.results.croissant import croissant
from experiments.results.exported import (
    ABOUT,
    COST_COLUMNS,
    COSTS,
    NUMBERS,
    SCORE_COLUMNS,
    SCORES,
    TEXTS,
    VIDEOS,
    WHOLE,
    is_exported,
)
from experiments.results.runs import SUMS, Run


def export(runs: Sequence[Run], out: Path, metrics: Sequence[str] | None = None) -> Path:
    """Write the folder, whole or not at all; an earlier export at its place is replaced. metrics: None for all.

    Raises ValueError for runs without finished videos or without scores, and where something else is at its place.
    """
    check_place_of(out)
    if exported := [run for run in runs if run.exported]:
        raise ValueError(f"{exported[0].path} came in an exported folder: copy that")
    scores = stored([open_run(run.path) for run in runs], None, None)[SCORE_COLUMNS]
    if metrics is not None:
        lacking = [metric for metric in metrics if metric not in set(scores["metric"])]
        if lacking:
            raise ValueError(
                f"metrics={lacking[0]} was not scored; there are {', '.join(sorted(set(scores['metric'])))}"
            )
        scores = scores[scores["metric"].isin(metrics)]
    for run in runs:
        if not run.samples:
            raise ValueError(f"{run.path} has no finished videos")
        if run.name not in set(scores["run"]):
            raise ValueError(f"{run.path} has no scores: python -m experiments.evaluate runs={run.path}")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial-{secrets.token_hex(4)}")
    try:
        for run in runs:
            (partial / run.name).mkdir(parents=True)
            atomic_write_json(partial / run.name / "run.json", that_travels(run.record))
        atomic_write_text(partial / VIDEOS, videos_text(runs))
        for name, rows in ((SCORES, scores), (COSTS, costs(runs).table)):
            with open(partial / name, "wb") as file:
                write_scores(typed(rows).sort_values([*COST_COLUMNS[:5], "t_start"], ignore_index=True), file)
        files = [*(f"{run.name}/run.json" for run in runs), VIDEOS, SCORES, COSTS]
        sums = {name: sha256_file(partial / name) for name in files}
        sizes = {name: (partial / name).stat().st_size for name in files}
        atomic_write_json(partial / ABOUT, croissant(runs, sums, sizes))
        sums[ABOUT] = sha256_file(partial / ABOUT)
        atomic_write_text(partial / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        put(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """With the types that columns have when there are no rows, too."""
    kinds = {"version": "int64", **dict.fromkeys(("t_start", "t_end", "value", "window_seconds"), "float64")}
    return rows.astype({column: kinds.get(column, "string") for column in rows.columns})


def check_place_of(out: Path) -> None:
    """Raises ValueError if something is there that is no export."""
    if out.is_file():
        raise ValueError(f"out={out} is a file: name a folder")
    if out.is_dir() and any(out.iterdir()) and not is_exported(out):
        raise ValueError(
            f"out={out} holds other files: name a folder that is empty, not there yet, or an earlier export"
        )


def put(made: Path, out: Path) -> None:
    """A made folder in place of an earlier one."""
    old = out.with_name(f"{out.name}.old-{secrets.token_hex(4)}")
    if out.exists():
        os.rename(out, old)
    os.rename(made, out)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(old)


def that_travels(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record without what only tells of the machine: the command, and folders before names of files."""
    kept = {key: value for key, value in record.items() if key != "command"}

    def without_folders(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_folders(each) for key, each in value.items()}
        if isinstance(value, list):
            return [without_folders(each) for each in value]
        rooted = isinstance(value, str) and re.match(r"(/|~|[A-Za-z]:[\\/]|\\\\)", value) and " " not in value
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if rooted else value

    found: dict[str, Any] = without_folders(kept)
    return found


def videos_text(runs: Sequence[Run]) -> str:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    columns = [*TEXTS, *WHOLE, *NUMBERS]
    rows.writerow(columns)
    for run in runs:
        for sample in run.samples:
            cells = [{**sample, "run": run.name}.get(column) for column in columns]
            rows.writerow([guarded(cell) if isinstance(cell, str) else "" if cell is None else cell for cell in cells])
    return table.getvalue()
