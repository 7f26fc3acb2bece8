"""Attention's kernels and the rotary embedding's: who computes what when, and which is taken."""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import composed
from steady import CONFIG, POLICIES, SCHEDULE
from torch import Tensor
from torch.nn import attention
from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

from deepforcing.cache import passes
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.wan import kernels, rope
from deepforcing.wan.kernels import Kernels, computed, fastest, running, seconds_of
from deepforcing.wan.weights import random_wan
from experiments.attention import FILE, with_attention
from experiments.request import build_spec

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def now() -> tuple[list[SDPBackend], bool]:
    return _cur_sdpa_kernel_backends(with_priority=True), rope.by_kernel.get()


def test_kernels_hold_while_a_chunk_is_made_and_no_longer() -> None:
    """Also when the caller leaves the video in the middle, or a chunk fails."""
    before = now()
    seen: list[Any] = []

    def chunks() -> Any:
        for i in range(3):
            seen.append(now())
            yield i
        raise RuntimeError("the last one")

    made = computed(chunks(), Kernels("efficient", rope=True))
    for _ in range(3):
        next(made)
        assert now() == before
    with pytest.raises(RuntimeError, match="the last one"):
        next(made)
    assert now() == before
    for backends, turned in seen:
        assert backends[0] == SDPBackend.EFFICIENT_ATTENTION
        assert turned
        assert SDPBackend.MATH in backends  # for what the first cannot
    with running(Kernels()):
        assert now() == before


def test_flash_attention_3_is_torchs_flash_kernel_for_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    active: list[str | None] = [None]
    monkeypatch.setattr(attention, "current_flash_attention_impl", lambda: active[-1])
    monkeypatch.setattr(attention, "activate_flash_attention_impl", active.append)
    monkeypatch.setattr(attention, "restore_flash_attention_impl", lambda: active.append(None))
    with running(Kernels("fa3")):
        assert active[-1] == "FA3"
        assert now()[0][0] == SDPBackend.FLASH_ATTENTION
    assert active == [None, "FA3", None]
    with running(Kernels("flash")):
        assert active[-1] is None


def test_the_best_of_the_timed_ones_counts() -> None:
    ticks = itertools.accumulate([0, 9, 0, 3, 0, 2, 0, 4])
    assert seconds_of("torch", CPU, torch.float32, (1, 2, 3, 4), 5, 3, lambda: float(next(ticks))) == 2
    assert seconds_of("cudnn", CPU, torch.float32, (1, 2, 3, 4), 5) == "not here"


@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        ({"torch": 1.0, "cudnn": 0.9, "flash": 0.95, "fa3": "no package"}, "cudnn"),
        ({"torch": 1.0, "cudnn": 0.99, "flash": 1.2}, "torch"),  # the clock's noise
        ({"torch": 0.5, "cudnn": "not here", "flash": 0.7}, "torch"),
        ({"torch": "out of memory", "flash": 0.7}, "flash"),
        ({"torch": "not here"}, "torch"),
    ],
)
def test_a_kernel_is_taken_that_is_clearly_faster(seconds: Any, taken: str) -> None:
    assert fastest(seconds) == taken


def test_measured_once_for_a_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    asked: list[Any] = []

    def timer(kernel: str, *what: Any) -> float | str:
        asked.append(what)
        return {"torch": 2.0, "cudnn": 1.0, "flash": 1.5, "fa3": "no package", "efficient": 3.0}[kernel]

    spec = build_spec(composed("rollout", "model=tiny", "attention=measured"))
    assert spec.attention == "torch"
    found = with_attention(spec, "measured", GPU, str(tmp_path), timer=timer)
    assert found.attention == "cudnn"
    tokens, heads = spec.model.geometry.tokens_per_frame, spec.model.config.num_heads
    assert asked[0][2:] == ((1, heads, 3 * tokens, spec.model.config.head_dim), 21 * tokens)
    assert found.identity(3)["attention"] == "cudnn"
    assert "attention" not in spec.identity(3)
    # Other times now, the same kernel: resuming finds the run again.
    assert with_attention(spec, "measured", GPU, str(tmp_path), timer=lambda *_: 1.0).attention == "cudnn"
    assert with_attention(spec, "measured", GPU, str(tmp_path), 2, timer=lambda *_: 1.0).attention == "torch"
    assert len(json.loads((tmp_path / FILE).read_text())) == 2
    (tmp_path / FILE).write_text("[")
    with pytest.raises(ValueError, match=r"is no list of kernels' times: remove it"):
        with_attention(spec, "measured", GPU, str(tmp_path))


