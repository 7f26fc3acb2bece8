"""Settings asked of Optuna, made, and told it: two objectives, a budget, and trials that end early.

Optuna does not prune where there are two objectives, so the rule is here: the median rule, paired. A drift at 15 s, over
the videos that it has made so far, is compared with that of every other trial at 15 s over the same videos.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import optuna
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console

from deepforcing.cache.budget import frames_read
from deepforcing.prompts import Sample, plan_samples
from eval.protocol import Protocol
from eval.score import score
from eval.stats.samples import ends
from eval.videos import open_run
from experiments.command.compose import compose
from experiments.command.words import describe, is_list, shown
from experiments.request import build_spec, find_prompts, find_seeds, pick_device
from experiments.scoring import choose
from experiments.searching.importance import storage_of
from experiments.searching.stages import finished, stages_of

REFUSED = 200  # settings in a row that cannot run or are above the budget: then the space holds none, or hardly any
SAME = ("seeds", "runs_root", "device", "dtype", "threads")


@dataclass(frozen=True)
class Search:
    """A checked search. shared: words of every rollout."""

    config: DictConfig
    shared: tuple[str, ...]
    samples: tuple[Sample, ...]
    device: torch.device
    lengths: tuple[float, ...]

    @property
    def home(self) -> Path:
        return Path(str(self.config.runs_root)) / ".searches"

    @property
    def protocol(self) -> Protocol:
        return Protocol("windows", float(self.config.window_seconds))


def checked_search(config: DictConfig, words: Sequence[str]) -> Search:
    """words: that choose model and generator. Raises ValueError."""
    if config.space is None:
        config.space = config.usual_space
    prompts = find_prompts(config.prompts)[: config.first]
    samples = plan_samples(prompts, find_seeds(config.seeds))
    for key, values in config.space.items():
        span = not is_list(values)
        if span and (
            not hasattr(values, "keys")
            or set(values) != {"low", "high"}
            or not all(type(v) is int for v in values.values())
        ):
            raise ValueError(f"space.{key}={shown(values)} must be a list of values, or {{low: 2, high: 14}}")
        if span and values.low > values.high:
            raise ValueError(f"space.{key}: low={values.low} is above high={values.high}")
        if not span and not len(values):
            raise ValueError(f"space.{key} is an empty list: give it values, or leave the key out")
    if not config.space:
        raise ValueError("space is empty: give it keys of a rollout, each with its values")
    choose([config.drift, config.motion], Protocol("windows", float(config.window_seconds)))
    early = sorted({float(t) for t in config.prune_at if float(t) < float(config.seconds)})
    if early and early[0] < 2 * float(config.ends):
        raise ValueError(f"prune_at={early[0]:g} is less than twice ends={config.ends:g}: there is no drift yet")
    shared = (*(str(word) for word in config.rollout), *words)
    found = Search(config, shared, tuple(samples), pick_device(str(config.device)), (*early, float(config.seconds)))
    first = {key: values[0] if is_list(values) else values.low for key, values in config.space.items()}
    rollout_of(found, first)  # keys that no rollout has are told before the first trial
    check_budget(found)
    return found


def check_budget(of: Search) -> None:
    """Raises ValueError where none of many settings, drawn at random, can run within the budget: before there is a study, which
    another budget could not go on with."""
    draw, reads, last = random.Random(0), [], ""
    for _ in range(REFUSED):
        params = {
            key: draw.choice(list(v)) if is_list(v) else draw.randint(v.low, v.high)
            for key, v in of.config.space.items()
        }
        try:
            config = rollout_of(of, params)
            reads.append(most_read(of, config))
            if reads[-1] <= int(of.config.budget):
                stages_of(config, of.lengths[-1:])
                return
        except (ValueError, InstantiationException) as error:
            last = describe(error)
    if reads and min(reads) > int(of.config.budget):
        raise ValueError(
            f"budget={of.config.budget} is met by none of {REFUSED} settings that were tried: the least that one reads is "
            f"{min(reads)} latent frames"
        )
    raise ValueError(f"none of {REFUSED} settings that were tried can run; the last: {last}")


def open_study(of: Search) -> optuna.Study:
    """The study of that name, made if need be. Many processes may hold it: its journal is a file that is only added to.

    Raises ValueError for a file that is no journal, and for a study that was begun with other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    of.home.mkdir(parents=True, exist_ok=True)
    journal = of.home / f"{of.config.name}.journal"
    # Whoever joins, or goes on, asks for other settings than whoever began.
    seed = int(of.config.sampler_seed) + (os.getpid() if journal.exists() else 0)
    try:
        study = optuna.create_study(
            study_name=str(of.config.name),
            storage=storage_of(journal),
            sampler=optuna.samplers.TPESampler(seed=seed),
            directions=["minimize", "maximize"],
            load_if_exists=True,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # what lines that Optuna did not write come to
        raise ValueError(
            f"{journal} is no journal of Optuna's, or damaged: give name=... for a new one ({error!r:.80})"
        ) from None
    asked = settings(of)
    known = study.user_attrs.get("settings")
    if known is None and study.get_trials(deepcopy=False):
        raise ValueError(
            f"study {of.config.name} in {of.home} is not experiments.search's: give name=... for a new one"
        )
    if known is None:
        study.set_user_attr("settings", asked)
    elif known != asked:
        other = sorted(key for key in {*known, *asked} if known.get(key) != asked.get(key))
        raise ValueError(
            f"study {of.config.name} in {of.home} was begun with other {', '.join(other)}: give name=... for a new one"
        )
    return study


def settings(of: Search) -> dict[str, Any]:
    """What trials must have in common to be compared."""
    keys = ("space", "budget", "drift", "motion", "prune_at", "seconds", "ends", "window_seconds", "dtype")
    plain: dict[str, Any] = OmegaConf.to_container(of.config, resolve=True)  # type: ignore[assignment]
    return {**{key: plain[key] for key in keys}, "rollout": list(of.shared), "videos": [s.name for s in of.samples]}


def rollout_of(of: Search, params: Mapping[str, Any]) -> DictConfig:
    """The config of a rollout with these values. Raises ValueError."""
    words = [f"{key}={shown(value)}" for key, value in params.items()]
    config = compose("rollout", [*of.shared, *words])
    for key in SAME:
        config[key] = of.config[key]
    config.prompts = [sample.prompt.text for sample in of.samples]
    short = [
        f"{key.rpartition('.')[2].removesuffix('_frames')} {shown(v).rpartition('.')[2]}" for key, v in params.items()
    ]
    config.label = ", ".join(s.replace("_target_ ", "") for s in short)
    return config


def suggested(of: Search, trial: Trial) -> dict[str, Any]:
    return {
        str(key): trial.suggest_categorical(str(key), list(v))
        if is_list(v)
        else trial.suggest_int(str(key), v.low, v.high)
        for key, v in of.config.space.items()
    }


def run(of: Search, study: optuna.Study, out: Console) -> None:
    """Trials until the study has as many as are asked for. Raises ValueError where nothing of the space can run."""
    recover(study)
    refused = 0
    while sum(counts(trial) for trial in study.trials) < int(of.config.trials):
        trial = study.ask()
        trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
        params = suggested(of, trial)
        try:
            config = rollout_of(of, params)
            read = most_read(of, config)
            if read > int(of.config.budget):
                raise ValueError(f"its passes read up to {read} latent frames, the budget is {of.config.budget}")
            stages_of(config, of.lengths[-1:])  # whether it can run
        except (ValueError, InstantiationException) as error:
            trial.set_user_attr("refused", describe(error))
            study.tell(trial, state=TrialState.FAIL)
            refused += 1
            if refused == REFUSED:
                raise ValueError(f"{REFUSED} settings in a row cannot run; the last: {describe(error)}") from None
            continue
        refused = 0
        trial.set_user_attr("frames_read", read)
        out.print(f"trial {trial.number}: {config.label}", markup=False)
        try:
            values, told = attempt(of, study, trial, config)
        except Exception:
            study.tell(trial, state=TrialState.FAIL)
            raise
        if values is None:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, values)
        out.print(f"  {told}", markup=False)


