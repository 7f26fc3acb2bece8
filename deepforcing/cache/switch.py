"""What a change of prompt does to the cache.

Recompute: the cached frames are computed again under the new prompt (LongLive's KV recache). One clean pass over the most
recent frames, as many as the cache holds; they see each other in both directions, and the sink where it is kept. Latents do
not change. Source: LongLive 1.0; stated for any retention and alignment that reads all it stores.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import Slot
from deepforcing.wan.attention import attend_to_past
from deepforcing.wan.rope import rotate


class Recompute:
    """The transformer's memory for that pass, between two chunks. Once every layer has attended, the cache is new.

    keep_sink: the sink stays as it is, old prompt and all, and the frames behind it are refreshed; the re-run frames that
    would take its place are queries only. Otherwise, or while the cache still holds the whole video, everything is
    replaced, and the first re-run frames become the sink.
    frames: the latent frames to run. Needs a finished chunk.
    """

    steady = False

    def state(self) -> None:
        """It is one pass between two chunks."""
        return None

    def __init__(self, cache: KVCache, keep_sink: bool) -> None:
        cache.absorb()
        self.cache = cache
        past, view = cache.slots, cache.view
        end = view.start + cache.chunk_frames
        self.frames = range(end - len(past), end)
        kept = sum(slot.role == "sink" for slot in past) if keep_sink and self.frames.start > 0 else 0
        self.first = kept * cache.slot_tokens  # tokens of the pass that are queries only
        drops = (view.first_drop, view.last_drop) if kept else (None, None)
        # During the pass the refreshed frames are the chunk, and the sink lies before them.
        before = replace(
            view, slots=tuple(past[:kept]), start=self.frames.start + kept, first_drop=drops[0], last_drop=drops[1]
        )
        positions = cache.policy.aligned.positions(before)
        rest, frames = cache.places[kept:], self.frames[kept:]
        self.sink, self.rest = cache.tokens(cache.places[:kept]), cache.tokens(rest)
        self.sink_rotation = cache.rope.frames([0 if p is None else p for p in positions])
        self.rotation = cache.rope.frames(self.frames)
        roles = ["sink" if slot.role == "sink" else "tail" for slot in past[kept:]]
        cache.slots = [*past[:kept], *(Slot(role, frame) for role, frame in zip(roles, frames, strict=True))]
        cache.extra = []
        cache.view = replace(view, first_drop=drops[0], last_drop=drops[1])
        cache.rendered.update(zip(rest, frames, strict=True))
        cache.scattered -= set(rest)
        place = torch.arange(len(self.rest), device=cache.device)
        frame = torch.tensor(list(frames), dtype=torch.int64).repeat_interleave(cache.slot_tokens).to(cache.device)
        self.origin = torch.stack([frame, place % cache.slot_tokens, torch.zeros_like(place)])[:, None, None]

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """Self-attention over sink and frames (Memory protocol); stores the frames."""
        cache, first = self.cache, self.first
        store = cache.layers[layer]
        q, k = rotate(q_BHLD, self.rotation), rotate(k_BHLD, self.rotation)[:, :, first:]
        sink, sink_values = store.pick(self.sink)
        if store.raw is not None:
            sink = rotate(store.raw.index_select(2, self.sink), self.sink_rotation)
        out = attend_to_past(q, torch.cat([sink, k], 2), torch.cat([sink_values, v_BHLD[:, :, first:]], 2))
        store.put(self.rest, k, v_BHLD[:, :, first:])
        store.keep(self.rest, k_BHLD[:, :, first:], self.rotation[first:])
        store.settle()
        if store.origin is not None:
            store.origin.index_copy_(3, self.rest, self.origin.expand(-1, *store.origin.shape[1:3], -1))
        if cache.gaps is not None:  # latents do not change, nor does what their denoising was
            cache.gaps.keep(store, self.rest, cache.gaps.newest[:, -len(self.rest) :])
        if store.visible is not None:
            store.visible.fill_(True)  # tokens over a reuse limit are gone
        if cache.needs.queries:
            store.remember(q, cache.needs.queries * cache.slot_tokens)
        return out
