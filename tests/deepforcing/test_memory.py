"""The memory plan: exact where sizes are exact, refusing too little with what would fit, for made-up GPUs."""

from __future__ import annotations

import dataclasses
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from baselines.causvid import causvid
from baselines.self_forcing import self_forcing
from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.generator import GeneratorSpec
from deepforcing.geometry import Geometry
from deepforcing.memory import (
    activation_bytes,
    check_memory,
    parameters,
    plan_memory,
    taehv_bytes,
    vae_bytes,
)
from deepforcing.tiny.model import TinySpec
from deepforcing.wan.config import WanConfig
from deepforcing.wan.model import WanSpec
from deepforcing.wan.taehv import TaehvDecoder
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.vae import PUBLISHED, WanVAE, _build

GB = 10**9
PC = ParticipativeCompression(window_frames=12, sink_frames=3, budget_frames=9, recent_frames=4)
SMALL = WanConfig(dim=28, num_heads=2, num_layers=2)


def wan(retention: object = None, dtype: str = "bfloat16", **model: object) -> GeneratorSpec:
    spec = WanSpec(random_weights=True, **model)  # type: ignore[arg-type]
    return self_forcing(spec, CachePolicy(retention or SinkWindow(21), "slot"), dtype=dtype)  # type: ignore[arg-type]


def test_parameters_of_the_published_model() -> None:
    assert parameters(WanConfig()) == 1_418_996_800


@pytest.mark.parametrize("alignment", ["absolute", "sink"])
@pytest.mark.parametrize("retention", [SinkWindow(12, 3), KeepAll(), PC, dataclasses.replace(PC, per_head=True)])
def test_the_cache_is_counted_as_it_is_allocated(retention: object, alignment: str) -> None:
    policy = CachePolicy(retention, alignment)  # type: ignore[arg-type]
    cache = KVCache(policy, SMALL, (2, 2), 3, 30, dtype=torch.bfloat16)
    q, k, v = torch.zeros(3, 1, 2, 12, 14, dtype=torch.bfloat16)
    for layer in (0, 1):
        cache.begin(0)
        cache.commit().attend(layer, q, k, v)
    tensors = [t for layer in cache.layers for t in vars(layer).values() if isinstance(t, torch.Tensor)]
    held = sum(t.numel() * t.element_size() for t in tensors)
    assert policy.bytes(SMALL, 4, 3, 30, 2) == held


def test_published_sizes() -> None:
    """21 frames of 1560 tokens, 30 layers of width 1536, K as stored, K as read, V, bfloat16: 9.06 GB, text 0.09 GB."""
    plan = plan_memory(wan(), 240)
    assert plan.weights == 2 * 1_418_996_800
    assert plan.cache == 3 * 30 * 21 * 1560 * 1536 * 2 + 2 * 30 * 512 * 1536 * 2
    assert 14 * GB < plan.peak < 24 * GB  # fits a 24 GB card


def test_the_plan_does_not_grow_with_length_unless_everything_is_kept() -> None:
    assert plan_memory(wan(), 240) == plan_memory(wan(), 2400)
    assert plan_memory(wan(KeepAll()), 480).cache > 1.9 * plan_memory(wan(KeepAll()), 240).cache


def test_a_joint_window_takes_more() -> None:
    assert plan_memory(wan(), 240, query_frames=15).activations > 2.5 * plan_memory(wan(), 240).activations


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors alive that were made inside, and their largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in self.known:
                storage = leaf.untyped_storage()
                self.known.add(storage._cdata)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
        return out

    def gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


