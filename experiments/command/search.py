"""The keys of conf/search.yaml."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from experiments.command.values import (
    Any_,
    Dtype,
    Frames,
    Group,
    Keys,
    Many,
    Place,
    Prompts,
    Seconds,
    Text,
    Threads,
    Window,
    count,
)


class Search(Keys):
    model: Group
    generator: Group
    rollout: Annotated[list[Text], Field(description="a list of words for a rollout")]
    space: dict[str, Any] | None
    usual_space: Group
    budget: Frames
    trials: Many
    drift: Text
    motion: Text
    prune_at: Annotated[list[Seconds], Field(description="a list of seconds")]
    prune_after: Many
    prompts: Prompts
    first: Frames | None
    seconds: Seconds
    seeds: Any_
    ends: Seconds
    window_seconds: Window
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$", description="letters, digits, dashes")]
    sampler_seed: Annotated[int, count(2**31, 0)]
    runs_root: Place
    out: Place | None
    device: Text
    dtype: Dtype
    threads: Threads | None
