"""Rolling Forcing (arXiv 2509.25161): one pass denoises a window of chunks at rising noise levels, one chunk per step.

The window attends to itself, to the sink (the first chunk), read right before the working part, and to what else fits into
21 latent frames (conf/cache/rolling_forcing.yaml). Causal Forcing's long videos: the same with 4 steps.
"""

from __future__ import annotations

from deepforcing.cache.policy import CachePolicy
from deepforcing.generator import GeneratorSpec, ModelSpec
from deepforcing.rollout.rules import Rolling
from deepforcing.rollout.schedule import Schedule


def rolling_forcing(
    model: ModelSpec,
    cache: CachePolicy,
    name: str = "rolling_forcing",
    chunk_frames: int = 3,
    steps: tuple[int, ...] = (1000, 800, 600, 400, 200),
    dtype: str = "float32",
    noise: str = "keyed",
) -> GeneratorSpec:
    """The published inference rule; cache: a policy by whole frames with room for the window of len(steps) chunks."""
    return GeneratorSpec(name, model, cache, Schedule(tuple(steps), 5.0), chunk_frames, dtype, noise, Rolling())
