"""What an observer of the cache is told: attention probes, figures of chosen tokens, policies that measure.

`generator.generate(..., watch=function)`, `KVCache(..., watch=function)` or `watch=` of the rollout command: the function is
called after every layer of every pass. It is handed tensors of the running pass, not copies: read them, keep what you need
of them, change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deepforcing.cache.policy import Kind, Slot


@dataclass(frozen=True)
class Selection:
    """One layer's choice of tokens at one compression.

    start: first frame of the chunk. indices: int64 [B, G, n] into the past tokens in temporal order followed by the
    chunk's, G = heads if they choose for themselves, else 1. scores: float32 [B, G, T] of all of those. origin: int64
    [2, B, G, n], the latent frame that each comes from, and its place in it.
    """

    layer: int
    start: int
    indices: Tensor
    scores: Tensor
    origin: Tensor


@dataclass(frozen=True)
class Seen:
    """One layer of one pass.

    start: first latent frame of the chunk. step: 0-based denoising step (0 for commits). queries: [B, H, L, D];
    keys: as read, [B, H, T, D]. slots: what each S tokens of `keys` are, in their order, which need not be temporal; the
    chunk's own frames have the role "chunk". positions: the slots' temporal positions (None: every token at its own).
    raw_queries, raw_keys: of the chunk, without rotary embedding. chosen: what content made in this pass says of its choice,
    such as a Selection. band, heads: where heads keep caches of their own (bands.py), whose these are: int64 [H] into the
    model's heads, or into those of all videos of the batch one after the other; None: all heads.
    """

    layer: int
    start: int
    kind: Kind
    step: int
    queries: Tensor
    keys: Tensor
    raw_queries: Tensor
    raw_keys: Tensor
    slots: tuple[Slot, ...]
    positions: tuple[int | None, ...]
    chosen: tuple[Any, ...] = ()
    band: str = ""
    heads: Tensor | None = None


Watch = Callable[[Seen], None]
