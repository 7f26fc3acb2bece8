"""Prompt suites of conf/suites/: lists of our own, and published lists that are not part of the repository.

A published list names its file, the sha256 of the whole file, which prompts of it are meant, and where it is fetched from. It
is looked for under <weights root>/prompts and taken only with that sha256.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from deepforcing.prompts import Prompt, load_prompts, prompts_from_texts
from deepforcing.wan.catalogue import weights_root
from deepforcing.wan.weights import sha256
from experiments.command import CONF


@dataclass(frozen=True)
class Published:
    """A list of prompts that others published.

    first: the prompts from its start that are meant; lines: the numbers of those lines that are, from 0, as they stand in
    the file; neither: all. Raises ValueError for both, and for numbers that are no lines or twice there.
    """

    suite: str
    file: str
    sha256: str
    url: str
    licence: str
    first: int | None = None
    lines: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.lines is None:
            return
        if self.first is not None:
            raise ValueError(f"suite {self.suite}: give first or lines, not both")
        if any(type(line) is not int or line < 0 for line in self.lines) or len(set(self.lines)) < len(self.lines):
            raise ValueError(f"suite {self.suite}: lines must be different whole numbers from 0")

    def local(self, root: Path) -> Path:
        return root / "prompts" / self.file

    def verify(self, path: Path) -> None:
        """Raises ValueError when the file is not, byte by byte, the published one."""
        found = sha256(path)
        if found != self.sha256:
            raise ValueError(
                f"{path} is not the published {self.file}: its sha256 begins {found[:12]}, not {self.sha256[:12]}; "
                "line ends changed by an editor or by git are enough"
            )

    def read(self, path: Path) -> list[Prompt]:
        self.verify(path)
        if self.lines is None:
            return load_prompts(path)[: self.first]
        texts = path.read_text(encoding="utf-8").split("\n")
        if max(self.lines) >= len(texts):
            raise ValueError(
                f"suite {self.suite}: {path} has {len(texts)} lines, so no line {max(self.lines)} (from 0)"
            )
        prompts = prompts_from_texts([texts[line] for line in self.lines])
        if len(prompts) < len(self.lines):
            raise ValueError(f"suite {self.suite}: some of its lines of {path} are empty or hold the same prompt")
        return prompts


def suite_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted((CONF / "suites").glob("*.yaml"))}


def published_suites() -> dict[str, Published]:
    found = {name: published_of(name, held(path)) for name, path in suite_files().items()}
    return {name: suite for name, suite in found.items() if suite is not None}


def held(path: Path) -> dict[str, Any]:
    """What a suite's file holds; {} if it is no mapping."""
    content = OmegaConf.to_container(OmegaConf.load(path))
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def published_of(name: str, fields: dict[str, Any]) -> Published | None:
    """None: a list of our own. Raises ValueError."""
    if "file" not in fields:
        return None
    if fields.get("lines") is not None:
        fields = fields | {"lines": tuple(fields["lines"])}
    try:
        return Published(suite=name, **fields)
    except TypeError:
        raise ValueError(
            f"{suite_files()[name]} must hold file, sha256, url, licence, and first or lines, nothing else"
        ) from None


def load_suite(name: str) -> list[Prompt]:
    """The prompts of a suite. Raises ValueError that says how to get a published one that is not there."""
    fields = held(suite_files()[name])
    published = published_of(name, fields)
    if published is None:
        texts = fields.get("prompts")
        if not isinstance(texts, list):
            raise ValueError(f"{suite_files()[name]} must hold prompts: a list of texts")
        return prompts_from_texts([str(text) for text in texts])
    path = published.local(weights_root())
    if not path.is_file():
        raise ValueError(
            f"prompts={name} needs {published.file}, which is not part of this repository: "
            f"python -m experiments.weights {name} download=true, or copy it to {path}"
        )
    return published.read(path)
