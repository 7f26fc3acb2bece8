"""Scores on disk: one parquet file per metric and version, and what has come since in a file that grows.

<home>/scores/<metric>@<version>.parquet holds a tidy table of COLUMNS and KEYS and is replaced as a whole. One that is no
longer small is not written again for every video: rows are appended to <metric>@<version>.jsonl, a line a video, and go into
the table when they are as many as its own, or at the end (`settle`). Both are written under a lock and are on the disk when a
video counts as scored; readers see old or new but never half, and several processes can score one home. Rows are kept per
video, protocol and window length; rows of a video that has since been made anew, of other weights or of another prompt are
scored again; the first and the last are left out on reading.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pandas as pd

from deepforcing.records import check_place
from deepforcing.video import sync_directory
from eval import protocol as protocols
from eval.score_files import check_rows, line_of, read_lines, read_scores, rows_in, write_scores
from eval.videos import Videos, open_run
from eval.window_lengths import NAME as WINDOWS
from eval.window_lengths import choose_length, of_length

COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
# What a row was measured on and how; not part of the tidy table. prompt_sha256: "" where the metric looks at none, the
# set's digest where it compares videos. frames: of the clip, which VBench weighs some scores by.
KEYS = ["video_sha256", "weights_sha256", "prompt_sha256", "window_seconds", "frames"]
# Of files written before these were known.
EARLIER = {"protocol": "windows", "weights_sha256": "", "prompt_sha256": "", "frames": float("nan")}

LINES = ".jsonl"
SMALL = 500  # rows of a table that costs little to write again
LINE_BYTES = 45  # about what a row takes in a line with others


class Named(Protocol):
    """Any kind of metric, as far as its scores' place goes."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...


def scores_path(home: Path, name: str, version: int) -> Path:
    return home / "scores" / f"{name}@{version}.parquet"


def scores_files(home: Path) -> list[Path]:
    """The place of each table of a home, also of those that are a file of lines so far."""
    found = [path for ending in (".parquet", LINES) for path in (home / "scores").glob(f"[!.]*@*{ending}")]
    return sorted({path.with_suffix(".parquet") for path in found})


def name_and_version(path: Path) -> tuple[str, int]:
    """Of a scores file. ValueError if its name is not <metric>@<whole number>.parquet."""
    name, _, version = path.stem.rpartition("@")
    if not name or not re.fullmatch("[0-9]{1,6}", version):
        raise ValueError(f"{path} is not named <metric>@<version>.parquet; move it away")
    return name, int(version)


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a table, those that wait beside it included.

    Raises ValueError if one of the files is none, or a link that leaves the directory whose scores it has.
    """
    with reading(path.parent):
        return _rows(path)


def _rows(path: Path, *newest: pd.DataFrame) -> pd.DataFrame:
    """Each in place of earlier ones of its video, protocol and window length."""
    lines = path.with_suffix(LINES)
    for file in (path, lines):
        check_place(file, path.parent.parent)
    parts = [read_scores(path, COLUMNS + KEYS, EARLIER).assign(line=0)] if path.exists() else []
    parts += [read_lines(lines, COLUMNS + KEYS)] if lines.exists() else []
    parts += [rows.assign(line=2**31) for rows in newest]
    parts = [part for part in parts if len(part)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*COLUMNS, *KEYS, "line"])
    latest = rows.groupby(["sample", "protocol", "window_seconds"])["line"].transform("max")
    rows = rows[rows["line"] == latest].drop(columns="line").reset_index(drop=True)
    _, version = name_and_version(path)
    if not (rows["version"] == version).all():
        raise ValueError(f"{path} holds scores of another version than its name says; delete it and evaluate again")
    return rows


def of_protocol(rows: pd.DataFrame, protocol: protocols.Protocol | None) -> pd.DataFrame:
    """The rows that were scored under a protocol, with its length of windows; None: all known ones."""
    if protocol is None:
        return rows[rows["protocol"].isin(protocols.NAMES)]
    return rows[(rows["protocol"] == protocol.name) & (rows["window_seconds"] == protocol.length_key)]


def scored(path: Path, protocol: protocols.Protocol, weights_sha256: str) -> set[tuple[str, str, str]]:
    """(sample, video sha256, prompt sha256) of what a file holds for a protocol and weights; empty if there is no file."""
    if not path.exists() and not path.with_suffix(LINES).exists():
        return set()
    rows = of_protocol(read_rows(path), protocol)
    rows = rows[rows["weights_sha256"] == weights_sha256]
    return set(zip(rows["sample"], rows["video_sha256"], rows["prompt_sha256"], strict=True))


def add_rows(path: Path, rows: pd.DataFrame) -> None:
    """Put one video's rows into a table, in place of any that it has for the video, protocol and window length.

    Raises ValueError for rows that no reader would take, OSError if they cannot be written; what was there stays.
    """
    check_rows(rows)
    rows, lines = rows[COLUMNS + KEYS], path.with_suffix(LINES)
    with locked(path.parent), naming(path):
        size = rows_in(path) if path.exists() else 0
        if size <= SMALL:
            _write(path, _rows(path, rows))
            return
        check_place(lines, path.parent.parent)
        with open(lines, "ab") as file:
            whole = _whole_lines(lines)
            try:
                file.truncate(whole)
                file.write(line_of(rows))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)
                raise
        if lines.stat().st_size > LINE_BYTES * size:
            _write(path, _rows(path))


def settle(path: Path) -> None:
    """Write the rows that wait beside a table into it."""
    with locked(path.parent), naming(path):
        if path.with_suffix(LINES).exists():
            _write(path, _rows(path))


def _write(path: Path, rows: pd.DataFrame) -> None:
    """In place of the table and of the lines beside it. A kill in between leaves rows in both, and they are the same."""
    temporary = path.with_name(f".{path.name}.part")  # the lock's holder is its only writer
    try:
        temporary.unlink(missing_ok=True)  # of a killed process, or a link to what is somebody's
        with open(temporary, "xb") as handle:
            write_scores(rows, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if path.with_suffix(LINES).exists():
        sync_directory(path.parent)
        path.with_suffix(LINES).unlink()


def _whole_lines(lines: Path) -> int:
    """Bytes of a file up to the end of its last whole line: a killed process may have left a part of one."""
    data = lines.read_bytes() if not _ends_whole(lines) else None
    return lines.stat().st_size if data is None else data.rfind(b"\n") + 1


def _ends_whole(lines: Path) -> bool:
    with open(lines, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Of a full disk the system does not say which file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process dies, however it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    check_place(folder / ".lock", folder.parent)  # nothing is written through a link to somewhere else
    with open(folder / ".lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep writers out while the files of a table are read together. Where nobody has written, nobody is kept out."""
    check_place(folder / ".lock", folder.parent)
    try:
        handle = open(folder / ".lock", "rb")  # noqa: SIM115 (closed below)
    except OSError:
        yield
        return
    with handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def load_scores(
    run_dirs: Sequence[str | os.PathLike[str]],
    metrics: Sequence[Named] | None = None,
    protocol: protocols.Protocol | None = None,
) -> pd.DataFrame:
    """One tidy table (COLUMNS) of several runs under one protocol, sorted; NaN where a value could not be measured.

    metrics: only these, at their versions; None: of every metric the newest version that any of the runs has.
    protocol: if None `windows`, of the length that the runs have (eval.window_lengths). Whether all were scored by the same
    weights is not looked at, see other_weights. Raises ValueError if a scores file is unreadable.
    """
    table = stored([open_run(run) for run in run_dirs], metrics, protocol)
    if protocol is None:
        table = of_length(table[table["protocol"] == WINDOWS], choose_length(table))
    return table[COLUMNS].reset_index(drop=True)


