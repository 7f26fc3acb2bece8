"""Infinity-RoPE's recordings, flushes and cuts included."""

from __future__ import annotations

import torch
from torch import Tensor

from deepforcing.cache.infinity_rope import FlushedWindow, InfinityRopeRelease
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.wan.rope import rotate
from experiments.parity.chunkwise import replayed
from experiments.parity.recording import Produced, Recording


def run(r: Recording) -> Produced:
    window, o = r.options["local"], r.options
    flushed = FlushedWindow(window, o["sink"], o.get("flush_keeps_frames", 3) - 1, release=True)
    starts = r.config.get("switch_effective_frames", o.get("switch", []))
    return replayed(
        r,
        CachePolicy(flushed, InfinityRopeRelease(window_frames=window)),
        snapshot,
        switches={start: number for number, start in enumerate(starts, 1)},
        cuts=set(o.get("rope_cut_frames", ())),
    )


def snapshot(cache: KVCache, start: int) -> dict[str, Tensor]:
    """Un-rotated keys, but for the first slot's, which the original keeps rotated at time 0."""
    first = cache.rope.frames([0])[:, None]
    tensors = {}
    for layer in range(len(cache.layers)):
        keys, s = cache.keys(layer, rotated=False), cache.slot_tokens
        tensors[f"kv_after_frame{start:04d}.k_layer{layer}"] = torch.cat([rotate(keys[:, :s], first), keys[:, s:]], 1)
    return tensors