def most_read(of: Search, config: DictConfig) -> int:
    """Most latent frames that a pass reads. Raises ValueError for sizes that cannot be."""
    spec = build_spec(config)
    spec.check_sizes(spec.latent_frames(float(of.config.seconds)))
    return max(frames_read(spec.cache.retention, spec.chunk_frames))


def attempt(
    of: Search, study: optuna.Study, trial: Trial, config: DictConfig
) -> tuple[tuple[float, float] | None, str]:
    """Drift and motion, or None for a trial that was pruned; and a line about it."""
    stages = stages_of(config, of.lengths)
    trial.set_user_attr("runs", [str(stage.run.path) for stage in stages])
    trial.set_user_attr("label", str(config.label))
    spec = stages[-1].request.spec
    texts = [text for s in of.samples for text in spec.cues(s.prompt.text, stages[-1].request.total_frames).values()]
    spec.model.prepare(texts, of.device)
    generator = spec.build(of.device)
    seen: dict[float, list[str]] = {}
    drifts, motions = [], []
    for sample in of.samples:
        for stage in finished(stages, generator, sample):
            drift, motion = measured(of, stage.run.path, sample)
            trial.set_user_attr(key(stage.seconds, sample.name), drift)
            seen.setdefault(stage.seconds, []).append(sample.name)
            if stage is stages[-1]:
                drifts.append(drift)
                motions.append(motion)
            elif worse(
                study, trial, [key(stage.seconds, name) for name in seen[stage.seconds]], int(of.config.prune_after)
            ):
                trial.set_user_attr("pruned_at", stage.seconds)
                return (
                    None,
                    f"pruned at {stage.seconds:g} s of video {sample.name}; its videos so far are runs of their own",
                )
    return (mean(drifts), mean(motions)), f"drift {mean(drifts):.4g}, motion {mean(motions):.4g}"


