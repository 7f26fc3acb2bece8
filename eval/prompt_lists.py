"""Lists of prompts for a folder of videos: by file name, or one prompt after the other in the order of the names.

A list never gives a video another one's prompt in silence: what can be read in two ways is refused, with what would be
clear. Names in a list may be paths, and may leave the ending out.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.csv_cells import bare
from eval.name_order import in_order

BY_NAME = (
    'a .json of {"file name": "prompt"}, a .csv or .tsv whose first line is video,prompt, or a .jsonl of '
    '{"video": "file name", "prompt": "a prompt"}'
)
FORMATS = f"{BY_NAME}, or a .txt with one prompt a line in the order of the file names, numbers by value"
VIDEO_COLUMNS = ("video", "file", "name", "path")


class Entry(NamedTuple):
    """A prompt and the name it is listed under. where: of the list, for messages."""

    where: str
    name: str
    prompt: str


Listed = tuple[list[str], list[Entry]]  # one of them is empty: prompts in order, or by name


def read_prompts(file: Path, videos: Sequence[Path], broken: Sequence[Path] = ()) -> tuple[dict[str, str], list[str]]:
    """{file name: prompt} for all of `videos`, and the names in the list that are none of them.

    broken: other files that are videos by their names. They have their places in an order, and need no prompt.

    Raises ValueError in one line, with the number of the line or row, if the list is not one of FORMATS, gives a video
    two prompts or none, or has an order that is not clear from the names. Prompts are not looked at: see eval.videos.Video.
    """
    if not file.is_file():
        raise ValueError(f"prompts={file} {'is no file' if file.exists() else 'does not exist'}; give {FORMATS}")
    if file.suffix.lower() not in READERS:
        kind = f"a {file.suffix} file" if file.suffix else "a file without an ending"
        raise ValueError(f"prompts={file}: {kind} is not understood; give {FORMATS}")
    data = file.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"prompts={file} is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"prompts={file} is not UTF-8 (line {line}, byte {error.start}); save it as UTF-8") from None
    try:
        texts, entries = READERS[file.suffix.lower()](text.replace("\r\n", "\n").replace("\r", "\n"))
        return (in_sequence(texts, [*videos, *broken]), []) if texts else by_name(entries, videos)
    except (ValueError, csv.Error) as error:  # json's own errors are kinds of these
        raise ValueError(f"prompts={file} cannot be read: {error}") from None
    except RecursionError:
        raise ValueError(f"prompts={file} cannot be read: it is nested too deeply; give {FORMATS}") from None


def in_sequence(prompts: Sequence[str], videos: Sequence[Path]) -> dict[str, str]:
    """One prompt after the other, for the files in the order of their names."""
    if len(prompts) != len(videos):
        raise ValueError(
            f"it has {len(prompts)} prompts for {len(videos)} videos and does not say which is whose; one a video is "
            f"needed, or {BY_NAME}"
        )
    for number, prompt in enumerate(prompts, start=1):  # "a.mp4, a cat" is a list by name that lost its ending
        if named := next((video.name for video in videos if plain(video.name) in plain(prompt)), None):
            raise ValueError(
                f"it goes by the order of the file names, and prompt {number} holds {shown(named)}; give {BY_NAME}"
            )
    try:
        ordered = in_order(videos)
    except ValueError as error:
        raise ValueError(f"it goes by the order of the file names, and {error}; give {BY_NAME}") from None
    return {video.name: prompt for video, prompt in zip(ordered, prompts, strict=True)}


def by_name(entries: Sequence[Entry], videos: Sequence[Path]) -> tuple[dict[str, str], list[str]]:
    """Each video's prompt by its name or, where no other video has it, its name without the ending."""
    names = {plain(video.name): video.name for video in videos}
    if len(names) < len(videos):
        twice = next(name for name, count in Counter(plain(video.name) for video in videos).items() if count > 1)
        raise ValueError(
            f"several files are called {shown(twice)} and differ in the bytes of an accent alone; rename one"
        )
    stems: dict[str, list[str]] = {}
    for video in videos:
        stems.setdefault(plain(video.stem), []).append(video.name)
    found: dict[str, Entry] = {}
    others = []
    for entry in entries:
        name = plain(last_part(entry.name))
        meant = [names[name]] if name in names else stems.get(name, [])
        if not meant:
            others.append(entry.name)
        if len(meant) > 1:
            raise ValueError(
                f"{entry.where}: {shown(name)} may be {' or '.join(map(shown, meant))}; write the ending too"
            )
        for known in meant:
            earlier = found.setdefault(known, entry)
            if earlier.prompt != entry.prompt:
                raise ValueError(f"{shown(known)} has two prompts, in {earlier.where} and in {entry.where}")
    missing = [shown(video.name) for video in videos if video.name not in found]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"it has no prompt for {', '.join(missing[:3])}{more}")
    return {name: entry.prompt for name, entry in found.items()}, others


