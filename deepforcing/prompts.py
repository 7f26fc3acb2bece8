"""Prompts and the plan of samples: identity is content, never a position in a list or a file name."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

MAX_CHARACTERS = 2000
Item = TypeVar("Item")


@dataclass(frozen=True)
class Prompt:
    """One text to video prompt.

    Raises ValueError for empty text, more than MAX_CHARACTERS characters, control characters, line separators and lone
    surrogates: none of them is ever meant, and all of them break tables, pages or terminals further on.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("the prompt is empty")
        if len(self.text) > MAX_CHARACTERS:
            raise ValueError(f"the prompt has {len(self.text)} characters, the limit is {MAX_CHARACTERS}")
        for column, character in enumerate(self.text, start=1):
            if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
                raise ValueError(
                    f"the prompt has the control character U+{ord(character):04X} at character {column}; "
                    "replace it with a space"
                )

    @property
    def id(self) -> str:
        """First 10 hex digits of the sha256 of the UTF-8 text."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()[:10]


@dataclass(frozen=True)
class Sample:
    """One video to make: a prompt and a seed. Raises ValueError for a seed outside 0 <= seed < 2**63."""

    prompt: Prompt
    seed: int

    def __post_init__(self) -> None:
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed!r} must be a whole number from 0 to 2**63 - 1")

    @property
    def name(self) -> str:
        """Stem of the sample's files, `<prompt id>-s<seed>`."""
        return f"{self.prompt.id}-s{self.seed}"


def load_prompts(path: str | Path) -> list[Prompt]:
    """Read a UTF-8 text file with one prompt a line, whose name ends in .txt: a table or a .json is no such list.

    Blank lines and whitespace around a prompt are dropped, and so are repeats after the first. Raises ValueError,
    naming the file and the line, when there is no such file, its name ends otherwise, it is not UTF-8, it has no prompts,
    or one is not usable.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() != ".txt":
        raise ValueError(
            f"prompts are read from text files with one prompt a line, whose names end in .txt; {path} does not: a csv, json "
            "or yaml file would be taken line by line"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"cannot read prompts from {path}: {error.strerror}; give a UTF-8 text file with one prompt a line"
        ) from error
    try:
        text = data.decode("utf-8-sig")  # the signature: Windows editors write one
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} in line {line} (byte {error.start} of the file); "
            "save the file as UTF-8"
        ) from error
    # Not str.splitlines(): it also splits at separators that are to be reported, not obeyed.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return _distinct(((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1)), str(path))


def prompts_from_texts(texts: Sequence[str]) -> list[Prompt]:
    """The same as load_prompts, with the same checks, for texts that are already there."""
    return _distinct(((f"prompt {number}", text) for number, text in enumerate(texts, start=1)), "the list of prompts")


def plan_samples(prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Sample]:
    """Every prompt with every seed, prompts outermost; repeats are dropped. Raises ValueError when there are none."""
    plan = [Sample(prompt, seed) for prompt in prompts for seed in seeds]
    if not plan:
        raise ValueError(f"nothing to do: {len(prompts)} prompts x {len(seeds)} seeds; give at least one of each")
    return list(dict.fromkeys(plan))


def shard(plan: Sequence[Item], part: str) -> list[Item]:
    """Part `i/n` of a plan: the items i, i + n, i + 2n ...

    Every process slices the whole plan, before what is finished is dropped: that way the parts stay disjoint however
    far each of them has come. Raises ValueError unless 0 <= i < n.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", part)
    if match is None or not int(match[1]) < int(match[2]):
        raise ValueError(
            f"shard={part!r} must be i/n with 0 <= i < n and n below a million, for example 0/4, 1/4, 2/4 and 3/4"
        )
    return list(plan[int(match[1]) :: int(match[2])])


def _distinct(texts: Iterable[tuple[str, str]], source: str) -> list[Prompt]:
    prompts: dict[Prompt, None] = {}
    for where, text in texts:
        if not text.strip():
            continue
        try:
            prompts[Prompt(text.strip())] = None
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if not prompts:
        raise ValueError(f"{source} has no prompts: write one a line")
    return list(prompts)
