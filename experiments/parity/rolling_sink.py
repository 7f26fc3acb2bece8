"""Rolling Sink's recordings. What a clean pass replays there is made here at the beginning of the next chunk."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.rolling_sink import RollingSink
from experiments.parity.chunkwise import replayed
from experiments.parity.recording import Produced, Recording


def policy_of(options: dict[str, Any]) -> CachePolicy:
    if options.get("sink", 0):
        raise ValueError(f"sink={options['sink']}: Rolling Sink has no sink beside the frames that it replays")
    return CachePolicy(RollingSink(options["window_frames"]), "slot")


def run(r: Recording) -> Produced:
    return replayed(r, policy_of(r.options), window)


def window(cache: KVCache, start: int) -> dict[str, Tensor]:
    """Keys and values of the published window once the clean pass is over, in temporal order: [B, T, H, D]."""
    held = keys_and_values(cache, [*cache.read[1], *cache.own])
    width, chunk = cache.policy.retention.window_frames, cache.chunk_frames  # type: ignore[attr-defined]
    if start >= width:
        after = copy.deepcopy(cache)
        after.begin(start + chunk)
        oldest = chunk * cache.slot_tokens
        held = {
            name: torch.cat([now[:, :oldest], held_then], 1)
            for (name, now), held_then in zip(held.items(), keys_and_values(after, after.read[1]).values(), strict=True)
        }
    return {f"kv_after_frame{start:04d}.{name}": tensor for name, tensor in held.items()}


def keys_and_values(cache: KVCache, places: list[int]) -> dict[str, Tensor]:
    at = cache.tokens(places)
    return {
        f"{kind}_layer{i}": getattr(layer, kind)[:, :, at].transpose(1, 2)
        for i, layer in enumerate(cache.layers)
        for kind in ("k", "v")
    }