def last_part(name: str) -> str:
    """Of a path, also one that was written on Windows."""
    return re.split(r"[/\\]", name)[-1]


def plain(name: str) -> str:
    """A name as it is compared: systems write accents as one letter or as two."""
    return unicodedata.normalize("NFC", name)


def shown(text: str) -> str:
    """A name in a message: one line, of what a terminal can show."""
    cut = text if len(text) <= 80 else f"{text[:77]}..."
    return cut if cut.isprintable() else ascii(cut)


def read_lines(text: str) -> Listed:
    return [line for line in text.split("\n") if line.strip()], []


def read_json(text: str) -> Listed:
    loaded = json.loads(text, object_pairs_hook=Pairs)
    if isinstance(loaded, Pairs):
        return [], [Entry(f"key {shown(name)}", name, as_text(value, f"key {shown(name)}")) for name, value in loaded]
    if not isinstance(loaded, list):
        raise ValueError(f"it holds neither names nor prompts; give {FORMATS}")
    if all(isinstance(item, str) for item in loaded):
        return loaded, []
    return [], [of_object(item, f"item {number}") for number, item in enumerate(loaded, start=1)]


def read_jsonl(text: str) -> Listed:
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entries.append(of_object(json.loads(line, object_pairs_hook=Pairs), f"line {number}"))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON ({error.msg})") from None
    return [], entries


class Pairs(list[tuple[str, Any]]):
    """The keys and values of a JSON object as they stand there, keys that come twice included."""


def of_object(item: Any, where: str) -> Entry:
    if not isinstance(item, Pairs):
        raise ValueError(f"{where} is no object; every row needs a video and a prompt")
    fields: dict[str, Any] = {}
    for key, value in item:
        if fields.setdefault(key, value) != value:
            raise ValueError(f"{where} has {shown(key)} twice")
    return of_fields(fields, where)


def of_fields(fields: Mapping[str, Any], where: str) -> Entry:
    """A row with a column video (or file, name, path; if several, they say the same) and a column prompt."""
    named = [as_text(fields[key], f"{where}, {key}") for key in VIDEO_COLUMNS if fields.get(key)]
    if not named or "prompt" not in fields:
        raise ValueError(f"{where}: every row needs a video and a prompt")
    if len({Path(last_part(name)).stem for name in named}) > 1:
        raise ValueError(f"{where} names several videos: {', '.join(map(shown, named))}")
    return Entry(where, named[0], as_text(fields["prompt"], f"{where}, prompt"))


def as_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is no text but {shown(json.dumps(value))}")
    return value


def read_table(text: str, separator: str) -> Listed:
    """Rows under a header, each as long as it: a caption whose comma is not quoted makes a longer one.

    Apostrophes before what looks like a formula are taken off, so that evaluate's own videos.csv is a list too.
    """
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a long caption costs its video, not the list
    try:
        rows = list(numbered(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)))
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise ValueError("it is empty")
    first, header = rows[0][0], [cell.strip().casefold() for cell in rows[0][1]]
    columns = [cell for cell in header if cell in (*VIDEO_COLUMNS, "prompt")]
    if "prompt" not in columns or len(columns) < 2:
        comma = "" if separator == "\t" or len(header) > 1 else " (columns are separated by commas)"
        raise ValueError(
            f"line {first} must name the columns, one of {', '.join(VIDEO_COLUMNS)} and prompt; it is "
            f"{shown(separator.join(rows[0][1]))}{comma}"
        )
    if len(set(columns)) < len(columns):
        raise ValueError(f"line {first} names a column twice")
    entries = []
    for line, row in rows[1:]:
        if len(row) != len(header):
            kept = (
                "a prompt with a comma in it must stand in double quotes"
                if len(row) > len(header)
                else "some are missing"
            )
            raise ValueError(f"line {line} has {len(row)} columns, the first line has {len(header)}: {kept}")
        entries.append(of_fields(dict(zip(header, map(bare, row), strict=True)), f"line {line}"))
    return [], entries


def numbered(rows: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with the line they begin in. Raises ValueError, with it, for quotes that do not fit."""
    line = 1
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {line}: {error}; a cell with quotes in it must stand in quotes, each doubled") from None


READERS: Mapping[str, Callable[[str], Listed]] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".csv": lambda text: read_table(text, ","),
    ".tsv": lambda text: read_table(text, "\t"),
    ".txt": read_lines,
}
