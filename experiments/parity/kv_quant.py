"""Recordings of quantised caches. Rounding makes such a run chaotic: a code that flips is another run from there on, so the
quantisers' unit tensors are compared exactly and the rollout while a mathematically equal run still agrees with it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deepforcing.cache.alignment import Absolute
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.quantised import Quantised
from deepforcing.cache.quantisers import Kivi, Prq, Quantiser, Quarot, Rtn
from deepforcing.cache.retention import SinkWindow
from experiments.parity.chunkwise import replayed
from experiments.parity.recording import Produced, Recording

AGREES = 5e-6  # drift of an equal run, below which chunks are compared


def quantiser_of(options: dict[str, Any]) -> Quantiser:
    method, bits, size = str(options["method"]).upper(), options.get("bits", 4), options.get("block_size", 16)
    if method.startswith("RTN"):
        return Rtn(bits, size)
    if method.startswith("KIVI"):
        keys, values = (
            options.get("k_bits", options.get("key_bits", bits)),
            options.get("v_bits", options.get("value_bits")),
        )
        return Kivi(keys, values, size, clipped=True)
    if method.startswith("QUAROT"):
        return Quarot(bits, size)
    if method.startswith("PRQ"):
        return Prq(bits, options.get("residual_bits", 4), size)
    raise ValueError(f"method {method!r} is not one that this engine replays: RTN, KIVI, QUAROT_KV, PRQ")


def snapshot(cache: KVCache, start: int) -> dict[str, Tensor]:
    tensors = {}
    tokens = cache.tokens([*cache.places, *cache.own])
    for layer, store in enumerate(cache.layers):
        for name, buffer in (("k", store.k), ("v", store.v)):
            tensors[f"kv_after_frame{start:04d}.{name}_layer{layer}"] = buffer[:, :, tokens].transpose(1, 2)
    return tensors


def run(r: Recording) -> Produced:
    quantiser = quantiser_of(r.options)
    store = Quantised(quantiser, release=True)
    produced = replayed(
        r, CachePolicy(SinkWindow(r.options["window"], r.options["sink"]), Absolute(), store=store), snapshot
    )
    for name, values in (("k", False), ("v", True)):
        given = r.inputs[f"unit.{name}"].transpose(1, 2)
        back = quantiser.decode(quantiser.encode(given[:, :, None], values), values, given.shape[2])
        produced.tensors[f"unit.{name}_dequantised"] = back[:, :, 0].transpose(1, 2)
    drifts = r.config["float64_softmax_max_abs_per_chunk"]
    produced.until = next((start for start, drift in drifts if drift > AGREES), None)
    produced.passes, produced.chunk_frames = len(r.schedule.steps) + 1, r.chunk_frames
    return produced
