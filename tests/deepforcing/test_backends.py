"""Backends: the same to rounding as plain PyTorch, no farther from float64 than it, refused where they cannot work."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from steady import CONFIG, POLICIES, SCHEDULE
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from deepforcing import backend
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.quantised import rtn
from deepforcing.cache.recency import RecencyBias
from deepforcing.cache.retention import SinkWindow
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.graphs import SEEN, Graphs
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.rollout.rolling import rolling
from deepforcing.rollout.rules import Rolling
from deepforcing.wan.transformer import CausalWan, TextMemory
from deepforcing.wan.weights import random_wan

CPU = torch.device("cpu")
TOTAL = 90


def text_of(model: CausalWan, seed: int = 8) -> TextMemory:
    dtype = model.patch_embedding.weight.dtype
    return model.encode_text(torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(seed)).to(dtype))


def latents(
    model: CausalWan, policy: Any, steady: Any = None, total: int = TOTAL, dtype: torch.dtype = torch.float32
) -> Tensor:
    cache = policy.new_cache(CONFIG, (2, 2), 3, total, dtype=dtype)
    made = chunkwise(
        model, text_of(model), cache, SCHEDULE, KeyedNoise([(0, "p")], dtype), total, (4, 4), steady=steady
    )
    return torch.cat([chunk.latents for chunk in made], 1)


def backed(name: Any) -> CausalWan:
    model = random_wan(CONFIG)
    backend.use(model, name)
    return model


@pytest.mark.parametrize("name", ["self_forcing", "deep_sink", "deep_forcing"])
def test_packed_linears_give_the_same_to_rounding(name: str) -> None:
    torch.testing.assert_close(
        latents(backed("packed"), POLICIES[name]), latents(random_wan(CONFIG), POLICIES[name]), atol=5e-6, rtol=0
    )


def far(name: Any, compute: Callable[[CausalWan], Tensor]) -> float:
    """Error of a pass against float64."""
    exact = compute(random_wan(CONFIG).double())
    return float((compute(backed(name)).double() - exact).abs().mean())


def one_pass(model: CausalWan) -> Tensor:
    dtype = model.patch_embedding.weight.dtype
    cache = KVCache(POLICIES["self_forcing"], CONFIG, (2, 2), 3, 3, dtype=dtype)
    cache.begin(0)
    x = torch.randn(1, 3, 3, 4, 4, generator=torch.Generator().manual_seed(3)).to(dtype)
    with torch.no_grad():
        return model(x, torch.full((1, 3), 500.0), text_of(model), cache.denoise())


def test_packed_is_no_farther_from_float64_than_plain() -> None:
    assert far("packed", one_pass) < 1.5 * far("plain", one_pass)


def test_packed_frees_the_weights_as_they_were() -> None:
    model = backed("packed")
    assert not [name for name, _ in model.named_parameters() if ".ffn." in name or ".self_attn.q" in name]
    backend.use(model, "packed")  # a second generator of the same model
    with pytest.raises(ValueError, match="the model's backend is packed; build it again"):
        backend.use(model, "plain")


@pytest.mark.parametrize(
    ("name", "device", "dtype", "why"),
    [
        ("packed", "cpu", torch.bfloat16, "it packs float32 weights for a CPU"),
        ("packed", "cuda", torch.float32, "it packs float32 weights for a CPU"),
        ("graphs", "cpu", torch.float32, "CUDA graphs need a GPU"),
        ("compiled", "cpu", torch.float32, "torch.compile needs a C\\+\\+ compiler on a CPU"),
        ("compiled", "cuda", torch.float32, "torch.compile needs the package triton on a GPU"),
    ],
)
def test_what_cannot_work_is_one_line(
    name: str, device: str, dtype: torch.dtype, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"backend={name} does not work here: {why}; use backend=plain"):
        backend.check(name, torch.device(device), dtype)
    backend.check("plain", torch.device(device), dtype)


# ---- recorded passes --------------------------------------------------------------------------------------------------


class Recorder(TorchDispatchMode):
    """Records operations with the tensors that they were given; a replay does them on the same tensors again, whatever
    Python would do by then. So what a CUDA graph would get wrong, this gets wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        made: dict[int, Any] = {}

        def now(x: Any) -> Any:
            return made.get(id(x), x)

        for func, args, kwargs, out in self.calls:
            new = func(*tree_map(now, args), **tree_map(now, kwargs))
            for old, fresh in zip(*(x if isinstance(x, (tuple, list)) else (x,) for x in (out, new)), strict=True):
                made[id(old)] = fresh
        last = self.calls[-1][3]
        last.copy_(made[id(last)])


