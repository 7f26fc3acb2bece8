"""An experiment as rollouts: every row composed and checked before any work."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deepforcing.prompts import Sample, plan_samples
from eval.measure.metric import Metric
from eval.metrics import ACROSS, DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.metrics.vbench.quality import QUALITY, RANGES
from eval.protocol import Protocol
from experiments.command.compose import chosen, compose
from experiments.command.words import is_list, positive, whole
from experiments.request import build_spec, check_request, find_prompts, find_seeds
from experiments.results.marks import TINY
from experiments.tables.published import PaperRow, column
from experiments.tables.table import FPS, Column

OTHER_WEIGHTS = "(its rule, other weights)"
PAPER_MODEL = "wan2.1-1.3b"  # as conf/model/ calls Wan2.1-T2V-1.3B
PLACES = ("weights_root", "embeddings", "tokenizer", "vae_dtype", "channels_last")  # keys that leave it the same model


@dataclass(frozen=True)
class Planned:
    """A checked experiment. rows: all of it; configs: of the rollouts of those to be run; left_out: {row: why}.

    model: as it was typed; paper_model: whether that is the paper's. lacks: what keeps it from being run here, of a plan that
    was only looked at.
    """

    name: str
    rows: tuple[PaperRow, ...]
    configs: dict[str, DictConfig]
    left_out: dict[str, str]
    samples: tuple[Sample, ...]
    world: str | None
    published: tuple[Column, ...]
    beside: tuple[Column, ...]
    protocols: dict[str, Protocol]
    model: str
    paper_model: bool
    lacks: tuple[str, ...] = ()

    def measurements(self, protocol: str) -> list[Metric]:
        """The metrics that give the columns under a protocol."""
        wanted = {c.metric for c in (*self.published, *self.beside) if c.protocol == protocol}
        if QUALITY.name in wanted:
            wanted |= set(RANGES)
        every: tuple[Metric, ...] = (*DIMENSIONS, *OVER_TIME, *WEIGHT_FREE, *ACROSS)
        return [metric for metric in every if wanted & {value.name for value in metric.values}]


def model_words() -> list[str]:
    """What was typed of the model, for the rollouts: `model=` and its keys."""
    choices, typed = chosen()
    keys = [word for word in typed if word.lstrip("+~").startswith("model.")]
    return [f"model={choices['model']}", *keys]


def plan(config: DictConfig, name: str, words: Sequence[str], look: bool = False) -> Planned:
    """Every row composed and checked as a rollout, before any work. name: the experiment's. words: `model_words`. look: only
    what it would take is asked for, which weights and prompts that are not here do not keep from being said.

    Raises ValueError, naming the row.
    """
    experiment = config.experiment
    seconds = positive(config.seconds if config.seconds is not None else experiment.seconds, "seconds")
    window = positive(config.window_seconds, "window_seconds")
    world = build_spec(compose("rollout", list(words))).model.world
    lacks: list[str] = []
    try:
        prompts = choose_prompts(config, world)
        known = find_prompts(prompts, world)
    except ValueError as error:
        if not look or config.prompts is not None:
            raise
        lacks.append(str(error))
        prompts = [f"prompt {number}" for number in range(whole(config.first or experiment.published_prompts, "first"))]
        known = find_prompts(prompts, world)
    samples = plan_samples(known, find_seeds(config.seeds))
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
        if made.model.get("decoder") == "taehv":  # of what a row leaves out by itself, its own label tells
            label = f"{label} ({TINY})"
        paper = {str(metric): float(value) for metric, value in (written_row.get("paper") or {}).items()}
        rows.append(PaperRow(str(key), label, tuple(written_row.rollout), written_row.get("at"), paper))
        if key in wanted:
            configs[str(key)] = made
    for key, made in configs.items():
        try:
            check_request(made)
        except ValueError as error:
            if not (look and counts_without_weights(made)):
                raise ValueError(f"row {key}: {error} (rows=[...] chooses rows)") from None
            lacks.append(str(error).partition("; model.random_weights")[0])
    main = Protocol(str(experiment.protocol), window)
    published = tuple(
        column(str(metric), str(kind), "speed" if kind == "speed" else main.name)
        for metric, kind in experiment.metrics.items()
    )
    beside = tuple(column(str(metric), "last", "windows") for metric in config.beside)
    if not any(each.metric != FPS.name for each in published):
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
        tuple(dict.fromkeys(lacks)),
    )


def counts_without_weights(made: DictConfig) -> bool:
    """Whether weights are all that a row lacks. It then stands for itself with random ones, which take as long."""
    if made.model.get("random_weights") is not False:
        return False
    made.model.random_weights = True
    try:
        check_request(made)
    except ValueError:
        made.model.random_weights = False
        return False
    return True


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
    tiny = world is not None
    choice = config.prompts if config.prompts is not None else experiment.tiny_prompts if tiny else experiment.prompts
    first = config.first if config.prompts is not None or tiny or config.first is not None else experiment.first
    if first is None:
        return choice
    return [prompt.text for prompt in find_prompts(choice, world)[: whole(first, "first")]]


def has_published_weights(model: DictConfig) -> bool:
    """Whether each generator runs with the weights that it was published with."""
    return model.get("generator") is not None and model.checkpoint is None and not model.random_weights
