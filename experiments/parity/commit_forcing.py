"""Commit Forcing's recordings on Self Forcing with a sink: what the clean pass reads, and a temporal recency bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deepforcing.cache.alignment import SinkAligned
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy, Plan, View
from deepforcing.cache.recency import RecencyBias
from deepforcing.cache.retention import SinkWindow
from deepforcing.wan.rope import rotate
from experiments.parity.chunkwise import replayed
from experiments.parity.recording import Produced, Recording


@dataclass(frozen=True)
class StoresMore(SinkWindow):
    """A sink window that also stores frames which nobody reads, as the original's cache does."""

    stored_frames: int = 24

    def capacity(self, chunk_frames: int) -> int:
        return self.stored_frames

    def plan(self, view: View) -> Plan:
        sinks = min(self.sink_frames, len(view.slots))
        excess = max(0, len(view.slots) + view.chunk - self.stored_frames)
        stored = (*range(sinks), *range(sinks + excess, len(view.slots)))
        unread = max(0, len(stored) + view.chunk - self.window_frames)
        return Plan(stored, (*range(sinks), *range(sinks + unread, len(stored))))


def policy_of(options: dict[str, Any]) -> CachePolicy:
    sink, recent, commit = options["sink"], options["recent"], options.get("commit") or None
    return CachePolicy(
        StoresMore(sink + recent, sink, options["cache_frames"]),
        SinkAligned(),
        commit_frames=commit,
        bias=RecencyBias(sink_frames=sink) if options["recency_bias"] else None,
    )


def snapshot(cache: KVCache, start: int) -> dict[str, Tensor]:
    """Stored keys at their own frames, the sink un-shifted."""
    frames = [slot.frame for slot in cache.slots if slot.frame is not None]
    rotation = cache.rope.frames([*frames, *range(start, start + cache.chunk_frames)])[:, None]
    return {
        f"kv_after_frame{start:04d}.k_layer{layer}": rotate(cache.keys(layer, rotated=False), rotation)
        for layer in range(len(cache.layers))
    }


def run(r: Recording) -> Produced:
    return replayed(r, policy_of(r.options), snapshot)
