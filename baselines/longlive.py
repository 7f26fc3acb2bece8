"""LongLive 1.0 (arXiv 2509.22622): Self Forcing's rule with a short window and a sink; a new prompt recomputes the cache.

Window 12 with 3 sink frames at their own positions (conf/cache/longlive.yaml), or re-indexed by slot, which has no length
limit (longlive_infinity.yaml). The published code works for sinks of up to one chunk; this one for any.
"""

from __future__ import annotations

from deepforcing.cache.policy import CachePolicy
from deepforcing.generator import GeneratorSpec, ModelSpec
from deepforcing.rollout.chunkwise import OnSwitch
from deepforcing.rollout.rules import Chunkwise
from deepforcing.rollout.schedule import Schedule


def longlive(
    model: ModelSpec,
    cache: CachePolicy,
    name: str = "longlive",
    chunk_frames: int = 3,
    steps: tuple[int, ...] = (1000, 750, 500, 250),
    on_switch: OnSwitch = "recache",
    dtype: str = "float32",
    noise: str = "keyed",
) -> GeneratorSpec:
    """on_switch: "recache" keeps the sink (the released inference configs), "recache_sink" does not (as in training)."""
    schedule = Schedule(tuple(steps), 5.0)
    return GeneratorSpec(name, model, cache, schedule, chunk_frames, dtype, noise, Chunkwise(on_switch))