class Fake:
    """A capture on the CPU that counts."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        recorder = Recorder()
        # As a CUDA graph: recording does no work. What it did here to the cache, the replay that follows does again.
        with recorder:
            out = work()
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            recorder.replay()

        return out, replay


RECORDABLE = {**POLICIES, "biased": CachePolicy(SinkWindow(12, 3), bias=RecencyBias())}


QUICK = ("self_forcing", "deep_forcing", "rolling_forcing", "pyramid_forcing", "biased")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECORDABLE])
def test_replayed_passes_change_no_bit(name: str) -> None:
    policy, model, fake = RECORDABLE[name], random_wan(CONFIG), Fake()
    steady = Graphs(model, fake)
    total = TOTAL
    if name == "rolling_forcing":
        cache = KVCache(Rolling().cached(policy, 3), CONFIG, (2, 2), 3, total)
        made = rolling(model, text_of(model), cache, SCHEDULE, KeyedNoise([(0, "p")]), total, (4, 4), steady=steady)
        again = KVCache(Rolling().cached(policy, 3), CONFIG, (2, 2), 3, total)
        plain = rolling(model, text_of(model), again, SCHEDULE, KeyedNoise([(0, "p")]), total, (4, 4))
        got, want = (torch.cat([c.latents for c in x], 1) for x in (made, plain))
    else:
        got, want = latents(model, policy, steady, total), latents(model, policy, None, total)
    assert torch.equal(got, want)
    assert 1 <= fake.captures <= 8  # few, and none after the window is full
    assert fake.replays >= 20
    assert not steady.told


def test_a_change_of_prompt_is_another_recording() -> None:
    model, fake = random_wan(CONFIG), Fake()
    policy, other = POLICIES["longlive"], text_of(random_wan(CONFIG), 9)

    def run(steady: Any) -> Tensor:
        cache = policy.new_cache(CONFIG, (2, 2), 3, 90)
        made = chunkwise(
            model, text_of(model), cache, SCHEDULE, KeyedNoise([(0, "p")]), 90, (4, 4), switches={45: other},
            on_switch="recache", steady=steady,
        )  # fmt: skip
        return torch.cat([chunk.latents for chunk in made], 1)

    assert torch.equal(run(Graphs(model, fake)), run(None))
    assert fake.captures >= 3


def test_what_cannot_be_recorded_says_so_once_and_runs() -> None:
    model, fake = random_wan(CONFIG), Fake()
    policy = replace(POLICIES["longlive"], store=rtn(8, 14))  # type: ignore[type-var]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        got = latents(model, policy, Graphs(model, fake), 45)
    assert [str(w.message) for w in said] == [
        "backend=graphs: this cache's passes cannot be recorded; they run without"
    ]
    assert fake.captures == 0
    assert torch.equal(got, latents(model, policy, None, 45))


def test_what_is_seen_seldom_is_not_recorded() -> None:
    model, fake = random_wan(CONFIG), Fake()
    latents(model, POLICIES["longlive"], Graphs(model, fake), 3 * (4 + SEEN // 2 - 1))
    assert fake.captures == 0


# ---- compiled ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("name", ["deep_forcing", "dummy_forcing"])
def test_compiled_blocks_are_two_graphs_and_the_same_to_rounding(name: str) -> None:
    """By inductor, for growing windows, compression and bands alike; what bands put together lies otherwise in memory."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    got = latents(backed("compiled"), POLICIES[name])
    torch.testing.assert_close(got, latents(random_wan(CONFIG), POLICIES[name]), atol=5e-6, rtol=0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (3 if name == "dummy_forcing" else 2)
    assert far("compiled", one_pass) < 1.5 * far("plain", one_pass)
