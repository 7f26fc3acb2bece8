"""Self Forcing (arXiv 2506.08009): chunk-wise, 4 warped steps, shift 5. Deep Forcing, training-free, builds on it."""

from __future__ import annotations

from deepforcing.cache.policy import CachePolicy
from deepforcing.generator import GeneratorSpec, ModelSpec
from deepforcing.rollout.chunkwise import OnSwitch
from deepforcing.rollout.rules import Chunkwise
from deepforcing.rollout.schedule import Schedule


def self_forcing(
    model: ModelSpec,
    cache: CachePolicy,
    name: str = "self_forcing",
    chunk_frames: int = 3,
    steps: tuple[int, ...] = (1000, 750, 500, 250),
    on_switch: OnSwitch = "nothing",
    dtype: str = "float32",
    noise: str = "keyed",
) -> GeneratorSpec:
    """The published inference rule on any model and cache policy."""
    return GeneratorSpec(
        name, model, cache, Schedule(steps=tuple(steps), shift=5.0), chunk_frames, dtype, noise, Chunkwise(on_switch)
    )