def other_weights(table: pd.DataFrame) -> list[str]:
    """One line for each metric that not all runs were scored by with the same weights: its differences are the networks'.

    table: COLUMNS and weights_sha256, "" or NaN where there are none or nobody knows them, several joined by "+".
    """
    found = []
    known = table[table["weights_sha256"].notna() & (table["weights_sha256"] != "") & table["value"].notna()]
    for (metric, protocol), rows in known.groupby(["metric", "protocol"]):
        groups = rows.groupby("weights_sha256")["run"].unique()
        if len(groups) > 1 or "+" in groups.index[0]:
            names = "; ".join(", ".join(sorted(map(str, runs))) for runs in groups)
            found.append(
                f"{metric} ({protocol}) was scored with different weights files ({names}); evaluate all of them again with "
                f"protocol={protocol} and the same files"
            )
    return found


def stored(
    collections: Sequence[Videos],
    metrics: Sequence[Named] | None,
    protocol: protocols.Protocol | None,
    weights: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """As load_scores, of any videos, with KEYS beside COLUMNS; protocol None: all of them. weights: sha256 by metric, of
    those that have to match.

    Left out: rows of videos that have changed since or are said to show something else now, of other protocols and window
    lengths, of other versions, and of other `weights`.
    """
    files = [(group, path) for group in collections for path in scores_files(group.home)]
    versions = {metric.name: metric.version for metric in metrics or ()}
    if metrics is None:
        for _, path in files:
            name, version = name_and_version(path)
            versions[name] = max(version, versions.get(name, version))
    parts = []
    for group, path in files:
        name, version = name_and_version(path)
        if versions.get(name) != version:
            continue
        rows = of_protocol(read_rows(path), protocol)
        if weights and name in weights:
            rows = rows[rows["weights_sha256"] == weights[name]]
        shown = rows["sample"].map({video.name: video.sha256 for video in group.videos})
        said = rows["sample"].map({video.name: video.prompt_sha256 for video in group.videos})
        of_prompt = (
            rows["prompt_sha256"].eq("") | rows["prompt_sha256"].eq(said) | rows["prompt_sha256"].eq(group.digest)
        )
        rows = rows[rows["video_sha256"].eq(shown) & of_prompt]
        # The directory's name is the run's: it may have been renamed or copied since.
        parts.append(rows.assign(run=group.name))
    parts = [part for part in parts if len(part)]
    if not parts:
        numbers = ("t_start", "t_end", "value", "window_seconds")
        return pd.DataFrame(columns=COLUMNS + KEYS).astype(dict.fromkeys(numbers, float))
    table = pd.concat(parts, ignore_index=True)
    again = table.duplicated(["run", "sample", "metric", "protocol", "window_seconds", "t_start", "t_end"])
    if again.any():
        row = table[again].iloc[0]
        raise ValueError(f"{row['run']}: scores of {row['metric']} are in two files of its scores; delete one of them")
    return table.sort_values(["run", "metric", "sample", "t_start"], ignore_index=True)
