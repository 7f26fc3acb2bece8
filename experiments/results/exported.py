"""A result folder that travels: of any number of runs the run.json, the scores of every video, and checksums; no videos.

    <folder>/<run>/run.json    the run's record, without the command and paths of the machine that made it
    <folder>/videos.csv        a line a video: what it shows, how it was made, what it cost, the sha256 of its file
    <folder>/scores.parquet    tidy: a line a video, metric and clip
    <folder>/costs.parquet     tidy: a line a video and kind of cost (cost.py)
    <folder>/croissant.json    what the folder is, for search engines and reviewers (croissant.py)
    <folder>/SHA256SUMS        of all of these, as `sha256sum -c` reads it; a folder without it is not whole

Checksums find what was damaged or edited, not who edited it: whoever changes a file can change its sum. So tables say the
folder's digest, which is the sha256 of SHA256SUMS, and who publishes a folder can publish that.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepforcing.prompts import Prompt
from deepforcing.records import SCHEMA, SampleRecord, check, check_place, read_run
from deepforcing.video import sha256_file
from eval.csv_cells import bare
from eval.score_files import read_scores as read_score_file
from experiments.results.runs import SUMS, Run, labelled

SCORES, COSTS, VIDEOS, ABOUT = "scores.parquet", "costs.parquet", "videos.csv", "croissant.json"
COST_COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
SCORE_COLUMNS = [*COST_COLUMNS, "weights_sha256", "window_seconds"]
TEXTS = ("run", "sample", "prompt_id", "prompt", "sha256")
WHOLE = (
    "seed",
    "frames",
    "width",
    "height",
    "latent_frames",
    "chunk_frames",
    "batch",
    "peak_memory_bytes",
    "cache_bytes",
)
NUMBERS = ("fps", "seconds", "wall_seconds")
MAY_LACK = {*WHOLE, *NUMBERS} - {"seed", "frames", "fps"}
MOST_BYTES = 1 << 28  # of SHA256SUMS or videos.csv


def is_exported(folder: Path) -> bool:
    return (folder / SUMS).is_file()


def read_exported(folder: Path) -> list[Run]:
    """Its runs, after every file was held against its checksum.

    Raises ValueError in one line for a folder that is none, is not whole, or was changed since.
    """
    sums = checked_sums(folder)
    lacking = [name for name in (VIDEOS, SCORES, COSTS, ABOUT) if name not in sums]
    records = [Path(name) for name in sums if re.fullmatch(r"[^/]+/run\.json", name)]
    if lacking or not records:
        raise ValueError(f"{folder / SUMS} does not list {lacking[0] if lacking else 'a run.json'}: export again")
    samples = read_videos(folder / VIDEOS)
    unknown = set(samples) - {record.parent.name for record in records}
    if unknown:
        raise ValueError(f"{folder / VIDEOS} has videos of {min(unknown)}, whose run.json is not there")
    runs = []
    for record in records:
        path = folder / record.parent
        told = read_run(path)
        runs.append(Run(path, path.name, told, tuple(samples.get(path.name, ())), exported=folder))
    return labelled(runs)


def checked_sums(folder: Path) -> dict[str, str]:
    """{file: sha256} of SHA256SUMS, each of them found to be so."""
    path = folder / SUMS
    if not path.is_file():
        raise ValueError(f"{folder} is no exported folder: it has no {SUMS} (experiments.export writes it)")
    sums = {}
    for number, line in enumerate(read_text(path, folder).splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  ([^\0]+)", line)
        if not match or match[2].startswith("/") or ".." in Path(match[2]).parts or match[2] in sums:
            raise ValueError(f"{path}, line {number}: must be a sha256, two spaces and a file's name, each once")
        sums[match[2]] = match[1]
    for name, wanted in sums.items():
        check_place(folder / name, folder)
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing, and {SUMS} lists it: get the folder again")
        if sha256_file(folder / name) != wanted:
            raise ValueError(f"{folder / name} was changed: its sha256 is not the one in {SUMS}")
    return sums


def digest_of(folder: Path) -> str:
    """The sha256 of SHA256SUMS: of everything in the folder."""
    return hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()


def read_text(path: Path, folder: Path) -> str:
    check_place(path, folder)
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} is larger than any such file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start})") from None


def read_videos(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The samples of each run, in the form of their records. Raises ValueError naming the line."""
    rows = csv.reader(io.StringIO(read_text(path, path.parent), newline=""))
    columns = next(rows, [])
    if columns != [*TEXTS, *WHOLE, *NUMBERS]:
        raise ValueError(f"{path}: its first line must be {','.join((*TEXTS, *WHOLE, *NUMBERS))}")
    found: dict[str, list[dict[str, Any]]] = {}
    known = set()
    for cells in rows:
        where = f"{path}, line {rows.line_num}"
        if len(cells) != len(columns):
            raise ValueError(f"{where}: has {len(cells)} cells, the first line {len(columns)}")
        told = dict(zip(columns, cells, strict=True))
        sample: dict[str, Any] = {"schema": SCHEMA, **{name: bare(told[name]) for name in TEXTS}}
        for names, kind in ((WHOLE, int), (NUMBERS, float)):
            for name in names:
                try:
                    sample[name] = None if told[name] == "" and name in MAY_LACK else kind(told[name])
                except ValueError:
                    raise ValueError(f"{where}: {name} is no number") from None
        run, sample["video"] = sample.pop("run"), f"{sample['sample']}.mp4"
        check(SampleRecord, sample, Path(where))
        if (
            Prompt(sample["prompt"]).id != sample["prompt_id"]
            or sample["sample"] != f"{sample['prompt_id']}-s{sample['seed']}"
        ):
            raise ValueError(f"{where}: the sample's name is not that of its prompt and seed")
        if (run, sample["sample"]) in known:
            raise ValueError(f"{where}: the video {sample['sample']} of {run} is there twice")
        known.add((run, sample["sample"]))
        found.setdefault(run, []).append(sample)
    return found


def exported_scores(runs: Sequence[Run]) -> pd.DataFrame:
    """SCORE_COLUMNS of the videos of exported runs. Raises ValueError if a file is unreadable."""
    return exported_rows(runs, SCORES, SCORE_COLUMNS)


def exported_costs(runs: Sequence[Run]) -> pd.DataFrame:
    """COST_COLUMNS, likewise."""
    return exported_rows(runs, COSTS, COST_COLUMNS)


def exported_rows(runs: Sequence[Run], file: str, columns: list[str]) -> pd.DataFrame:
    parts = []
    for folder in dict.fromkeys(run.exported for run in runs if run.exported):
        names = [run.name for run in runs if run.exported == folder]
        rows = read_score_file(folder / file, columns)
        parts.append(rows[rows["run"].isin(names)])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
