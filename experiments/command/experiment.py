"""The keys of an experiment of the paper: a file in conf/experiment/."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from experiments.command.values import Frames, Keys, Prompts, Seconds, Switch, Text


class ExperimentRow(Keys):
    """A row of conf/experiment/: words for a rollout, its place in the sweep, and what the paper printed."""

    label: Text
    rollout: Annotated[list[Text], Field(min_length=1, description="a list of words for a rollout")]
    at: Annotated[float, Field(allow_inf_nan=False, description="a number")] | None = None
    own_weights: Switch = False
    paper: Annotated[dict[str, float], Field(description="{metric: number, ...}")] | None = None


class Sweep(Keys):
    title: Text
    panels: Annotated[list[str], Field(description="a list of names, such as [a,b]")]


class Experiment(Keys):
    """conf/experiment/."""

    title: Text
    source: Text | None
    prompts_said: Text
    said: Text | None
    seconds: Seconds
    prompts: Prompts
    first: Frames | None
    tiny_prompts: Prompts
    published_prompts: Frames
    protocol: Text
    metrics: Annotated[dict[str, str], Field(description="{metric: mean, last, ..., or speed}")]
    baseline: Text
    sweep: Annotated[Sweep, Field(description="title and panels")] | None
    rows: Annotated[dict[str, Any], Field(min_length=1, description="rows by name")]
