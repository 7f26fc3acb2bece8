"""CausVid's recordings: overlapping rollouts. The re-encoded first latents come from the fixture; it has no codec."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.causvid import overlapping
from deepforcing.cache.alignment import Absolute
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll
from experiments.parity.recording import Produced, RecordedNoise, Recording


def run(r: Recording) -> Produced:
    noise = r.inputs["noise"]
    rollouts, batch, frames = noise.shape[:3]
    overlap = int(r.options.get("overlap", r.chunk_frames))
    draws = RecordedNoise(noise[0], r.inputs["renoise"])

    def of_rollout(number: int) -> RecordedNoise:
        draws.noise = noise[number]
        return draws

    caches: list[KVCache] = []

    def new_cache(length: int) -> KVCache:
        policy = CachePolicy(KeepAll(), Absolute())
        caches.append(KVCache(policy, r.model.config, r.grid, r.chunk_frames, length, batch))
        return caches[-1]

    with torch.no_grad():
        text = r.model.encode_text(r.inputs["text_embeds"])
    tensors: dict[str, Tensor] = {}
    latents: list[list[Tensor]] = [[] for _ in range(rollouts)]
    for number, chunk in overlapping(
        r.model, {0: text}, new_cache, r.schedule, of_rollout, overlap + rollouts * (frames - overlap), r.size,
        lambda number: r.inputs["start_latents"][number - 1][:, :1], frames, overlap,
    ):  # fmt: skip
        latents[number].append(chunk.latents)
        for layer in range(r.model.config.num_layers):
            tensors[f"kv_after_frame{chunk.start:04d}.k_layer{layer}"] = caches[-1].keys(layer)
    draws.check_used()
    return Produced(torch.stack([torch.cat(parts, 1) for parts in latents]), r.calls, tensors)
