"""The tables and figures of the paper, each from an experiment's runs: what of them is there, made and drawn."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deepforcing.runs import RunDir, identity_hash
from eval.networks.weights import SAYS_HOW
from experiments.command.compose import compose
from experiments.command.words import describe, is_list, shown
from experiments.figures.figure import check_format, drawn, save
from experiments.reproduction.latency import latency
from experiments.reproduction.opinions import Opinion, of_judges, of_people
from experiments.reproduction.plan import Planned, choose_rows, plan
from experiments.reproduction.report import pictured, report
from experiments.reproduction.speed import BenchSpeed
from experiments.reproduction.work import Results, make_reference, make_videos, score_videos
from experiments.request import check_request
from experiments.results.runs import Run, read_runs
from experiments.sweeps.plan import measured
from experiments.tables.words import join, plural
from experiments.videos import probed

SAME = (
    "prompts",
    "first",
    "seconds",
    "runs_root",
    "device",
    "dtype",
    "threads",
)  # keys that experiments.reproduce has too
DOWNLOAD = "python -m experiments.weights metrics download=true"


@dataclass(frozen=True)
class Row:
    """One row's run. done, videos: finished, with what its observer writes, of those wanted. chunks, frames: of one video."""

    path: Path
    done: int
    videos: int
    chunks: int
    frames: int


@dataclass(frozen=True)
class Part:
    """A table or figure. planned: its experiment. figures: {file: words}. latency: {row: the paper's numbers}. table: whether
    the experiment's table belongs to it. asked: people or judge, who is asked about its videos; "": nobody. study: of people,
    its folder and a pattern of its answers."""

    name: str
    title: str
    config: DictConfig
    planned: Planned
    figures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    latency: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    table: bool = True
    asked: str = ""
    study: tuple[Path, str] = (Path(), "")

    def rows(self) -> dict[str, Row]:
        """As it stands on disk now."""
        return {name: stand(c, self.planned) for name, c in self.planned.configs.items()}


@dataclass(frozen=True)
class Drawn:
    """text: Markdown; files: pictures; missing: what is not there and why; commands: that make it, in their order."""

    part: Part
    text: str = ""
    files: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def find_parts(config: DictConfig, words: Sequence[str]) -> list[Part]:
    """Every part that was asked for, composed and checked. words: of the model. Raises ValueError, naming the part, but not
    for weights and prompts that are not here where nothing is to be made."""
    known = [str(name) for name in config.parts]
    wanted = config.only if config.only == "all" else list(config.only) if is_list(config.only) else [config.only]
    unknown = [str(name) for name in ([] if wanted == "all" else wanted) if name not in known]
    if unknown:
        raise ValueError(f"only={unknown[0]} is no part of the paper; there are {', '.join(known)}, or all")
    parts, planned = [], {}
    for name in known if wanted == "all" else wanted:
        of = config.parts[name]
        if of.experiment not in planned:
            own = compose("reproduce", [f"experiment={of.experiment}"])
            for key in SAME:
                own[key] = config[key]
            try:
                planned[of.experiment] = own, plan(own, str(of.experiment), words, look=not config.make)
            except ValueError as error:
                raise ValueError(f"part {name}: {error}") from None
        own, made = planned[of.experiment]
        paper: Any = OmegaConf.to_container(of.get("latency") or OmegaConf.create({}))
        rows = [*paper, *(of.get("rows") or [])]
        if rows:
            rows = choose_rows(rows, list(own.experiment.rows))
            made = replace(made, configs={row: made.configs[row] for row in rows})
        figures = {str(file): [str(word) for word in words] for file, words in (of.get("figures") or {}).items()}
        for file in figures:
            check_format(Path(file))
        table, asked = bool(of.get("table", True)), str(of.get("asked", ""))
        study = Path(str(config.study)), str(config.answers)
        parts.append(Part(str(name), str(of.title), own, made, figures, paper, table, asked, study))
    return parts


def stand(config: DictConfig, planned: Planned) -> Row:
    request = check_request(config)
    path = Path(str(config.runs_root)) / f"{request.name}-{identity_hash(request.identity)}"
    wanted = planned.samples
    done = 0
    if (path / "run.json").exists():
        run = RunDir.open(path)
        done = len(wanted) - len(run.todo(wanted, also=probed(request.watch, run)))
    chunks = request.total_frames // request.spec.chunk_frames
    return Row(path, done, len(wanted), chunks, request.spec.model.geometry.pixel_frames(request.total_frames))


def left(rows: Sequence[Row], every: Sequence[Row], speed: BenchSpeed | None) -> tuple[int, float, float]:
    """Videos, seconds and bytes that the rows lack; NaN where no finished video of `every` row and no bench tells."""
    records = [r for row in every if row.done for r in RunDir.open(row.path).samples()]
    per_chunk, per_frame = measured(records)
    per_chunk = per_chunk if speed is None else speed.seconds
    missing = [(row, row.videos - row.done) for row in rows if row.videos > row.done]
    if not missing:
        return 0, 0.0, 0.0
    count = sum(n for _, n in missing)
    return (
        count,
        sum(n * row.chunks for row, n in missing) * per_chunk,
        sum(n * row.frames for row, n in missing) * per_frame,
    )


