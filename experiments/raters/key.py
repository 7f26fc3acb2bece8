"""The key of a study: which video is whose. It stays with whoever made the study; raters get the page alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from deepforcing.records import Count, Seconds, Sha256, Strict, Text, first_problem, read_object
from deepforcing.runs import atomic_write_json, canonical_json

KEY = "key.json"
Blind = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # name of a video in the page's folder, without .mp4
PairName = Annotated[str, Field(pattern=r"^p[0-9]{2,4}$")]


class Arm(Strict):
    """A run in the study. generator, cache: their names, by which published numbers are found."""

    run: Text
    label: Text
    generator: Text
    cache: Text
    model: Text


class Pair(Strict):
    """first: the subject's video; second: the opponent's. Of a check the intact one and its spoiled copy, and no opponent."""

    pair: PairName
    opponent: Text | None
    sample: Text
    prompt: Text
    first: Blind
    second: Blind
    sha256: tuple[Sha256, Sha256]


class Seen(Strict):
    pair: PairName
    a: Blind
    b: Blind


class Key(Strict):
    """raters: what each sees, in order."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    study: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    seed: Annotated[int, Field(ge=0)]
    seconds: Seconds
    subject: Arm
    opponents: Annotated[list[Arm], Field(min_length=1)]
    questions: Annotated[dict[Text, Text], Field(min_length=1)]
    pairs: Annotated[list[Pair], Field(min_length=1)]
    raters: Annotated[list[list[Seen]], Field(min_length=1)]
    videos: Count

    @property
    def by_name(self) -> dict[str, Pair]:
        return {pair.pair: pair for pair in self.pairs}


def study_id(content: Any) -> str:
    """Of everything that a rater's answer depends on: two studies never share one."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:12]


def write_key(folder: Path, key: Key) -> None:
    atomic_write_json(folder / KEY, key.model_dump(mode="json", by_alias=True))


def read_key(folder: Path) -> Key:
    """Raises ValueError if the folder holds no study, or a damaged key."""
    path = folder / KEY
    if not path.is_file():
        raise ValueError(
            f"study={folder} is no study: it has no {KEY} (python -m experiments.study make out={folder} makes one)"
        )
    try:
        return TypeAdapter(Key).validate_json(path.read_bytes())
    except ValidationError as error:
        read_object(path)  # says it better if it is no JSON
        raise ValueError(f"{path}: {first_problem(error)}; make the study again") from None
