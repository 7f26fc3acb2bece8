"""Scores in parquet, and lines of JSON that wait to go there, written and read back: what is read was checked.

A table is tidy: texts (run, sample, metric, protocol, digests), whole numbers (version) and numbers (times in seconds, value,
frames of the clip; NaN in value and frames: not measured, not known). Files say the number of their schema; those written
before they did count as the first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from deepforcing.records import printable

SCHEMA = 1
KEY = b"deepforcing_scores"  # of the file's metadata
MOST_ROWS = 10_000_000
MOST_BYTES = 1 << 30  # of the columns that are read, unpacked
MOST_WAITING = 1_000_000  # rows in lines
MOST_TEXTS = 1_000_000
LONGEST_TEXT = 1000
TEXTS = ("run", "sample", "metric", "protocol", "video_sha256", "weights_sha256", "prompt_sha256")
LIMITS = {  # least, most
    "version": (0, 1e6), "t_start": (0, 1e9), "t_end": (0, 1e9), "window_seconds": (0, 1e9),
    "value": (-1e15, 1e15), "frames": (0, 1e12),
}  # fmt: skip
MAY_BE_UNKNOWN = ("value", "frames")


def write_scores(rows: pd.DataFrame, file: IO[bytes]) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: str(SCHEMA).encode()}), file)


def rows_in(path: Path) -> int:
    """How many rows a table has, by its footer. Raises ValueError as read_scores does."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def read_scores(path: Path, columns: Sequence[str], earlier: Mapping[str, object] | None = None) -> pd.DataFrame:
    """The columns asked for. earlier: values of those that older files lack.

    Raises ValueError naming the file, and the column where it is one, if it is no such table.
    """
    try:
        table = _checked_table(path, columns, earlier or {})
    except (OSError, pa.ArrowException, ValueError) as error:  # pyarrow's are of many kinds
        raise _unreadable(path, error) from None
    return table


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return ValueError(f"{path} is unreadable ({reason}); delete it and evaluate again")


def _checked_table(path: Path, columns: Sequence[str], earlier: Mapping[str, object]) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError("it is no file")
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        number = (schema.metadata or {}).get(KEY, b"1")
        if number != str(SCHEMA).encode():
            raise ValueError(f"schema {number.decode(errors='replace')[:20]}, this version reads schema {SCHEMA}")
        present = [column for column in columns if column in schema.names]
        lacking = [column for column in columns if column not in present and column not in earlier]
        if lacking:
            raise ValueError(f"it lacks the columns {', '.join(lacking)}")
        for column in present:
            _check_type(column, schema)
        if file.metadata.num_rows > MOST_ROWS:
            raise ValueError(f"it has {file.metadata.num_rows} rows, more than any scores")
        batches, size = [], 0
        for batch in file.iter_batches(columns=present):
            size += batch.nbytes
            if size > MOST_BYTES:
                raise ValueError("it unpacks to more than any scores")
            batches.append(batch)
        kept = pa.schema([schema.field(column) for column in present])
        table = pa.Table.from_batches(batches, batches[0].schema if batches else kept)
    found: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    check_rows(found)
    for column, value in earlier.items():
        if column not in found and column in columns:
            found[column] = value
    return found[list(columns)]


def line_of(rows: pd.DataFrame) -> bytes:
    """Rows as one line of JSON; a column that says the same everywhere says it once."""
    columns = {str(column): rows[column].tolist() for column in rows.columns}
    short = {name: values[0] if len(set(map(repr, values))) == 1 else values for name, values in columns.items()}
    return json.dumps({"schema": SCHEMA, "rows": len(rows), "columns": short}, ensure_ascii=False).encode() + b"\n"


def read_lines(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of such lines, with the number of each one's line, from 1 on, in the column `line`.

    What a killed process left of the last line counts for nothing. Raises ValueError as read_scores does.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError("it is larger than any scores")
        values: dict[str, list[object]] = {column: [] for column in (*columns, "line")}
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            told: list[object] = []
            for column, told in _of_line(line, columns, MOST_WAITING - len(values["line"])).items():
                values[column] += told
            values["line"] += [number] * len(told)
        found = pd.DataFrame(values)
        schema = pa.Schema.from_pandas(found, preserve_index=False)
        for column in columns if len(found) else ():
            _check_type(column, schema)
        check_rows(found)
        return found
    except (OSError, pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _unreadable(path, error) from None


def _of_line(line: bytes, columns: Sequence[str], most: int) -> dict[str, list[object]]:
    """The values of each column. most: rows; a short line can say a long one."""
    told = json.loads(line)
    if not isinstance(told, dict) or told.get("schema") != SCHEMA or not isinstance(told.get("columns"), dict):
        raise ValueError(f"a line is none of schema {SCHEMA}")
    count, values = told.get("rows"), told["columns"]
    if type(count) is not int or count < 1 or set(values) != set(columns):
        raise ValueError("a line has other columns than scores have")
    if count > most:
        raise ValueError(f"it has more than {MOST_WAITING} rows")
    found = {name: each if isinstance(each, list) else [each] * count for name, each in values.items()}
    if any(len(each) != count for each in found.values()):
        raise ValueError("a line has columns of several lengths")
    return found


def check_rows(found: pd.DataFrame) -> None:
    """Raises ValueError, naming the column, for what scores cannot be: endless numbers, line breaks, twice the same."""
    for column in set(found) & {*TEXTS, *LIMITS}:
        _check_values(column, found[column])
    if {"t_start", "t_end"} <= set(found) and not (found["t_start"] < found["t_end"]).all():
        raise ValueError("t_end is not after t_start everywhere")
    timed = {"protocol", "window_seconds"} <= set(found)
    if timed and ((found["protocol"] == "windows") & (found["window_seconds"] <= 0)).any():
        raise ValueError("window_seconds is 0 under the protocol windows")
    place = ("run", "sample", "metric", "version", "protocol", "window_seconds", "t_start", "t_end", "line")
    if found.duplicated([column for column in place if column in found]).any():
        raise ValueError("it holds a score twice")


def _check_type(column: str, schema: pa.Schema) -> None:
    if schema.names.count(column) > 1:
        raise ValueError(f"it has the column {column} twice")
    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if column in TEXTS:
        right, wanted = pa.types.is_string(kind) or pa.types.is_large_string(kind), "text"
    elif column == "version":
        right, wanted = pa.types.is_integer(kind), "whole numbers"
    else:
        right, wanted = pa.types.is_floating(kind) or pa.types.is_integer(kind), "numbers"
    if not right:
        raise ValueError(f"{column} should be {wanted}, not {str(kind)[:40]}")


def _check_values(column: str, values: pd.Series) -> None:
    if column in TEXTS:
        if values.isna().any():
            raise ValueError(f"{column} is missing in a row")
        texts = values.unique()
        if len(texts) > MOST_TEXTS:
            raise ValueError(f"{column} holds {len(texts)} texts, more than any scores")
        for text in texts:
            if len(text) > LONGEST_TEXT:
                raise ValueError(f"{column} holds a text of {len(text)} characters")
            if text:
                try:
                    printable(text)
                except ValueError as error:
                    raise ValueError(f"{column} {error}") from None
        return
    numbers = values.to_numpy(dtype=float, na_value=math.nan)
    if column not in MAY_BE_UNKNOWN and np.isnan(numbers).any():
        raise ValueError(f"{column} is missing in a row")
    least, most = LIMITS[column]
    if (numbers < least).any() or (numbers > most).any():
        raise ValueError(f"{column} is not within {least:g} to {most:g} everywhere")
