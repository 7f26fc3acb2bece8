"""KV recache: when the prompt changes, the cached frames are computed again under the new prompt (LongLive).

One clean pass over the most recent frames, as many as the cache holds; they see each other in both directions, and the
sink where it is kept. Latents do not change. Source: LongLive 1.0; stated for any retention and alignment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import Layout, Slot
from deepforcing.wan.attention import attend
from deepforcing.wan.rope import rotate


class Recache:
    """The transformer's `memory` for that pass, between two chunks. Once every layer has attended, the cache is new.

    keep_sink: the sink stays as it is, old prompt and all, and the frames behind it are refreshed; the re-run frames that
    would take its place are queries only. Otherwise, or while the cache still holds the whole video, everything is
    replaced, and the first re-run frames become the sink.
    frames: the latent frames to run. Needs a finished chunk.
    """

    def __init__(self, cache: KVCache, keep_sink: bool) -> None:
        cache.absorb()
        self.cache = cache
        past, s = cache.layout.slots, cache.slot_tokens
        end = cache.layout.start + cache.chunk_frames
        self.frames = range(end - len(past), end)
        kept = sum(slot.role == "sink" for slot in past) if keep_sink and self.frames.start > 0 else 0
        self.first = kept * s  # tokens of the pass that are queries only
        first_drop, last_drop = (cache.layout.first_drop, cache.layout.last_drop) if kept else (None, None)
        # During the pass the refreshed frames are the chunk, and the sink lies before them.
        before = Layout(past[:kept], self.frames.start + kept, first_drop, last_drop)
        places = cache.policy.aligned.positions(before)
        self.sink = cache.token_index(cache.storage[:kept])
        self.sink_rotation = cache.rope.frames([0 if p is None else p for p in places])
        self.rest = cache.token_index(cache.storage[kept:])
        self.rotation = cache.rope.frames(self.frames)
        refreshed = zip(past[kept:], self.frames[kept:], strict=True)
        slots = (*past[:kept], *(Slot("sink" if old.role == "sink" else "tail", frame) for old, frame in refreshed))
        cache.layout = Layout(slots, cache.layout.start, first_drop, last_drop)
        cache.rendered.update(zip(cache.storage[kept:], self.frames[kept:], strict=True))
        for origins in cache.origins:
            for slot, frame in zip(cache.storage[kept:], self.frames[kept:], strict=True):
                origins.write(slot * s, range(frame, frame + 1), s)

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """Self-attention over sink and frames (Memory protocol); stores the frames."""
        cache, first = self.cache, self.first
        store = cache.layers[layer]
        q, k = rotate(q_BHLD, self.rotation), rotate(k_BHLD, self.rotation)[:, :, first:]
        sink = rotate(store.raw[:, :, self.sink], self.sink_rotation)
        out = attend(q, torch.cat([sink, k], 2), torch.cat([store.v[:, :, self.sink], v_BHLD[:, :, first:]], 2))
        store.k[:, :, self.rest] = k
        store.raw[:, :, self.rest] = k_BHLD[:, :, first:]
        store.v[:, :, self.rest] = v_BHLD[:, :, first:]
        store.visible = None  # tokens over a reuse limit are gone
        if cache.compression is not None:
            cache.remember_queries(store, q)
        return out
