"""The keys of every command: which kind of value each takes, and its range. conf/<command>.yaml says what they mean.

pydantic checks them strictly: nothing is read as what it is not (`true` is no number, "maybe" is no yes). What the classes
of a config take (model, cache, generator) is checked against their own annotations by `kinds.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import BeforeValidator, Field

from deepforcing.limits import LARGEST_SIZE
from experiments.command.experiment import Experiment, ExperimentRow
from experiments.command.raters import Judge, StudyMake, StudyTable
from experiments.command.search import Search
from experiments.command.values import (
    Any_,
    Attention,
    Backend,
    Dtype,
    Frames,
    Grid,
    Group,
    Keys,
    Lengths,
    Many,
    NamedPoints,
    Names,
    Pixels,
    Place,
    Places,
    Prompts,
    Seconds,
    Switch,
    Text,
    Threads,
    Window,
    Words,
    checked,
    count,
    listed,
    number,
)


class Passes(Keys):
    device: Text
    dtype: Dtype
    backend: Backend
    attention: Attention
    lossy: Group
    threads: Threads | None


class Rollout(Passes):
    model: Group
    cache: Group
    generator: Group
    prompts: Prompts
    seconds: Seconds
    start_from: Place | None
    seeds: Any_
    name: Text | None
    label: Text | None
    runs_root: Place
    shard: Text
    batch: Annotated[int, count(256)]
    watch: Text | None
    latents: Annotated[Literal["keep", "drop"], Field(description="one of keep, drop")]
    tracker: Annotated[Literal["wandb"], Field(description="wandb")] | None


class Decode(Keys):
    model: Group
    runs: Places | None
    runs_root: Place
    label: Text | None
    device: Text
    threads: Threads | None


class Bench(Passes):
    model: Group
    cache: Group
    generator: Group
    chunks: Many
    repeats: Many
    from_start: Frames | None
    lengths: Lengths | None


class BenchEval(Keys):
    networks: Text
    metrics: Words
    package: Switch
    height: Pixels
    width: Pixels
    seconds: Seconds
    fps: Annotated[int, count(240)]
    videos: Many
    moves: Switch
    repeats: Many
    floor: Switch
    threads: Threads | None
    device: Text
    backend: Text
    out: Place | None


class Demo(Keys):
    model: Group
    caches: Words
    generators: Words
    prompts: Prompts
    seconds: Seconds
    seeds: Any_
    runs_root: Place
    out: Place
    title: Text | None
    jobs: Threads
    vbench: Any_


class Evaluate(Keys):
    runs: Places | None
    videos: Place | None
    prompts: Place | None
    out: Place | None
    metrics: Words | None
    protocol: Text
    clip_to_clip: Place | None
    extractors: Annotated[dict[str, str], Field(description="{metric: extractor, ...}")] | None
    window_seconds: Window
    device: Text
    backend: Text
    shard: Text | None


class Report(Keys):
    runs: Places | None
    out: Place
    title: Text | None
    baseline: Text | None
    ends: Seconds
    window_seconds: Window | None
    chief: Words
    common: Switch
    max_rows: Many
    page_megabytes: Annotated[float, number(0.1, 100_000)]


class Table(Keys):
    runs: Places | None
    folders: Places | None
    metrics: Words
    baseline: Text | None
    protocol: Text | None
    window_seconds: Window | None
    number: Text
    ends: Seconds
    common: Switch
    format: Text | None
    out: Place | None


class Export(Keys):
    runs: Places | None
    metrics: Words
    out: Place | None


class Leaderboard(Keys):
    experiment: Group
    runs: Places | None
    folders: Places | None
    scores: Place | None
    source: Text | None
    baseline: Text | None
    columns: Words | None
    ends: Seconds
    window_seconds: Window | None
    title: Text | None
    out: Place


class Figure(Keys):
    figure: Group
    runs: Places | None
    folders: Places | None
    out: Place


class Track(Keys):
    runs: Places | None
    window_seconds: Window | None
    project: Text | None
    entity: Text | None
    group: Text | None
    mode: Text
    timeout: Seconds
    dir: Place | None
    videos: Annotated[int, count(LARGEST_SIZE, 0)] | Words
    figures: Names


class Estimated(Keys):
    """What a plan's hours are from."""

    seconds_per_chunk: Annotated[float, number(1e-6, 1e6)] | None


class Reproduce(Estimated):
    model: Group
    experiment: Group
    rows: Words
    prompts: Prompts | None
    first: Frames | None
    seconds: Seconds | None
    seeds: Any_
    runs_root: Place
    out: Place | None
    device: Text
    dtype: Dtype
    shard: Text
    threads: Threads | None
    plan: Switch
    speed: Place | None
    window_seconds: Window
    ends: Seconds
    beside: Names


class Paper(Estimated):
    model: Group
    only: Words
    make: Switch
    prompts: Prompts | None
    first: Frames | None
    seconds: Seconds | None
    speed: Place | None
    study: Place
    answers: Place
    runs_root: Place
    out: Place
    device: Text
    dtype: Dtype
    threads: Threads | None
    parts: Annotated[dict[str, Any], Field(min_length=1, description="parts by name")]


class HeadClasses(Keys):
    model: Group
    cache: Group
    generator: Group
    out: Place
    prompts: Prompts
    seconds: Seconds
    seeds: Any_
    newest_frames: Frames
    skip_frames: Annotated[int, count(LARGEST_SIZE, 0)]
    threshold: Annotated[float, number(0, 1)]
    queries: Many
    device: Text
    dtype: Dtype
    threads: Threads | None


class FirstLight(Keys):
    model: Group
    cache: Group
    generator: Group
    beside: Text | None
    seconds: Seconds
    prompt: Text | None
    device: Text
    dtype: Dtype
    resume: Switch
    out: Place
    ranges: Annotated[dict[str, Any], Field(description="{world: {source, number: [low, high], ...}}")]


class SweepRun(Estimated):
    model: Group
    sweep: Group
    launcher: Group
    budgets: Annotated[list[Frames], BeforeValidator(listed)] | None
    policies: Words | None
    grid: Grid | None
    points: NamedPoints | None
    baseline: Text | None
    prompts: Prompts
    first: Frames | None
    seconds: Seconds
    seeds: Any_
    metrics: Words
    protocol: Text
    number: Text
    window_seconds: Window
    ends: Seconds
    runs_root: Place
    out: Place | None
    device: Text
    dtype: Dtype
    shard: Text
    threads: Threads | None


COMMANDS: dict[str, type[Keys]] = {
    "rollout": Rollout, "bench": Bench, "bench_eval": BenchEval, "demo": Demo, "evaluate": Evaluate, "report": Report,
    "table": Table, "export": Export, "leaderboard": Leaderboard, "figure": Figure, "track": Track,
    "reproduce": Reproduce, "sweep": SweepRun, "judge": Judge, "paper": Paper, "first_light": FirstLight, "search": Search,
    "head_classes": HeadClasses, "study_make": StudyMake, "study_table": StudyTable, "decode": Decode,
}  # fmt: skip
"""By the name of the file in conf/."""


def check_keys(config_name: str, config: DictConfig) -> None:
    """Every key's kind and range; home directories (~) are filled in. Raises ValueError for the first that does not fit."""
    given: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    for key, value in checked(COMMANDS[config_name], given):
        if value != given[key]:
            config[key] = value
    if given.get("experiment"):
        for name, row in checked(Experiment, given["experiment"], "experiment.").rows.items():
            checked(ExperimentRow, row, f"experiment.rows.{name}.")
