"""Per-video scores that others have published, read as they are: a csv with label, seed, prompt, then a column per metric.

So Dwell-Jing/commit-forcing publishes its scores of Wan2.1-1.3B rollouts (results/*.csv, commit 5ed65921): a line a video,
scores of 0 to 1, an empty cell for what was not scored; `prompt` is a number or a text, and where it is a text `index`
numbers it.
Nobody here has seen these videos, so the scores are marked as foreign and never stand in a table with others.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deepforcing.records import printable
from eval.metrics.vbench.quality import QUALITY, RANGES, quality

WHAT = ("label", "seed", "prompt")
INDEX = "index"
THEIRS = "quality"  # their column of VBench's Quality
PROTOCOL = "foreign"
EXACT = 1e-6  # of their Quality from their dimensions
MOST_BYTES = 1 << 28
LONGEST = 2000
COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value", "weights_sha256"]


@dataclass(frozen=True)
class Foreign:
    """table: COLUMNS, of all seeds; a run is a label. prompts: {(label, seed): its prompts}. metrics: in their order.

    said: where it comes from, in their words or the file's name; digest: the file's sha256. checked: lines whose Quality
    was found to follow from their dimensions; unchecked: those that have one and lack a dimension.
    """

    table: pd.DataFrame
    prompts: dict[tuple[str, int], frozenset[str]]
    metrics: tuple[str, ...]
    file: str
    digest: str
    said: str
    checked: int
    unchecked: int


def read_foreign(path: Path, source: str | None) -> Foreign:
    """The file's scores. source: of whom they are. Raises ValueError in one line, with the line's number where it is one."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {data.count(bytes([10]), 0, error.start) + 1}: is not UTF-8") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    lines: dict[tuple[str, int, str], tuple[int, list[float]]] = {}
    checked = unchecked = 0
    while True:
        line = rows.line_num + 1
        where = f"{path}, line {line}"
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise ValueError(f"{where}: {error}") from None
        if cells is None:
            break
        if not columns:
            columns = checked_columns(cells, path)
            metrics = [name for name in columns if name not in (*WHAT, INDEX)]
            continue
        if not any(cells):
            continue
        if len(cells) != len(columns):
            raise ValueError(f"{where}: has {len(cells)} cells, the first line {len(columns)}")
        told = dict(zip(columns, cells, strict=True))
        key = video_of(told, where)
        if key in lines:
            raise ValueError(f"{where}: label {key[0]}, seed {key[1]}, prompt {key[2]} is in line {lines[key][0]} too")
        values = {name: number_of(told[name], name, where) for name in metrics}
        lines[key] = (line, list(values.values()))
        if not math.isnan(values.get(THEIRS, math.nan)):
            known = all(not math.isnan(values.get(name, math.nan)) for name in RANGES)
            checked, unchecked = checked + known, unchecked + (not known)
            if known and abs(quality(values) - values[THEIRS]) > EXACT:
                raise ValueError(
                    f"{where}: {THEIRS} is {values[THEIRS]:.8g}, and {quality(values):.8g} follows from its seven dimensions"
                )
    if not lines:
        raise ValueError(f"{path} holds no scores: a line a video, {', '.join(WHAT)} and a column per metric")
    prompts: dict[tuple[str, int], set[str]] = {}
    for label, seed, prompt in lines:
        prompts.setdefault((label, seed), set()).add(prompt)
    return Foreign(
        tidy(lines, metrics),
        {key: frozenset(each) for key, each in prompts.items()},
        tuple(spoken(name) for name in metrics),
        path.name,
        hashlib.sha256(data).hexdigest(),
        source or path.name,
        checked,
        unchecked,
    )


def read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"scores={path} is no file: give a csv with {', '.join(WHAT)} and a column per metric")
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"scores={path} is larger than {MOST_BYTES >> 20} MB, which no table of scores is")
    return data


def checked_columns(cells: Sequence[str], path: Path) -> list[str]:
    columns = [cell.strip() for cell in cells]
    lacking = [name for name in WHAT if name not in columns]
    if lacking:
        raise ValueError(
            f"{path}, line 1: no column {', '.join(lacking)}; it needs {', '.join(WHAT)}, then metrics{hint(columns, lacking)}"
        )
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise ValueError(f"{path}, line 1: the column {twice[0]!r} is there twice")
    if not set(columns) - {*WHAT, INDEX}:
        raise ValueError(f"{path}, line 1: no column of a metric follows {', '.join(WHAT)}")
    for name in columns:
        checked_text(name, "the name of a column", f"{path}, line 1")
    return columns


def hint(columns: Sequence[str], lacking: Sequence[str]) -> str:
    """What may be wrong with a heading that lacks these."""
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        return ", with commas between the cells"
    if set(lacking) <= {name.lower() for name in columns}:
        return ", all in small letters"
    return ""


def checked_text(text: str, what: str, where: str) -> str:
    try:
        printable(text)
    except ValueError as error:
        raise ValueError(f"{where}: {what} {error}") from None
    if len(text) > LONGEST:
        raise ValueError(f"{where}: {what} has {len(text)} characters, the limit is {LONGEST}")
    return text.strip()


def video_of(told: dict[str, str], where: str) -> tuple[str, int, str]:
    """Label, seed, prompt. Equal prompt texts with different numbers are different videos."""
    label, prompt = (checked_text(told[name], name, where) for name in ("label", "prompt"))
    if not (told["seed"].strip().isascii() and told["seed"].strip().isdigit() and len(told["seed"].strip()) < 19):
        raise ValueError(f"{where}: seed {told['seed'][:40]!r} must be a whole number from 0 on")
    index = told.get(INDEX, "").strip()
    return label, int(told["seed"]), f"{index} {prompt}" if index else prompt


def number_of(cell: str, name: str, where: str) -> float:
    """NaN for an empty cell."""
    if not cell.strip():
        return math.nan
    try:
        value = math.nan if "_" in cell else float(cell)  # Python's float takes 0_1 for 1
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: {name} is {cell.strip()[:40]!r}, and scores are numbers from 0 to 1")
    return value


def spoken(name: str) -> str:
    """Their column's metric, as the tables here call it."""
    return QUALITY.name if name == THEIRS else name


def tidy(lines: dict[tuple[str, int, str], tuple[int, list[float]]], metrics: Sequence[str]) -> pd.DataFrame:
    keys = list(lines)
    parts = []
    for i, name in enumerate(metrics):
        values = [values[i] for _, values in lines.values()]
        part = {"run": [label for label, _, _ in keys], "sample": [f"{prompt}-s{seed}" for _, seed, prompt in keys]}
        parts.append(pd.DataFrame(part).assign(metric=spoken(name), value=values))
    table = pd.concat(parts, ignore_index=True)
    # How long a video was, and what scored it, the file does not say: one clip of any length, weights unknown.
    table = table.assign(version=0, protocol=PROTOCOL, t_start=0.0, t_end=1.0, weights_sha256=math.nan)
    return table[COLUMNS]
