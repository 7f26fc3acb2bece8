"""Causal Forcing: Self Forcing's rule with 1, 2 or 4 steps, chunk- or frame-wise; few-step models open with 4 steps."""

from __future__ import annotations

from deepforcing.cache.policy import CachePolicy
from deepforcing.generator import GeneratorSpec, ModelSpec
from deepforcing.rollout.chunkwise import OnSwitch
from deepforcing.rollout.rules import Chunkwise
from deepforcing.rollout.schedule import Schedule

FULL = (1000, 750, 500, 250)


def causal_forcing(
    model: ModelSpec,
    cache: CachePolicy,
    name: str = "causal_forcing",
    chunk_frames: int = 1,
    steps: tuple[int, ...] = (1000, 500),
    on_switch: OnSwitch = "nothing",
    dtype: str = "float32",
    noise: str = "keyed",
) -> GeneratorSpec:
    """steps: [1000, 750, 500, 250], [1000, 500] or [1000]; below 4 steps the first chunk uses the 4-step list."""
    steps = tuple(steps)
    first = FULL if len(steps) < len(FULL) else None
    return GeneratorSpec(
        name, model, cache, Schedule(steps, 5.0, True, first), chunk_frames, dtype, noise, Chunkwise(on_switch)
    )
