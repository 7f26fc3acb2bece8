"""The parts of the demo: its columns as rollouts, what of them is scored, and the work of its processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from deepforcing.prompts import Sample, plan_samples
from deepforcing.script import is_schedule
from eval.allocator import keep_freed_memory
from eval.measure.metric import Metric
from eval.metrics import ACROSS, DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.networks.weights import FILES
from eval.protocol import LONG_SECONDS, Protocol
from eval.score import score
from eval.videos import open_run
from experiments import workers
from experiments.command.compose import compose
from experiments.command.terminal import console
from experiments.command.words import is_list, shown
from experiments.reference import reference_run
from experiments.request import find_prompts, find_seeds
from experiments.videos import rollout

LONG, LAST = Protocol("vbench_long"), Protocol("vbench_last")
# The networks do some 280 TFLOP for a minute of video of 128 px, which nearly all of them enlarge first, at 50 GFLOP/s a core.
CORE_HOURS = 1.5
NEEDING = [metric for metric in (*DIMENSIONS, *OVER_TIME) if metric.weights]
# What is scored, and by what; "glance": of the first video alone.
PASSES: dict[str, list[tuple[Protocol, list[Metric]]]] = {
    "weight-free": [(Protocol(), [*(m for m in (*DIMENSIONS, *OVER_TIME) if not m.weights), *WEIGHT_FREE, *ACROSS])],
    "glance": [(LAST, [*DIMENSIONS])],
    "whole": [(Protocol(), [*NEEDING]), (LONG, [*DIMENSIONS])],
}


def columns_of(config: DictConfig) -> list[tuple[str, ...]]:
    """The overrides of every column: the caches (a choice of conf/cache/, overrides may follow it), then the generators."""
    lists = {key: config[key] if is_list(config[key]) else [config[key]] for key in ("caches", "generators")}
    columns = [tuple(f"cache={c}".split()) for c in lists["caches"]]
    columns += [(f"generator={g}", f"label='{g} (untrained rule)'") for g in lists["generators"]]
    if not columns:
        raise ValueError("caches=[] and generators=[] are empty; give columns, as in caches=[self_forcing,deep_sink]")
    return list(dict.fromkeys(columns))


def rollout_config(config: DictConfig, column: Sequence[str], shard: str) -> DictConfig:
    """The rollout command's config for one column, given by its overrides."""
    made = compose("rollout", [*column, f"shard='{shard}'", "threads=1"])
    for key in ("model", "prompts", "seconds", "seeds", "runs_root"):
        made[key] = config[key]
    OmegaConf.resolve(made)
    return made


def world_of(config: DictConfig) -> str:
    """The world of the demo's model. Raises ValueError for a model that has none."""
    world = instantiate(config.model, _convert_="object").world
    if world is None:
        raise ValueError(
            "the demo compares with rendered video, so it needs an embedded world (model=tiny, tiny_crowd or tiny_pan)"
        )
    return str(world)


def samples_of(config: DictConfig) -> list[Sample]:
    """Raises ValueError for prompts that change within a video."""
    prompts = find_prompts(config.prompts, world_of(config))
    if any(is_schedule(prompt.text) for prompt in prompts):
        raise ValueError(
            "the demo compares with rendered video, which has one caption: prompt schedules are for rollout"
        )
    return plan_samples(prompts, find_seeds(config.seeds))


def make_videos(config: DictConfig) -> str:
    """In a worker: one shard of one policy's videos. Returns the run directory."""
    return str(rollout(config, console(quiet=True), workers.tick).path)


def make_reference(config: DictConfig) -> str:
    """In a worker: the rendered video of every sample."""
    samples = samples_of(config)
    return str(reference_run(config.runs_root, samples, float(config.seconds), workers.tick, world_of(config)).path)


def score_videos(run: str, what: str, first: str) -> list[str]:
    """In a worker: the PASSES of this name over a run; "glance": over its sample `first` alone. Returns the problems."""
    keep_freed_memory()
    group = open_run(run)
    if what == "glance":
        group = replace(group, videos=tuple(video for video in group.videos if video.name == first))
    device = torch.device("cuda" if what != "weight-free" and torch.cuda.is_available() else "cpu")
    problems = []
    for protocol, metrics in PASSES[what]:
        problems += score(group, metrics, protocol, device, lambda *_: workers.tick()).problems
    return list(dict.fromkeys(problems))


def choose_vbench(choice: object, cuda: bool, columns: int, minutes: float) -> tuple[str | None, str]:
    """What of VBench's dimensions is scored, a name of PASSES or None, and what to say of it in one line.

    choice: conf/demo.yaml's vbench. cuda: whether there is a GPU. columns: of the report. minutes: of all their videos
    together. Raises ValueError for a choice that is
    none of true, false and auto, or that needs weights of which none are there.
    """
    if not isinstance(choice, bool) and choice != "auto":
        raise ValueError(f"vbench={shown(choice)}: use true, false or auto")
    lacking = [metric.name for metric in NEEDING if any(FILES[name].find() is None for name in metric.weights)]
    files = {name: FILES[name].megabytes for metric in NEEDING for name in metric.weights}
    get = f"python -m experiments.weights metrics download=true ({sum(mb or 0 for mb in files.values()) / 1000:.1f} GB)"
    if choice is False:
        return None, "VBench: left out (vbench=false)"
    if len(lacking) == len(NEEDING):
        if choice is True:
            raise ValueError(f"vbench=true needs the networks' weights, of which none are there: {get}")
        return None, f"VBench: only temporal_flickering, the other dimensions need weights: {get}"
    missing = f"; without {', '.join(lacking)}, whose weights are not there: {get}" if lacking else ""
    hours = max(1, round(2 * CORE_HOURS * minutes))  # two protocols
    if choice is True or cuda:
        cost = "" if cuda else f", about {hours} h of one core without a GPU"
        return "whole", f"VBench: over time and by {LONG.name}{cost}{missing}"
    cost = f"about {max(1, round(CORE_HOURS * columns * LONG_SECONDS))} min of one core"  # an hour a minute, a minute a second
    return "glance", (
        f"VBench: the last {LONG_SECONDS} s of each column's first video, {cost} (vbench=false: nothing; vbench=true: "
        f"everything, about {hours} h without a GPU){missing}"
    )