def told(part: Part, speed: BenchSpeed | None) -> str:
    """A line of the plan."""
    rows = [*part.rows().values()]
    count, seconds, _ = left(rows, rows, speed)
    there = sum(row.done for row in rows)
    time = f", about {seconds / 3600:.2f} h" if count and math.isfinite(seconds) else ""
    return f"{part.title}: {plural(len(rows), 'rollout')}, {there} of {plural(there + count, 'video')} there{time}"


def in_all(parts: Sequence[Part], speed: BenchSpeed | None, device: torch.device) -> str:
    """One sentence; runs that parts share count once."""
    rows = [*{row.path: row for part in parts for row in part.rows().values()}.values()]
    count, seconds, size = left(rows, rows, speed)
    hours = "GPU hours" if device.type == "cuda" else "hours of this machine"
    time = (
        f"about {seconds / 3600:.2f} {hours}"
        if math.isfinite(seconds)
        else f"{hours}: unknown (say speed=FILE of experiments.bench)"
    )
    by = f"by {speed.seconds:.3g} s a chunk ({speed.source})" if speed else "by the videos that are there"
    time += f" {by}" if count and math.isfinite(seconds) else ""
    disk = f"{size / 1e6:.0f} MB" if math.isfinite(size) else "disk: unknown"
    return (
        f"in all: {plural(len(rows), 'rollout')}, {plural(count, 'video')} missing, {time}, {disk}; scoring not counted"
    )


def make(part: Part, over: Console) -> list[str]:
    """The missing videos of a part; what failed."""
    results = Results()
    if any(row.done < row.videos for row in part.rows().values()):
        make_videos(part.planned, results, over)
    return [f"{part.name}: {row}: {why}" for row, why in results.failed.items()]


def draw(part: Part, device: torch.device, out: Path, typed: Sequence[str], over: Console) -> Drawn:
    """Table and figures of the rows whose videos are all there."""
    keys = [f"{key}={shown(part.config[key])}" for key in ("first", "seconds") if part.config[key] is not None]
    command = shlex.join(["python", "-m", "experiments.paper", f"only={part.name}", "make=true", *typed, *keys])
    rows = part.rows()
    whole = {name: row for name, row in rows.items() if row.done == row.videos}
    lacking = {
        name: f"{row.done} of {plural(row.videos, 'video')} there" for name, row in rows.items() if name not in whole
    }
    missing = [f"{name}: {why}" for name, why in lacking.items()]
    commands = [command] if missing else []
    if part.asked:
        said = opinion(part, [read_runs([row.path])[0] for row in whole.values()])
        return Drawn(part, said.text, (), (*missing, *said.missing), (*commands, *said.commands), said.problems)
    if not whole:
        return Drawn(part, missing=tuple(missing), commands=(command,))
    paths = {name: row.path for name, row in whole.items()}
    files, text, problems = [], "", []
    if part.latency:
        text = latency({name: read_runs([path])[0] for name, path in paths.items()}, part.latency, part.planned)
    configs = {name: part.planned.configs[name] for name in whole}
    planned = replace(part.planned, configs=configs, left_out={**part.planned.left_out, **lacking})
    results = Results(runs=dict(paths))
    if not part.latency and not part.table:
        text = pictured(part.config, planned, results)
    elif not part.latency:
        make_reference(planned, results)
        score_videos(planned, results, device, "0/1", over)
        ends = float(part.config.ends)
        text = report(part.config, planned, results, ends, out / f"{part.name}.md")
        missing += without(results.absent)
        commands = [DOWNLOAD] * any(why.endswith(SAYS_HOW) for why in results.absent.values()) + commands
        problems += results.problems
    for file, words in part.figures.items():
        try:
            figure = instantiate(compose("figure", list(words)).figure, _convert_="object")
            save(drawn(figure, figure.read([*paths.values()])), out / file)
            files.append(file)
        except (ValueError, OSError) as error:
            missing.append(f"{file}: {describe(error)}")
    again = [command] if missing and command not in commands else []
    return Drawn(part, text, tuple(files), tuple(missing), (*commands, *again), tuple(problems))


def without(absent: Mapping[str, str]) -> list[str]:
    """Metrics that were not measured: those whose networks are missing in one line (where each was looked for stands in the
    text), others each with its reason."""
    networks = [metric.replace("_", " ") for metric, why in absent.items() if why.endswith(SAYS_HOW)]
    others = [f"{metric}: {why}" for metric, why in absent.items() if not why.endswith(SAYS_HOW)]
    return [f"VBench's networks for {join(networks)}", *others] if networks else others


def opinion(part: Part, runs: Sequence[Run]) -> Opinion:
    try:
        if part.asked == "judge":
            return of_judges(runs, part.planned.paper_model)
        return of_people(runs, *part.study)
    except (ValueError, OSError) as error:  # a damaged key, say, which is no reason to leave out the other parts
        return Opinion(missing=(describe(error),), problems=(f"{part.name}: {describe(error)}",))