def key(seconds: float, sample: str) -> str:
    return f"drift at {seconds:g} s of {sample}"


def worse(study: optuna.Study, trial: Trial, keys: Sequence[str], after: int) -> bool:
    """Whether the mean drift over these is above the median of the other trials that have all of them."""
    mine = study.get_trials(deepcopy=False)[trial.number].user_attrs
    others = [
        t.user_attrs
        for t in study.get_trials(deepcopy=False)
        if t.number != trial.number and t.user_attrs.keys() >= set(keys)
    ]
    if len(others) < after:
        return False
    return float(mean(mine[k] for k in keys)) > float(median(mean(attrs[k] for k in keys) for attrs in others))


def measured(of: Search, run: Path, sample: Sample) -> tuple[float, float]:
    """Drift and motion of one video over its last seconds. Raises ValueError where they have no value."""
    metrics = choose([of.config.drift, of.config.motion], of.protocol)
    group = open_run(run)
    group = replace(group, videos=tuple(video for video in group.videos if video.name == sample.name))
    table = ends(score(group, metrics, of.protocol, of.device, lambda *_: None, "0/1").table, float(of.config.ends))
    of_metric = table.set_index("metric")["last"]
    values = [float(of_metric.get(str(name), float("nan"))) for name in (of.config.drift, of.config.motion)]
    if any(value != value for value in values):
        raise ValueError(
            f"{run}: {of.config.drift} or {of.config.motion} has no value over the last {of.config.ends:g} s"
        )
    return values[0], values[1]


def counts(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def recover(study: optuna.Study) -> None:
    """Trials of this machine's processes that are gone are given up, and asked for again: what they finished is found."""
    for trial in list(dead(study.get_trials(deepcopy=False))):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def dead(trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
    for trial in trials:
        host, _, process = str(trial.user_attrs.get("process", ":")).rpartition(":")
        if trial.state == TrialState.RUNNING and host == socket.gethostname():
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                yield trial
            except (OSError, ValueError):
                continue
