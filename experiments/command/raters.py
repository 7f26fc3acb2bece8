"""The keys of what people and a judge are asked: experiments.study and experiments.judge."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from deepforcing.limits import LARGEST_SIZE
from experiments.command.values import Keys, Pixels, Place, Places, Seconds, Text, count


class Judge(Keys):
    runs: Places | None
    endpoint: Text | None
    vlm: Text | None
    key_variable: Text
    prompt: Text | None
    frames: Annotated[int, count(256)]
    size: Pixels
    tries: Annotated[int, count(100)]
    timeout: Seconds
    paper: Annotated[list[dict[str, Any]], Field(description="a list of {generator, cache, score}")]


class StudyMake(Keys):
    runs: Places | None
    out: Place
    subject: Text | None
    pairs: Annotated[int, count(1000)]
    checks: Annotated[int, count(100, 0)]
    raters: Annotated[int, count(10_000)]
    seed: Annotated[int, count(LARGEST_SIZE, 0)]
    title: Text


class StudyTable(Keys):
    study: Place
    answers: Places | None
    format: Text | None
    out: Place | None
    paper: Annotated[list[dict[str, Any]], Field(description="a list of {generator, cache, question: %}")]
