"""The points of a sweep: settings composed and checked before any work, each an ordinary run of `experiments.rollout`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from deepforcing.cache.budget import keys_at
from deepforcing.prompts import Sample, plan_samples
from deepforcing.runs import identity_hash
from experiments.command.compose import compose
from experiments.command.values import Frames, Grid, Keys, NamedPoints, Text, checked
from experiments.command.words import describe, is_list, shown, whole
from experiments.request import build_spec, check_request, find_prompts, find_seeds
from experiments.sweeps.batch import with_batch

MOST = 1000
SAME = (
    "prompts",
    "seconds",
    "seeds",
    "runs_root",
    "device",
    "dtype",
    "shard",
    "threads",
)  # of all points, from the sweep


class SweepKeys(Keys):
    """conf/sweep/."""

    title: Text
    rollout: Annotated[list[Text], Field(description="a list of words for a rollout")]
    budgets: Annotated[list[Frames], Field(description="a list of latent frames")]
    policies: Annotated[list[Text], Field(description="a list of names in conf/cache/")]
    grid: Grid
    points: NamedPoints
    baseline: Text | None
    figures: Annotated[dict[str, Any], Field(description="{name in conf/figure/: its keys, ...}")]


@dataclass(frozen=True)
class Point:
    """One setting. words: of its rollout. config: of the same, composed and checked. run: its directory, which points of equal
    settings share. policy, budget: of a sweep over budgets, in latent frames read per pass."""

    name: str
    words: tuple[str, ...]
    config: DictConfig
    run: Path
    chunks: int
    policy: str = ""
    budget: int | None = None


@dataclass(frozen=True)
class Points:
    """made: those that can run. left_out: {name: why} of the others. baseline: a point's name, or with budgets a policy's."""

    made: tuple[Point, ...]
    left_out: dict[str, str]
    samples: tuple[Sample, ...]
    world: str | None
    baseline: str | None


Asked = tuple[str, tuple[str, ...], str, int | None]  # name, words, policy, budget


def find_points(config: DictConfig, model: Sequence[str], here: bool = True) -> Points:
    """Everything that the sweep asks for. model: words for the rollouts that choose it. here: whether points will run on this
    machine, whose devices are looked at only then.

    Raises ValueError for words that no rollout takes, and where no point is left that can run.
    """
    checked(SweepKeys, OmegaConf.to_container(config.sweep, resolve=True), "sweep.")
    left_out: dict[str, str] = {}
    shared = [*(str(word) for word in config.sweep.rollout), *model]
    world = build_spec(compose("rollout", shared)).model.world
    prompts = find_prompts(config.prompts)
    config.prompts = (
        [prompt.text for prompt in prompts[: whole(config.first, "first")]] if config.first else config.prompts
    )
    of = asked_for(config)
    asked = [*by_budget(of["budgets"], of["policies"], shared, left_out), *by_grid(of["grid"]), *by_name(of["points"])]
    if not asked and not left_out:
        raise ValueError(
            "the sweep has no points: give it points, a grid, or budgets=[6,12,21] policies=[sink,deep_sink]"
        )
    names = [name for name, *_ in asked]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two points are called {', '.join(twice)}: every name once")
    if len(asked) > MOST:
        raise ValueError(f"{len(asked)} points are more than a sweep can have, which is {MOST}")
    made = []
    for name, words, policy, budget in asked:
        try:
            point = compose("rollout", [*shared, *words])
        except ValueError as error:
            raise ValueError(f"point {name}: {error}") from None
        for key in SAME:
            point[key] = config[key]
        OmegaConf.resolve(point)
        try:
            point = with_batch(point, (*shared, *words)) if here else point
            request = check_request(point, here)
        except (ValueError, InstantiationException) as error:
            left_out[name] = describe(error)
            continue
        run = Path(str(config.runs_root)) / f"{request.name}-{identity_hash(request.identity)}"
        chunks = request.total_frames // request.spec.chunk_frames
        made.append(Point(name, words, point, run, chunks, policy, budget))
    if not made:
        name, why = next(iter(left_out.items()))
        raise ValueError(f"no point of the sweep can run; {name}: {why}")
    samples = plan_samples(find_prompts(config.prompts), find_seeds(config.seeds))
    return Points(tuple(made), left_out, tuple(samples), world, find_baseline(config, made))


def find_baseline(config: DictConfig, made: Sequence[Point]) -> str | None:
    """Raises ValueError for one that is no point, or no policy where points are policies at budgets."""
    wanted = config.baseline if config.baseline is not None else config.sweep.baseline
    known = list(dict.fromkeys(point.policy if point.budget is not None else point.name for point in made))
    if wanted is None or str(wanted) in known:
        return None if wanted is None else str(wanted)
    if config.baseline is None and any(config[key] is not None for key in TYPED):
        return None  # the sweep's own, whose points were replaced
    raise ValueError(f"baseline={wanted} is not one of {', '.join(known)}; null is none")


TYPED = ("budgets", "policies", "grid", "points")


def asked_for(config: DictConfig) -> dict[str, Any]:
    """Budgets with policies, grid, points: those that were typed, or else the sweep's. Budgets typed alone have the sweep's
    policies, and the other way round."""
    typed = {key: config[key] for key in TYPED if config[key] is not None}
    if not typed:
        return {key: config.sweep[key] for key in TYPED}
    beside = (
        {key: config.sweep[key] for key in TYPED[:2]}
        if typed.keys() & set(TYPED[:2])
        else {"budgets": [], "policies": []}
    )
    return {**beside, "grid": {}, "points": {}, **typed}


def by_budget(
    budgets: Sequence[int], policies: Any, shared: Sequence[str], left_out: dict[str, str]
) -> Iterator[Asked]:
    """Every policy at every budget that it can be set to; why it cannot be set to the others goes to left_out."""
    policies = [str(policy) for policy in (policies if is_list(policies) else [policies])]
    if bool(budgets) != bool(policies):
        raise ValueError(
            "budgets and policies belong together: give both, as in budgets=[9,21] policies=[sink,deep_sink]"
        )
    for policy in policies:
        spec = build_spec(compose("rollout", [*shared, f"cache={policy}"]))
        for budget in budgets:
            name = f"{policy} {budget}"
            try:
                keys = keys_at(spec.cache, budget, spec.chunk_frames)
            except ValueError as error:
                left_out[name] = describe(error)
                continue
            yield (
                name,
                (f"cache={policy}", *(f"cache.retention.{key}={value}" for key, value in keys.items())),
                policy,
                budget,
            )


def by_grid(grid: Mapping[str, Sequence[Any]]) -> Iterator[Asked]:
    """All combinations of the values of all keys, named after the last parts of the keys: "sink_frames 3 budget_frames 9"."""
    for values in itertools.product(*grid.values()) if grid else ():
        pairs = list(zip((str(key) for key in grid), values, strict=True))
        name = " ".join(f"{key.rpartition('.')[2]} {shown(value)}" for key, value in pairs)
        yield name, tuple(f"{key}={typed(value)}" for key, value in pairs), "", None


def by_name(points: Mapping[str, Sequence[str]]) -> Iterator[Asked]:
    for name, words in points.items():
        yield str(name), tuple(str(word) for word in words), "", None


def typed(value: Any) -> str:
    """A value as a word of the command line has it."""
    return f"[{','.join(map(typed, value))}]" if is_list(value) else shown(value)
