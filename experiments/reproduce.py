"""An experiment of the paper, whole: its rows rolled out, scored, and printed beside the published numbers. `--help`

A row is a rollout: words for `experiments.rollout`, composed and checked by it, and made by it into an ordinary run
directory, so whatever was made once, by this or another experiment, is not made again.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deepforcing.prompts import Sample, plan_samples
from deepforcing.runs import atomic_write_text
from deepforcing.script import is_schedule
from eval.allocator import keep_freed_memory
from eval.metrics import ACROSS, DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.metrics.vbench_quality import QUALITY, RANGES, with_quality
from eval.protocol import Protocol
from eval.score import Measurement, score
from eval.videos import open_run
from experiments.command import command, say
from experiments.command.compose import chosen, compose
from experiments.command.outputs import check_output
from experiments.command.terminal import bar, console
from experiments.command.words import describe, is_list, positive, whole
from experiments.figures.sweep import draw_sweep
from experiments.reference import reference_run
from experiments.request import build_spec, check_request, find_prompts, find_seeds, pick_device
from experiments.results.runs import read_runs
from experiments.results.scores import COLUMNS
from experiments.results.speed import speed
from experiments.tables.prose import plural, runs_argument
from experiments.tables.published import FPS, Column, Row, compare, flat
from experiments.tables.reproduction import Done, written
from experiments.tables.text import csv_text
from experiments.videos import rollout

REAL = Row("real_video", "Real video (what the world's renderer draws)")
OTHER_WEIGHTS = "(its rule, other weights)"
PAPER_MODEL = "wan2.1-1.3b"  # as conf/model/ calls Wan2.1-T2V-1.3B
PLACES = ("weights_root", "embeddings", "tokenizer", "vae_dtype", "channels_last")  # keys that leave it the same model
MOST_PANELS = 6


@dataclass(frozen=True)
class Planned:
    """A checked experiment. rows: all of it; configs: of the rollouts of those to be run; left_out: {row: why}.

    model: as it was typed; paper_model: whether that is the paper's.
    """

    name: str
    rows: tuple[Row, ...]
    configs: dict[str, DictConfig]
    left_out: dict[str, str]
    samples: tuple[Sample, ...]
    world: str | None
    published: tuple[Column, ...]
    beside: tuple[Column, ...]
    protocols: dict[str, Protocol]
    model: str
    paper_model: bool

    def measurements(self, protocol: str) -> list[Measurement]:
        """The metrics that give the columns under a protocol."""
        wanted = {c.metric for c in (*self.published, *self.beside) if c.protocol == protocol}
        if QUALITY.name in wanted:
            wanted |= set(RANGES)
        every: tuple[Measurement, ...] = (*DIMENSIONS, *OVER_TIME, *WEIGHT_FREE, *ACROSS)
        return [metric for metric in every if wanted & {value.name for value in metric.values}]


def model_words() -> list[str]:
    """What was typed of the model, for the rollouts: `model=` and its keys."""
    choices, typed = chosen()
    keys = [word for word in typed if word.lstrip("+~").startswith("model.")]
    return [f"model={choices['model']}", *keys]


def plan(config: DictConfig, name: str, words: Sequence[str]) -> Planned:
    """Every row composed and checked as a rollout, before any work. name: the experiment's. words: `model_words`.

    Raises ValueError, naming the row.
    """
    experiment = config.experiment
    seconds = positive(config.seconds if config.seconds is not None else experiment.seconds, "seconds")
    window = positive(config.window_seconds, "window_seconds")
    world = build_spec(compose("rollout", list(words))).model.world
    prompts = choose_prompts(config, world)
    samples = plan_samples(find_prompts(prompts), find_seeds(config.seeds))
    rows, configs = [], {}
    wanted = choose_rows(config.rows, [str(key) for key in experiment.rows])
    for key, written_row in experiment.rows.items():
        made = compose("rollout", [*written_row.rollout, *words])
        for same in ("seeds", "runs_root", "device", "dtype", "shard", "threads"):
            made[same] = config[same]
        made.prompts, made.seconds = prompts, seconds
        label = str(written_row.label)
        if written_row.get("own_weights") and not has_published_weights(made.model):
            label = f"{label} {OTHER_WEIGHTS}"
            made.label = f"{key} {OTHER_WEIGHTS}"
        OmegaConf.resolve(made)
        paper = {str(metric): float(value) for metric, value in (written_row.get("paper") or {}).items()}
        rows.append(Row(str(key), label, tuple(written_row.rollout), written_row.get("at"), paper))
        if key in wanted:
            configs[str(key)] = made
    for key, made in configs.items():
        try:
            check_request(made)
        except ValueError as error:
            raise ValueError(f"row {key}: {error} (rows=[...] chooses rows)") from None
    main = Protocol(str(experiment.protocol), window)
    published = tuple(
        Column(str(metric), str(kind), "speed" if kind == "speed" else main.name)
        for metric, kind in experiment.metrics.items()
    )
    beside = tuple(Column(str(metric), "last", "windows") for metric in config.beside)
    if not any(column.metric != FPS.name for column in published):
        raise ValueError("experiment.metrics is empty; give a metric of the paper")
    return Planned(
        name,
        tuple(rows),
        configs,
        {row.name: "left out by rows=" for row in rows if row.name not in configs},
        tuple(samples),
        world,
        published,
        beside,
        {main.name: main, "windows": Protocol("windows", window)},
        " ".join(words).removeprefix("model="),
        words[0] == f"model={PAPER_MODEL}" and all(w.partition("=")[0][len("model.") :] in PLACES for w in words[1:]),
    )


def choose_rows(choice: Any, known: Sequence[str]) -> list[str]:
    """Names of rows; "all" for every one. Raises ValueError that lists them."""
    wanted = list(known) if choice == "all" else [str(c) for c in choice] if is_list(choice) else [str(choice)]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"rows={name} is no row of this experiment; {hint}there are {', '.join(known)}, or all")
    if not wanted:
        raise ValueError(f"rows=[] leaves nothing to run; there are {', '.join(known)}")
    return wanted


def choose_prompts(config: DictConfig, world: str | None) -> Any:
    """What a rollout takes as `prompts`: a suite or file as it was named, or the first of its texts."""
    experiment = config.experiment
    tiny = world == "tiny"
    choice = config.prompts if config.prompts is not None else experiment.tiny_prompts if tiny else experiment.prompts
    first = config.first if config.prompts is not None or tiny or config.first is not None else experiment.first
    if first is None:
        return choice
    return [prompt.text for prompt in find_prompts(choice)[: whole(first, "first")]]


def has_published_weights(model: DictConfig) -> bool:
    """Whether each generator runs with the weights that it was published with."""
    return model.get("generator") is not None and model.checkpoint is None and not model.random_weights


@dataclass
class Results:
    """What came of it. runs: {row: run directory}; failed: {row: why}; absent: {metric: why}."""

    runs: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    tables: list[pd.DataFrame] = field(default_factory=list)

    def fail(self, row: str, error: Exception) -> None:
        if os.environ.get("DEEPFORCING_TRACEBACK"):
            raise error
        self.failed[row] = describe(error)
        say(f"row {row}: {self.failed[row]}")


def make_videos(planned: Planned, results: Results, out: Console) -> None:
    """Row by row; one that fails does not keep the others."""
    for number, (row, config) in enumerate(planned.configs.items(), start=1):
        out.print(f"{row} ({number} of {len(planned.configs)} rows)", style="bold")
        try:
            results.runs[row] = rollout(config, out).path
        except Exception as error:
            results.fail(row, error)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the next row's memory is planned from what the device has free
    if planned.world == "tiny" and not any(is_schedule(sample.prompt.text) for sample in planned.samples):
        config = next(iter(planned.configs.values()))
        results.runs[REAL.name] = reference_run(config.runs_root, planned.samples, float(config.seconds)).path


def score_videos(planned: Planned, results: Results, device: torch.device, shard: str, out: Console) -> None:
    names = {sample.name for sample in planned.samples}
    with bar(out, "videos scored") as bars:
        for row, path in results.runs.items():
            for protocol in planned.protocols.values():
                if row == REAL.name and protocol.name != "windows":
                    continue  # no row of the published table
                task = bars.add_task(f"{row}, {protocol.name}", total=None, visible=False)

                def tick(done: int, total: int, _: str, task: Any = task) -> None:
                    bars.update(task, completed=done, total=total, visible=True)

                try:
                    group = open_run(path)
                    group = replace(group, videos=tuple(video for video in group.videos if video.name in names))
                    metrics = planned.measurements(protocol.name)
                    found = score(group, metrics, protocol, device, tick, shard)
                except Exception as error:
                    results.fail(row, error)
                    continue
                results.tables.append(found.table)
                results.absent |= found.absent
                results.problems += found.problems
            results.tables.append(speeds(path, names))


def speeds(path: Path, names: set[str]) -> pd.DataFrame:
    """FPS of each video of a run as rows of the tidy table."""
    (run,) = read_runs([path])
    found = []
    for sample in run.samples:
        stride = (run.record.get("geometry") or {}).get("temporal_stride")
        one = speed([sample], stride) if stride else None
        if one is not None and sample["sample"] in names:
            seconds = sample["frames"] / sample["fps"]
            found.append((run.name, sample["sample"], FPS.name, 1, "speed", 0.0, seconds, one.fps))
    return pd.DataFrame(found, columns=COLUMNS)


def reproduce_task(config: DictConfig) -> int:
    """Exit status 1 if a row failed or a video could not be scored: the rest is reported."""
    over = console()
    name = chosen()[0]["experiment"]
    out = Path(str(config.out or f"reports/{name}.md"))
    if out.suffix != ".md":
        raise ValueError(f"out={out} must end in .md; the .csv and the figure go beside it")
    ends = positive(config.ends, "ends")
    planned = plan(config, name, model_words())
    device = pick_device(str(config.device))
    check_output(out)
    results = Results()
    keep_freed_memory()
    make_videos(planned, results, over)
    score_videos(planned, results, device, str(config.shard), over)
    text = report(config, planned, results, ends, out)
    print(f"\n{text}")
    print(f"report: {out.absolute()}")
    if results.runs:
        paths = runs_argument([str(path) for path in results.runs.values()])
        print(f"to Weights & Biases: python -m experiments.track {paths} group={name}")
    for problem in results.problems:
        say(problem)
    return int(bool(results.failed or results.problems))


def report(config: DictConfig, planned: Planned, results: Results, ends: float, out: Path) -> str:
    """Write <out>, its .csv and, for a sweep, its .png; the Markdown."""
    tables = results.tables
    table = with_quality(pd.concat(tables, ignore_index=True)) if tables else pd.DataFrame(columns=COLUMNS)
    runs = {row: path.name for row, path in results.runs.items()}
    seconds = float(next(iter(planned.configs.values())).seconds)
    if len(table):
        ends = min(ends, float(table.groupby("run")["t_end"].max().min()) / 2)  # short videos have two ends as well
    experiment = config.experiment
    published = compare(table, planned.rows, runs, planned.published, str(experiment.baseline), ends)
    known = tuple(column for column in planned.beside if column.metric in set(table["metric"]))
    rows = (*planned.rows, REAL) if REAL.name in runs else planned.rows
    beside = compare(table, rows, runs, known, str(experiment.baseline), ends)
    figure = None
    if experiment.sweep is not None:
        panels = [(published, column) for column in planned.published if column.metric != FPS.name]
        panels += [(beside, column) for name in experiment.sweep.panels for column in known if column.metric == name]
        panels = [(of, column) for of, column in panels if of.measured(column)][:MOST_PANELS]
        if panels:
            figure = out.with_suffix(".png")
            count = len({sample.prompt.id for sample in planned.samples})
            caption = f"model {planned.model}, {plural(count, 'prompt')}, {seconds:g} s; first and last: {ends:.3g} s"
            draw_sweep(panels, str(experiment.sweep.title), caption, figure)
    done = Done(
        title=str(experiment.title),
        source=str(experiment.source),
        prompts_said=str(experiment.prompts_said),
        said=experiment.said and str(experiment.said),
        model=planned.model,
        paper_model=planned.paper_model,
        own_prompts=config.prompts is not None and config.prompts != experiment.prompts,
        dtype=str(config.dtype),
        protocol=str(experiment.protocol),
        seconds=seconds,
        samples=planned.samples,
        paper_seconds=float(experiment.seconds),
        paper_prompts=int(experiment.published_prompts),
        window_seconds=float(config.window_seconds),
        ends=ends,
        runs={row: read_runs([path])[0] for row, path in results.runs.items()},
        not_run={**planned.left_out, **results.failed},
        absent=results.absent,
        other_world=tuple(c.metric for c in planned.beside if c not in known),
        problems=len(results.problems),
        figure=figure and figure.name,
    )
    text = written(done, published, beside)
    atomic_write_text(out.with_suffix(".csv"), csv_text(flat([published, beside], results.absent)))
    atomic_write_text(out, text)
    return text


main = command("reproduce")(reproduce_task)

if __name__ == "__main__":
    main()
