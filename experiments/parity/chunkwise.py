"""Recorded chunk-wise runs: one function that rolls a recording out under a policy, whoever published it."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.observe import Seen, Watch
from deepforcing.cache.policy import CachePolicy
from deepforcing.rollout.chunkwise import OnSwitch, chunkwise
from deepforcing.rollout.noise import Noise
from experiments.parity.recording import Produced, RecordedNoise, Recording

Snapshot = Callable[[Any, int], Mapping[str, Tensor]]
"""After the clean pass of the chunk that starts at a frame: what the fixture holds of the policy's cache, by its names."""


class Choices(list[Any]):
    """An observer that keeps what contents say of their choices."""

    def __call__(self, seen: Seen) -> None:
        self += seen.chosen


def keys_of_every_layer(cache: KVCache, start: int, rotated: bool = True) -> dict[str, Tensor]:
    return {
        f"kv_after_frame{start:04d}.k_layer{layer}": cache.keys(layer, rotated) for layer in range(len(cache.layers))
    }


def replayed(
    r: Recording,
    policy: CachePolicy,
    snapshot: Snapshot = keys_of_every_layer,
    switches: Mapping[int, int] = MappingProxyType({}),
    on_switch: OnSwitch = "nothing",
    watch: Watch | None = None,
    noise: Noise | None = None,
    cuts: Container[int] = (),
) -> Produced:
    """Roll the recording out. switches: latent frame -> number of the prompt that holds from that chunk on."""
    initial = r.inputs.get("initial_latent")
    given = 0 if initial is None else initial.shape[1]
    batch, frames = r.inputs["noise"].shape[:2]
    total = given + frames
    cache = policy.new_cache(r.model.config, r.grid, r.chunk_frames, total, batch, watch=watch)
    recorded = RecordedNoise(r.inputs["noise"], r.inputs["renoise"], given)
    embeds = r.inputs["text_embeds"]
    with torch.no_grad():
        texts = [r.model.encode_text(e) for e in (embeds if embeds.ndim == 4 else embeds[None])]
    tensors: dict[str, Tensor] = {}
    latents = []
    for chunk in chunkwise(
        r.model, texts[0], cache, r.schedule, recorded if noise is None else noise, total, r.size, initial,
        switches={start: texts[number] for start, number in switches.items()}, on_switch=on_switch, cuts=cuts,
    ):  # fmt: skip
        latents.append(chunk.latents)
        tensors |= snapshot(cache, chunk.start)
    if noise is None:
        recorded.check_used()
    return Produced(torch.cat(latents, 1), r.calls, tensors)
