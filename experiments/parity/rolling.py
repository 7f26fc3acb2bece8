"""Rolling Forcing's recordings. Its 21 attended frames and one-chunk sink are constants of the original."""

from __future__ import annotations

import torch
from torch import Tensor

from deepforcing.cache.alignment import SinkAligned
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.rollout.rolling import rolling
from experiments.parity.recording import Produced, RecordedNoise, Recording


def run(r: Recording) -> Produced:
    batch, total = r.inputs["noise"].shape[:2]
    policy = CachePolicy(SinkWindow(21, r.chunk_frames), SinkAligned(), commit_frames=21)
    cache = KVCache(policy, r.model.config, r.grid, r.chunk_frames, total, batch)
    noise = RecordedNoise(r.inputs["noise"], r.inputs["renoise"])
    with torch.no_grad():
        text = r.model.encode_text(r.inputs["text_embeds"])
    tensors: dict[str, Tensor] = {}
    latents = []
    for chunk in rolling(r.model, text, cache, r.schedule, noise, total, r.size):
        latents.append(chunk.latents)
        for layer in range(r.model.config.num_layers):
            sink = r.chunk_frames * cache.slot_tokens  # stored un-rotated there
            keys = torch.cat([cache.keys(layer, rotated=False)[:, :sink], cache.keys(layer)[:, sink:]], 1)
            tensors[f"kv_after_frame{chunk.start:04d}.k_layer{layer}"] = keys
    noise.check_used()
    return Produced(torch.cat(latents, 1), r.calls, tensors)