@pytest.mark.parametrize(
    ("retention", "alignment"),
    [(SinkWindow(21), "absolute"), (SinkWindow(21, 10), "sink"), (ParticipativeCompression(), "unified")],
)
def test_activations_cover_what_a_full_size_pass_allocates(
    retention: object, alignment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two layers of the 1.3B width, bfloat16, without storage; attention as a fused kernel, which keeps no scores."""
    for module in ("deepforcing.cache.passes.attend_to_past", "deepforcing.wan.transformer.attend"):
        monkeypatch.setattr(module, lambda q, k, v, mask=None: torch.empty_like(q))
    config = dataclasses.replace(WanConfig(), num_layers=2)
    with torch.no_grad(), torch.device("meta"):
        model = CausalWan(config).to(torch.bfloat16)
        text = model.encode_text(torch.empty(1, 512, 4096, dtype=torch.bfloat16))
        policy = CachePolicy(retention, alignment)  # type: ignore[arg-type]
        cache = KVCache(policy, config, (30, 52), 3, 30, 1, torch.bfloat16, "meta")
        x, t = torch.empty(1, 3, 16, 60, 104, dtype=torch.bfloat16), torch.zeros(1, 3)
        for start in range(0, 30, 3):
            with Live() as count:
                cache.begin(start)
                model(x, t, text, cache.denoise())
                model(x, t, text, cache.commit())
    planned = activation_bytes(config, 3 * 1560, 21 * 1560, 2)
    assert 0.55 * planned < count.peak < planned


@pytest.mark.slow
def test_vae_covers_what_full_size_decoding_allocates() -> None:
    vae = WanVAE(_build(PUBLISHED, torch.device("meta")))
    decode = vae.stream()
    with torch.no_grad(), Live() as count:
        for _ in range(2):
            decode(torch.empty(1, 16, 3, 60, 104, device="meta"))
    weights = sum(p.numel() for p in vae.vae.parameters()) * 4
    planned = vae_bytes(Geometry(), 96, 4)
    assert 0.9 * planned < count.peak + weights < planned


def test_the_tiny_decoder_is_counted_and_takes_less() -> None:
    with torch.device("meta"):
        decoder = TaehvDecoder()
        weights = sum(p.numel() for p in decoder.parameters()) * 4
        decode = decoder.stream()
        with Live() as count:
            for _ in range(2):
                decode(torch.empty(1, 3, 16, 60, 104))
    planned = taehv_bytes(Geometry(), 16, 4)
    assert 0.9 * planned < count.peak + weights < planned
    vae, tiny, alone = (
        plan_memory(wan(**m), 240) for m in ({}, {"decoder": "taehv"}, {"decoder": "taehv", "vae": "none"})
    )
    assert vae.peak - tiny.peak > 3 * GB
    assert (tiny.taehv, alone.vae, vae.taehv) == (planned // 2, 0, 0)
    assert 0 < tiny.vae < 0.3 * GB  # its weights, for encoding
    assert "tiny decoder 0.5" in str(tiny)
    assert plan_memory(wan(dtype="float32", decoder="taehv", taehv_dtype="float16"), 240).taehv == planned // 2


def test_overlapping_rollouts_need_the_memory_of_one() -> None:
    spec = causvid(wan().model, CachePolicy(KeepAll()), dtype="bfloat16")
    one, many = (plan_memory(spec, frames).cache for frames in (21, 240))
    assert one == many < plan_memory(wan(KeepAll()), 240).cache / 5


def test_enough_is_enough() -> None:
    check_memory(wan(), 240, 80 * GB)
    check_memory(self_forcing(TinySpec(), CachePolicy(SinkWindow(21))), 240, 0)  # no plan: not refused


@pytest.mark.parametrize(
    ("spec", "free", "words"),
    [
        (wan(dtype="float32"), 24, r"GPU has 24.0 GB free; would fit: dtype=bfloat16 \("),
        (wan(), 14, r"would fit: cache.retention.window_frames=\d+ \("),
        (wan(dtype="float32"), 14, r"would fit: .*dtype=bfloat16 cache.retention.window_frames=\d+ \("),
        (wan(KeepAll()), 24, r"would fit: seconds=\d+ \("),
        (wan(), 2, "nothing smaller of this model fits; use a larger GPU"),
    ],
)
def test_too_little_is_said_with_what_would_fit(spec: GeneratorSpec, free: int, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_memory(spec, 240, free * GB)
    assert "\n" not in str(caught.value)
    assert "KV cache" in str(caught.value)


@pytest.mark.slow
def test_every_proposal_fits() -> None:
    from deepforcing.memory import alternatives

    for change, other, frames in alternatives(wan(dtype="float32"), 240):
        plan = plan_memory(other, frames)
        assert change
        check_memory(other, frames, plan.peak)
        with pytest.raises(ValueError):
            check_memory(other, frames, plan.peak - 1)
