"""MemRoPE's recordings: merged memory frames, or its eviction variant (a sink window read by slot)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deepforcing.cache.alignment import BySlot
from deepforcing.cache.kv import KVCache
from deepforcing.cache.memrope import MemRope
from deepforcing.cache.policy import CachePolicy, Retention
from deepforcing.cache.retention import SinkWindow
from experiments.parity.chunkwise import replayed
from experiments.parity.recording import Produced, Recording


def policy_of(options: dict[str, Any]) -> CachePolicy:
    window, sink = options["local"], options["sink"]
    retention: Retention = SinkWindow(window, sink)
    if options.get("compression_method", "ema") == "ema":
        slow, fast = options.get("ema_alpha_long", 0.01), options.get("ema_alpha_short", 0.1)
        retention = MemRope(window, sink, slow, fast, options.get("ema_adaptive", False))
    return CachePolicy(retention, BySlot())


def run(r: Recording) -> Produced:
    sink = r.options["sink"]

    def snapshot(cache: KVCache, start: int) -> dict[str, Tensor]:
        tensors = {}
        memory = cache.tokens(cache.places[sink : sink + 2])
        for layer, store in enumerate(cache.layers):
            tensors[f"kv_after_frame{start:04d}.k_layer{layer}"] = cache.keys(layer, rotated=False)
            if store.raw is not None:
                tensors[f"mem_after_frame{start:04d}.k_layer{layer}"] = store.raw[:, :, memory].transpose(1, 2)
            tensors[f"mem_after_frame{start:04d}.v_layer{layer}"] = store.v[:, :, memory].transpose(1, 2)
        return tensors

    return replayed(r, policy_of(r.options), snapshot)
