"""The files that raters send back: read strictly, because one that was cut off, edited or of another study says nothing."""

from __future__ import annotations

import csv
import glob
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.raters.design import CHECKED
from experiments.raters.key import Key

HEADER = ["study", "rater", "place", "pair", "question", "choice", "video", "seconds"]
LARGEST = 1 << 22  # bytes


@dataclass(frozen=True)
class Answers:
    """One rater's. first: {(pair, question): whether the pair's first video, the subject's, was chosen}. seconds: {pair: s}."""

    path: Path
    rater: int
    first: dict[tuple[str, str], bool]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Gathered:
    """answers: that count, by number of the rater. inattentive: numbers of those who failed a check, and why, a line each.
    problems: files that do not count, a line each."""

    answers: tuple[Answers, ...]
    inattentive: tuple[str, ...]
    problems: tuple[str, ...]


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Raises ValueError for a pattern that leads to nothing."""
    found: dict[Path, Path] = {}
    for pattern in patterns:
        matches = [Path(pattern)] if Path(pattern).is_file() else [Path(match) for match in sorted(glob.glob(pattern))]
        files = [match for match in matches if match.is_file()]
        if not files:
            raise ValueError(f"answers={pattern}: there is no such file; give what raters downloaded, answers-*.csv")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def gather(paths: Sequence[Path], key: Key) -> Gathered:
    """All files, each counted or left out with a line."""
    read: dict[int, list[Answers]] = defaultdict(list)
    problems = []
    for path in paths:
        try:
            answers = read_answers(path, key)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        read[answers.rater].append(answers)
    kept, inattentive = [], []
    for rater, files in sorted(read.items()):
        names = " and ".join(str(answers.path) for answers in files)
        if any(other.first != files[0].first for other in files):
            problems.append(f"rater {rater} answered twice, and differently: {names}; keep one of the files")
            continue
        if len(files) > 1:
            problems.append(f"rater {rater} is there {len(files)} times with the same answers: {names}; counted once")
        failed = [pair.pair for pair in key.pairs if pair.opponent is None and not files[0].first[pair.pair, CHECKED]]
        if failed:
            inattentive.append(
                f"rater {rater} preferred a spoiled video ({', '.join(failed)}) and is left out: {files[0].path}"
            )
        else:
            kept.append(files[0])
    return Gathered(tuple(kept), tuple(inattentive), tuple(problems))


def read_answers(path: Path, key: Key) -> Answers:
    """Raises ValueError in one line that names the file, and the line in it, for whatever this rater cannot have answered."""
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"{path} is too large for answers")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; send the file as it was downloaded") from None
    lines = list(csv.reader(text.splitlines()))
    if not lines or lines[0] != HEADER:
        raise ValueError(f"{path} is no file of answers: it does not begin with {','.join(HEADER)}")
    rows = lines[1:]
    other = next((row[0] for row in rows if row and row[0] != key.study and re.fullmatch("[0-9a-f]{12}", row[0])), None)
    if other is not None:
        raise ValueError(f"{path} holds answers of another study ({other}, this one is {key.study})")
    first: dict[tuple[str, str], bool] = {}
    seconds: dict[str, float] = {}
    raters = {row[1] for row in rows if len(row) > 1}
    wanted = len(key.pairs) * len(key.questions)
    for number, row in enumerate(rows, start=2):
        try:
            pair, question, chose_first, took = read_row(row, key)
            if (pair, question) in first:
                raise ValueError(f"answers {question} of {pair} a second time")
        except ValueError as error:
            cut = number == len(lines) and not text.endswith("\n")
            said = f"was cut off in line {number}" if cut else f"line {number}: {error}"
            raise ValueError(f"{path} {said}; download the answers again from the same browser") from None
        first[pair, question] = chose_first
        seconds[pair] = took
    if len(raters) > 1:
        raise ValueError(f"{path} holds answers of several raters: {', '.join(sorted(raters))}; give a file for each")
    if len(first) < wanted:
        raise ValueError(
            f"{path} was cut off: it has {len(first)} answers of {wanted}; download them again from the same browser"
        )
    return Answers(path, int(rows[0][1]), first, seconds)


def read_row(row: Sequence[str], key: Key) -> tuple[str, str, bool, float]:
    """(pair, question, whether its first video was chosen, seconds). Raises ValueError."""
    if len(row) != len(HEADER):
        raise ValueError(f"has {len(row)} cells, not {len(HEADER)}")
    study, rater, place, pair, question, choice, video, seconds = row
    if study != key.study:
        raise ValueError(f"study {study[:20]!r} is not {key.study}")
    if not re.fullmatch("[0-9]{1,5}", rater) or not 1 <= int(rater) <= len(key.raters):
        raise ValueError(f"rater {rater[:20]!r} is not a number from 1 to {len(key.raters)}")
    order = key.raters[int(rater) - 1]
    if not re.fullmatch("[0-9]{1,5}", place) or not 1 <= int(place) <= len(order):
        raise ValueError(f"place {place[:20]!r} is not a number from 1 to {len(order)}")
    seen = order[int(place) - 1]
    if seen.pair != pair:
        raise ValueError(f"rater {rater} saw {seen.pair} at place {place}, not {pair[:20]!r}")
    if question not in key.questions:
        raise ValueError(f"question {question[:20]!r} is not one of {', '.join(key.questions)}")
    if choice not in ("A", "B"):
        raise ValueError(f"choice {choice[:20]!r} is neither A nor B")
    if video != (seen.a if choice == "A" else seen.b):
        raise ValueError(f"video {video[:20]!r} was not at {choice}")
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", seconds):
        raise ValueError(f"seconds {seconds[:20]!r} is not a number")
    return pair, question, video == key.by_name[pair].first, float(seconds)