def test_a_cpu_has_one_kernel_and_takes_no_time() -> None:
    spec = build_spec(composed("rollout", "model=tiny"))

    def never(*_: Any) -> float:
        raise AssertionError

    assert with_attention(spec, "measured", CPU, timer=never) is spec
    with pytest.raises(ValueError, match="attention=cudnn does not work here: a CPU has one kernel alone"):
        with_attention(build_spec(composed("rollout", "attention=cudnn")), "cudnn", CPU)
    with pytest.raises(ValueError, match="name a kernel"):
        with_attention(spec, "measured", GPU, here=False)


@pytest.mark.parametrize("name", ["self_forcing", "deep_sink", "deep_forcing", "longlive"])
def test_no_mask_and_contiguous_heads_on_the_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask rules the fast kernels out; rows of a head that do not lie side by side are copied by some."""
    calls, plain = 0, passes.attend_to_past

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        nonlocal calls
        calls += 1
        assert mask is None
        for x in (k, v):
            assert x.stride()[2:] == (x.shape[3], 1)
        return plain(q, k, v, mask)

    monkeypatch.setattr(passes, "attend_to_past", attend)
    model = random_wan(CONFIG)
    text = model.encode_text(torch.randn(1, 4, 10))
    cache = POLICIES[name].new_cache(CONFIG, (2, 2), 3, 60)
    for _ in chunkwise(model, text, cache, SCHEDULE, KeyedNoise([(0, "p")]), 60, (4, 4)):
        pass
    assert calls > 60


# ---- the rotary embedding -----------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("triton", reason="Triton is not here: pip install --no-deps triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    import deepforcing.wan.rope_kernel as module

    return importlib.reload(module)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "tokens", "channels", "form"),
    [
        (2, 12, 128, "frames"),
        (3, 37, 24, "frames"),
        (2, 20, 32, "slice"),
        (2, 20, 32, "transposed"),
        (2, 5, 32, "tokens"),
    ],
)
def test_the_kernel_turns_as_the_reference_does(
    kernel: Any, heads: int, tokens: int, channels: int, form: str, dtype: torch.dtype
) -> None:
    """To a rounding of the dtype, for every layout in which queries and keys come: of the cache, of the projection, and where
    every token has a rotation of its own."""
    make = torch.Generator().manual_seed(0)
    x = torch.randn(2, heads, tokens, channels, generator=make).to(dtype)
    if form == "slice":
        x = torch.randn(2, heads, tokens + 9, channels, generator=make).to(dtype)[:, :, 4 : 4 + tokens]
    if form == "transposed":
        x = torch.randn(2, tokens, heads, channels, generator=make).to(dtype).transpose(1, 2)
    angles = 100 * torch.randn(*((2, heads) if form == "tokens" else ()), tokens, channels // 2, generator=make)
    rotation = torch.polar(torch.ones_like(angles), angles)
    want, got = rope.rotate(x, rotation), kernel.turn(x, rotation)
    assert got.dtype == dtype
    # One float32 rounding more or less where a product is fused with the sum; bfloat16 is cut off by Triton's interpreter,
    # where PyTorch and a GPU round to the nearest.
    size = x.float().unflatten(-1, (-1, 2)).norm(dim=-1).repeat_interleave(2, -1)
    assert bool(((got.float() - want.float()).abs() <= torch.finfo(dtype).eps * size.clamp_min(1e-30)).all())


def test_tensors_of_a_cpu_never_need_triton() -> None:
    with running(Kernels(rope=True)):
        x = torch.randn(1, 1, 4, 8)
        assert rope.rotate(x, torch.ones(4, 4, dtype=torch.complex64)).shape == x.shape
    assert kernels.ATTENTION[0] == "torch"
